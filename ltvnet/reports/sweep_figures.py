"""Figures of a sweep: how it went, which keys mattered, which values were good."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from ltvnet.forecasting.override_words import override_text
from ltvnet.reports.figures import MODEL_COLORS, PATTERN_COLOR, titled_figure
from ltvnet.reports.html import FIGURE_STYLE
from ltvnet.tuning.search_space import Value
from ltvnet.tuning.sweep_result import SweepResult
from ltvnet.tuning.trials import FinishedTrial

KEYS_DRAWN = 12
"""Keys that are drawn, at most, the most important first."""

KEYS_PER_ROW = 4
"""Panels beside each other in the figure of scores by value."""


def sweep_figures(result: SweepResult) -> dict[str, Figure]:
    """Return the figures of the page of a sweep by name, those that there are data for."""
    figures = {"course of the sweep": score_by_trial(result)}
    if result.importances:
        figures["importance of keys"] = importance_by_key(result.importances)

    finished = result.finished_trials
    if len(finished) > 1:
        space_keys = [dimension.key for dimension in result.task.space.dimensions]
        keys = list(dict.fromkeys([*result.importances, *space_keys]))
        figures["score by value"] = score_by_value(finished, keys[:KEYS_DRAWN])
    return figures


@rc_context(FIGURE_STYLE)
def score_by_trial(result: SweepResult) -> Figure:
    """Draw scores of trials in the order they began, and the best so far."""
    course = result.course
    scores = course.scores
    pruned_numbers = course.pruned_numbers

    title = f"Trial {result.best_trial.number} of {len(result.trials)} was the best"
    if pruned_numbers:
        title += f"; {len(pruned_numbers)} were stopped early"
    figure = titled_figure(title, 3.4)
    axes = figure.add_subplot()
    axes.step(
        course.numbers, course.best_so_far, where="post", c=MODEL_COLORS[0], label="best so far"
    )
    axes.scatter(course.numbers, scores, color=MODEL_COLORS[0], label="score", zorder=3)

    lowest = scores.min()
    high = np.quantile(scores, 0.9)  # failures would hide the rest
    axes.set_ylim(top=high + 0.4 * (high - lowest) + 1e-4)
    top_edge = np.full(len(pruned_numbers), axes.get_ylim()[1])  # their scores are of other days
    label = "stopped early" if pruned_numbers else None
    axes.scatter(
        pruned_numbers, top_edge, marker="x", color=PATTERN_COLOR, label=label, clip_on=False
    )

    axes.yaxis.set_major_formatter(PercentFormatter(1, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="score (mean WAPE)")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@rc_context(FIGURE_STYLE)
def importance_by_key(importances: Mapping[str, float]) -> Figure:
    """Draw how much each key mattered, the most important first and on top."""
    first_key = next(iter(importances))
    title = f"{first_key} mattered the most for which trials were good"
    figure = titled_figure(title, 0.9 + 0.27 * len(importances))
    axes = figure.add_subplot()

    from_bottom = list(importances)[::-1]
    axes.barh(from_bottom, [importances[key] for key in from_bottom], color=MODEL_COLORS[0])
    axes.grid(visible=False)
    axes.set_xlabel("share of the importance (PED-ANOVA of the trials of all days)")
    return figure


@rc_context(FIGURE_STYLE)
def score_by_value(trials: Sequence[FinishedTrial], keys: Sequence[str]) -> Figure:
    """Draw the scores of trials of all days by value, a panel for each key."""
    row_count = -(-len(keys) // KEYS_PER_ROW)
    title = "Scores of trials by the value of each key; the default is orange"
    figure = titled_figure(title, 2.3 * row_count)
    for position, key in enumerate(keys, start=1):
        axes = figure.add_subplot(row_count, KEYS_PER_ROW, position)
        _scatter_by_value(axes, [trial for trial in trials if key in trial.values], key)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 1))
        axes.set_xlabel(short_key(key))
    return figure


def _scatter_by_value(axes: Axes, trials: Sequence[FinishedTrial], key: str) -> None:
    """Draw the scores of trials by their value of a key, on a log scale where values are wide."""
    values: list[Any] = [trial.values[key] for trial in trials]
    are_numbers = all(_is_numeric_value(value) for value in values)
    positions = values if are_numbers else [override_text(value) for value in values]
    colors = [MODEL_COLORS[1] if trial.default else MODEL_COLORS[0] for trial in trials]
    axes.scatter(positions, [trial.score for trial in trials], s=14, c=colors)
    if are_numbers and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_xscale("log")
        _label_decades(axes)


def _label_decades(axes: Axes) -> None:
    """Label some powers of ten of a logarithmic axis, as plain numbers."""
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _is_numeric_value(value: Value) -> bool:
    """Return whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def short_key(key: str) -> str:
    """Return the last part of a dotted key."""
    return key.rsplit(".", 1)[-1]
