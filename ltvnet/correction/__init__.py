"""Correction: what a model's own past teaches about its next forecast.

Past forecasts are taken from a ledger and walked through in the order of their origins
(`walk_forward`). At each, three stages are learned from what had come true by then
(`matured_forecasts`): a `blend` of models with the pattern, a `correction` of growth by segment,
and `intervals` of cohorts and portfolios. `activation` decides where the first two act. `stages`
holds and applies them; `corrected` is the forecaster that users get.

May import backtesting, models/pattern, forecasting and data. Imported by tuning, prediction,
reports, operations and scripts.
"""
