"""Nets on top of the historical pattern: each learns how far cohorts depart from it.

    forecaster.py        NeuralForecaster: fits the pattern and a net, forecasts, is saved
    covariates.py        what stands beside the curves: spend, further series, the calendar
    input_scaling.py     constants of the training data that inputs are divided by
    cohort_tensors.py    curves as tensors on a device; tasks (a cohort at an observed age)
    lookup_tables.py     tables by cohort and by age that tasks are gathered from
    task_inputs.py       task_targets.py   what a net sees of a task, and what became of it
    task_sampling.py     tasks of an epoch as batches, for one process or several
    training_config.py   how a net learns, its schedule, one call of `train_net`
    training_module.py   the LightningModule; validation.py its scores at an inner origin
    training.py          `train_net`: Lightning's trainer, checkpoints, events
    process_group.py     sums over processes; cuda_graphs.py kernels that are recorded once
    nets/                the networks and their loss: torch only

Who may import this room: operations and scripts; all others reach it by the registry. It imports
models/pattern, forecasting, data and storage. Lightning is imported by training.py and
training_module.py only, and by nothing that forecasts. How to add a net stands in `nets`.
"""
