"""Backtesting: the past replayed as it was, and how good its forecasts were.

`origins` says which past days are replayed and what a fit sees; `replay` fits models there and
writes their forecasts into a `ledger`, under the name that `model_identity` gives; `issuing` adds
what a bundle forecasts to a ledger and changes nothing that stands there; `cohort_keys` are the
names of cohorts in it; `scores` puts a ledger beside what came true, `error_analysis` says by day,
horizon and cohort where it was off, and `leaderboard` compares models on the same cells.

May import forecasting, data, storage and metrics. It never imports a model: these come by name
from the registry. Imported by correction, tuning, prediction, reports, operations and scripts.
"""
