"""The historical pattern: how curves of a segment grew, on which all other models stand.

`models/neural`, `models/baselines`, `correction`, `prediction` and `operations` may import this
one; it imports `forecasting` and `data`.

- `pattern`: `Pattern`, the forecaster; start here.
- `fitted_pattern`: `FittedPattern`, what a fit gives: forecasts, expected curves, state.
- `pattern_config`: `PatternConfig`, the keys of `configs/model/pattern.yaml`.
- `development`: sums of revenue by age, as known on past days; growth and the proportion earned.
- `segment_curves`: growth and level of each segment, shrunk to its parent.
- `credibility`, `decay_tilt`: how far what was seen outweighs a prior.
- `kappa_selection`: how credible a cohort's own level is, learned from past forecasts.
- `date_effects`, `calendar_effects`, `gaussian_process`: effects of dates of revenue and of
  acquisition, taken out before curves are compared and put back into forecasts.
- `expected_curves`: shape and level of each cohort, as nets and trees read them.

Symbols: k observed age, beta proportion of the last age's value that is earned by an
age, A level (value per user at the last age), K and kappa the revenue that makes a level half
credible.
"""
