"""Forecasters: each learns from curves as of an origin and forecasts cohorts at any age.

- `pattern`: the historical pattern, how cohorts of a segment grow; every other model falls back to
  it.
- `neural`: nets that learn how cohorts depart from the pattern.
- `baselines`: classical and boosted peers that the nets are measured against.

A model keeps the protocol `Forecaster` of `ltvnet.forecasting.forecaster` and stands in `REGISTRY`
of `ltvnet.forecasting.registry` under the name that configs and bundles use; others reach it
through that registry, so that nothing is imported before it is asked for. `neural` and `baselines`
may import `pattern`, but not one another. This module itself holds nothing.
"""
