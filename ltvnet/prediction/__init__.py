"""Prediction: what leaves the training machine, and the tables that are made with it elsewhere.

- `bundle`: a trained forecaster as data files, and how it is read back.
- `compatibility`: the data to forecast beside those of the training, of which `training_level`
  keeps the level.
- `batch`: cohorts of any number in, tables out, in bounded memory, in parts that can be resumed.
- `pieces`: cohorts read ahead piece by piece, and the bar that counts them.
- `tables`: writers of the wide, the long and the explanations table, and of the roll-up.
- `correction_summary`: what a bundle learned from the past, in a line.
- `csv_tables`: CSV that Excel opens, with sensible digits.
- `spark`: the long table for a table that Spark reads, partition by partition.

May import correction, backtesting, models.pattern, forecasting, data and storage, but no nets or
baselines by name: a bundle says which forecaster it holds, and the registry knows its class.
Imported by operations and scripts. pyspark is imported in `spark` alone, where it
is used.
"""
