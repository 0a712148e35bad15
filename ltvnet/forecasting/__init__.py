"""Forecasts and forecasters: what every model gives, and what is asked of every model.

Rooms above may import this one; it imports `data` alone.

- `forecast`: `Forecast` of cohorts at ages, `Band` of mean and quantiles, reasons, parts.
- `forecaster`: the protocols `Predictor` and `Forecaster`, and the state that bundles hold.
- `model_spec`, `run_context`, `registry`: a model as configured, where it is fitted, and the class
  of each name. The registry names classes as text, so that this room imports no model.
- `typed_config`: sections of a config as dataclasses, at the edge where YAML is read.
- `override_words`: values of a config as a command line has them.
- `interpolation`: growth by interval between nodes, and values at every day from values at nodes.
- `rollup`: sums of forecasts over cohorts, and their intervals.
- `payback`: what young cohorts cost and are forecast to earn, the return on ad spend.
- `evidence`: whether data are enough to learn from, and which losses are clearly worse.
- `explanation`: forecasts taken apart into terms that add up, and in words.

Cells of a forecast at ages that were observed are NaN. Values are cumulative revenue per user.
"""
