"""Peers: classical and boosted forecasters, each fitted on what was known at its origin.

- `mack`: the chain ladder over all segments, with Mack's standard errors.
- `benktander`: Bornhuetter-Ferguson, Cape Cod, the additive method, and Benktander's iterations.
- `growth_curve`: Clark's Weibull or loglogistic curve, one for all cohorts.
- `power_law`: a power law through each cohort's own curve.
- `loglinear`: log value at each node regressed on log value so far, with Duan's smearing.
- `neighbours`: cohorts grow as the historical curves did that looked like them.
- `boosting`: LightGBM on log growth, or on its departure from the pattern.
- `growth_lstm`: the next-day growth-rate LSTM, rolled out day by day.
- `fallback`: the parts that all of them share, and the pattern that forecasts where one cannot.

This room may import `models/pattern`, `forecasting` and `data`; nobody imports it but
`forecasting.registry`, which names its classes as text, `operations`, and `scripts`.

To add a baseline, write a module with one class: a constructor with keyword arguments, among them
`pattern`, the config of the pattern to fall back to (`Pattern.from_config`); `fit`, on
`fallback.with_complete_age(curves)`, the pattern too; `predict`, through
`fallback.forecast_with_fallback`, NaN where the baseline has nothing to say; `state` and
`from_state`, through `fallback.baseline_state` and `fallback.restore_baseline`; `predict` and
`state` begin with `fallback.require_fitted`. `power_law` is the shortest to begin from. Then add a
line to `REGISTRY`, a YAML to `configs/model` and one of the ranges that a sweep may try to
`configs/space`, the name to the table of configs/README.md, a config to FORECASTERS of
tests/factories/all_forecasters.py, by which the leak tests and the contract of all forecasters
hold it, and tests with a published or hand-made number.
"""
