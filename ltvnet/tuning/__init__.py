"""Tuning: search for better values of a config, by any number of processes and machines.

- `search_space`: which values of a config may be tried: ranges, choices and conditions.
- `trials`: how a config with other values is scored on past days, and tested on later ones.
- `study`: where trials are kept, what chooses their values and what stops them early.
- `workers`: processes that claim trials, try them and take up those that were lost.
- `sweep_result`: a finished sweep: its trials, the best of them and what it saves.

May import correction, backtesting, forecasting, data, storage and metrics. Imported by reports,
operations and scripts. Optuna and SQLAlchemy are imported here alone.
"""
