"""Figures, losses, scores and hyper-parameters of a run for TensorBoard.

Shapes: N cohorts, H ages.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltvnet.data.arrays import Floats
from ltvnet.forecasting.explanation import example_cohorts
from ltvnet.forecasting.forecast import Forecast
from ltvnet.reports.wording import count
from ltvnet.storage import report_event_errors_once

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LOSS_TAGS = {"training": "train/loss_epoch", "validation": "val/loss"}
"""Tags of losses by epoch in the events of a net's training."""


HOW_TO_READ = """\
A net is trained twice. The run `inner` stands at an earlier day: what has come true since is its
validation (`val/loss`), and says after how many epochs to stop. This run is trained on all that is
known and stops there, so that nothing is left to validate it on. Pictures under `past` are those of
report.html: forecasts of past days beside what came true. `forecasts/six cohorts` are forecasts of
today; a black line is what came true since, where it is known."""
"""Text beside the curves, in Markdown."""


def example_curves_figure(forecast: Forecast, actual: Floats) -> "Figure":
    """Draw six cohorts of different age: observed, the pattern, the forecast, what came true.

    `forecast` at every day, `actual` (N, H) at the same days, NaN where not matured. Curves end
    where the data that the forecast rests on do.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    for position, row in enumerate(example_cohorts(forecast, actual), start=1):
        axes = figure.add_subplot(2, 3, position)
        _draw_cohort(axes, forecast, actual, row)
        if position == 1:
            axes.legend(fontsize=8, loc="lower right")
    return figure


def _draw_cohort(axes: "Axes", forecast: Forecast, actual: Floats, row: int) -> None:
    """Draw one cohort: its observed days, and after them the pattern, the forecast, the truth."""
    curves = forecast.curves
    observed_age = int(curves.observed_age[row])
    is_supported = forecast.ages <= forecast.last_supported_age
    is_later = (forecast.ages > observed_age) & is_supported  # (H,)
    days = forecast.ages[is_later]

    band = forecast.final
    lower, upper = band.p10[row, is_later], band.p90[row, is_later]
    pattern = forecast.pattern[row, is_later]
    axes.fill_between(days, lower, upper, color="tab:blue", alpha=0.15, label="10-90 %")
    axes.plot(days, pattern, "--", color="gray", label="pattern")
    axes.plot(days, band.mean[row, is_later], color="tab:blue", lw=2, label="forecast")

    # Of some ages nothing was exported: lines go on to the next.
    came_true = is_later & np.isfinite(actual[row])
    axes.plot(
        forecast.ages[came_true], actual[row, came_true], color="black", lw=1, label="came true"
    )
    known_ages = np.flatnonzero(np.isfinite(curves.values[row]))
    observed = curves.values[row, known_ages]
    axes.plot(known_ages, observed, color="tab:red", lw=2.5, label="observed")

    name = " ".join(text[row] for text in curves.attributes.values())
    title = f"{observed_age} days of {count(curves.users[row])} users\n{name}"
    axes.set_title(title, size=9, parse_math=False)
    axes.set_xlabel("days since acquisition")
    axes.set_ylabel("revenue per user")
    axes.set_ylim(bottom=0)


def read_epoch_losses(folder: Path, models: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Read training and validation loss by epoch of each model whose inner fit trained a net.

    From its TensorBoard events; of several models each has a folder of its own.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    losses = {}
    for model in models:
        model_folder = folder if len(models) == 1 else folder / "checkpoints" / model
        inner_folder = model_folder / "inner"
        if not inner_folder.is_dir():
            continue
        events = EventAccumulator(str(inner_folder)).Reload()
        present = events.Tags()["scalars"]
        losses[model] = {
            kind: [event.value for event in events.Scalars(tag)]
            for kind, tag in LOSS_TAGS.items()
            if tag in present
        }
    return losses


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

    from ltvnet.reports.fonts import make_legible

    make_legible([examples, *figures.values()])
    known_scores = {f"score/{name}": value for name, value in scores.items() if value is not None}
    step = _last_step(folder)
    with report_event_errors_once(folder), SummaryWriter(str(folder)) as writer:
        writer.add_text("how to read this", HOW_TO_READ, step)
        writer.add_figure("forecasts/six cohorts", examples, step)
        for name, figure in figures.items():
            writer.add_figure(f"past/{name}", figure, step)
        writer.add_hparams(flatten_config(hyperparameters), known_scores, run_name=".")


def _last_step(folder: Path) -> int:
    """Return the step of training at which the events in a folder end; 0 without training."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tag = LOSS_TAGS["training"]
    return int(events.Scalars(tag)[-1].step) if tag in events.Tags()["scalars"] else 0


def flatten_config(
    config: Mapping[str, Any], prefix: str = ""
) -> dict[str, str | int | float | bool]:
    """Return the values of a nested config by dotted key, as TensorBoard takes them."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool):
            flat[prefix + key] = value
        else:
            flat[prefix + key] = str(value)
    return flat
