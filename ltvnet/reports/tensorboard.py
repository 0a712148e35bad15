"""Figures and losses of a run for TensorBoard."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.forecasting.forecast import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure


EXAMPLE_AGES = ((0, 7), (7, 14), (14, 30), (30, 60), (60, 90), (90, 180))


def example_curves_figure(forecast: Forecast, actual: Floats) -> "Figure":
    """Six cohorts of different age: observed, the pattern, the forecast with its band, the truth.

    `forecast` at every day, `actual` (N, H) at the same days, NaN where not matured.
    """
    from matplotlib.figure import Figure

    curves = forecast.curves
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    for place, row in enumerate(_examples(forecast, actual)):
        axes = figure.add_subplot(2, 3, place + 1)
        k = int(curves.observed_age[row])
        later = forecast.ages > k
        days, band = forecast.ages[later], forecast.final
        lower, upper = band.p10[row, later], band.p90[row, later]
        axes.fill_between(days, lower, upper, color="tab:blue", alpha=0.15, label="10-90 %")
        axes.plot(days, forecast.pattern[row, later], "--", color="gray", label="pattern")
        axes.plot(days, band.mean[row, later], color="tab:blue", lw=2, label="forecast")
        axes.plot(days, actual[row, later], color="black", lw=1, label="came true")
        axes.plot(curves.values[row, : k + 1], color="tab:red", lw=2.5, label="observed")
        name = " ".join(text[row] for text in curves.attributes.values())
        axes.set_title(f"{k} days of {curves.users[row]:,.0f} users\n{name}", size=9)
        axes.set_xlabel("days since acquisition")
        axes.set_ylabel("revenue per user")
        axes.set_ylim(bottom=0)
        if not place:
            axes.legend(fontsize=8, loc="lower right")
    return figure


def _examples(forecast: Forecast, actual: Floats) -> list[int]:
    """For each of EXAMPLE_AGES the largest of the cohorts that have matured most."""
    curves, chosen = forecast.curves, list[int]()
    matured = np.isfinite(actual).sum(axis=1)
    for low, high in EXAMPLE_AGES:
        near = (curves.observed_age >= low) & (curves.observed_age < high) & (matured > 0)
        if near.any():
            rank = np.lexsort((curves.users, matured, near))
            chosen.append(int(rank[-1]))
    return chosen


def read_epoch_losses(folder: Path, models: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Training and validation loss by epoch of each model whose inner fit trained a net.

    From its TensorBoard events; of several models each has a folder of its own.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found, tags = {}, {"training": "train/loss_epoch", "validation": "val/loss"}
    for model in models:
        inner = folder / "inner" if len(models) == 1 else folder / "checkpoints" / model / "inner"
        if inner.is_dir():
            events = EventAccumulator(str(inner)).Reload()
            known = {name: tag for name, tag in tags.items() if tag in events.Tags()["scalars"]}
            found[model] = {k: [x.value for x in events.Scalars(tag)] for k, tag in known.items()}
    return found


def write_run(
    folder: Path,
    *,
    examples: "Figure",
    figures: Mapping[str, "Figure"],
    hyperparameters: Mapping[str, Any],
    scores: Mapping[str, float | None],
) -> None:
    """Write figures, hyper-parameters and those scores that are known as events of TensorBoard.

    `examples` the figure of six cohorts, `figures` those of the report by name.
    """
    from torch.utils.tensorboard import SummaryWriter

    known = {f"score/{name}": value for name, value in scores.items() if value is not None}
    with SummaryWriter(str(folder)) as writer:
        writer.add_figure("forecasts/six cohorts", examples)
        for name, figure in figures.items():
            writer.add_figure(f"past/{name}", figure)
        writer.add_hparams(flatten_config(hyperparameters), known, run_name=".")


def flatten_config(
    config: Mapping[str, Any], prefix: str = ""
) -> dict[str, str | int | float | bool]:
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool):
            flat[prefix + key] = value
        else:
            flat[prefix + key] = str(value)
    return flat
