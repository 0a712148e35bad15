"""Workflows as functions with typed arguments, which scripts, tests and services call alike.

`train_model`, `compare_models`, `forecast_batch`, `tune`, `prepare_cohorts`, `check_data` and
`simulate_exports` each take a `DataSource`, say what a run is by a frozen dataclass of options,
write to a folder and return what they found. `save_mapping` keeps how tables were understood as a
config of data. `origin_day` is the day that a run stands at;
`configuration` reads the YAML of `configs` without Hydra; `ltvnet.model` stands there.
This room may import every other one, and only `scripts` imports it.
"""
