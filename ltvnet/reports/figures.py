"""Figures of how good past forecasts were, for the report and TensorBoard: titles say the finding.

Shapes: E entries, J nodes, O origins, H horizons, C cells of one group and horizon.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter

from ltvnet.backtesting.error_analysis import (
    POSITION_BINS,
    BiasGrid,
    bias_grid,
    check_intervals,
    largest_misses,
    scored_nodes,
)
from ltvnet.backtesting.scores import (
    INTERVAL_SHARE,
    SCORED_AGES,
    BacktestRecord,
    IntervalCoverage,
    ScoreCells,
    ScoredStage,
    cells_at_age,
    irreducible_wape,
    is_pattern_forecast,
    wape_of_cells,
)
from ltvnet.data.arrays import Days, Floats
from ltvnet.data.curves import HORIZONS, NODE_AGES, NODES
from ltvnet.reports.findings import HEADLINE_HORIZON, Headline
from ltvnet.reports.html import FIGURE_STYLE
from ltvnet.reports.wording import bias_in_words, count, exact_percent, percent

MODEL_COLORS = ("#0b5fa5", "#d9730d", "#7a4fb3", "#2e8b57", "#b23a6f")
"""Colors of the models, in order."""

PATTERN_COLOR = "#6b7280"
FLOOR_COLOR = "#9c7a3c"
TRUTH_COLOR = "#111827"
UNKNOWN_COLOR = "#d5d9dd"

LABELLED_ROWS = 32
"""A heat map with more rows has no numbers in its cells."""

COHORTS_PER_ROW = 5
"""Small multiples beside each other in the figure of the worst cohorts."""


@rc_context(FIGURE_STYLE)
def accuracy_by_day(record: BacktestRecord) -> Figure | None:
    """Draw a heat map of the bias over cohorts: rows days of forecast, columns horizons.

    None where nothing can be scored.
    """
    grid = bias_grid(record)
    if grid is None:
        return None
    row_count = len(grid.origins)
    # Colors end at the 95 % quantile, so that one bad day does not pale all others.
    largest = np.nanquantile(np.abs(grid.bias), 0.95)
    color_limit = max(0.05, np.ceil(20 * largest) / 20)

    height = float(np.clip(1.6 + 0.24 * row_count, 2.6, 9.5))
    figure = titled_figure(_bias_by_day_title(grid), height)
    axes = figure.add_subplot(facecolor=UNKNOWN_COLOR)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(grid.bias),
        cmap="RdBu_r",
        vmin=-color_limit,
        vmax=color_limit,
        ec="white",
        lw=0.6,
    )
    _label_heat_map(axes, grid)

    bar = figure.colorbar(mesh, ax=axes, format=PercentFormatter(1, 0), aspect=30, pad=0.01)
    bar.set_label("too low  \N{LEFTWARDS ARROW}  forecast  \N{RIGHTWARDS ARROW}  too high")
    if row_count <= LABELLED_ROWS:
        _write_cell_numbers(axes, grid.bias, color_limit)
    return figure


def _label_heat_map(axes: Axes, grid: BiasGrid) -> None:
    """Label rows by day and columns by horizon, the first day on top."""
    axes.grid(visible=False)
    axes.invert_yaxis()

    row_count = len(grid.origins)
    rows_per_label = -(-row_count // LABELLED_ROWS)
    row_labels = [str(day) for day in grid.origins[::rows_per_label]]
    axes.set_yticks(np.arange(0, row_count, rows_per_label) + 0.5, row_labels)
    column_labels = [f"D{horizon}" for horizon in grid.horizons]
    axes.set_xticks(np.arange(len(grid.horizons)) + 0.5, column_labels)

    axes.tick_params(length=0)
    axes.set_xlabel(f"horizon of forecasts of cohorts {grid.age_label} days old; grey: not matured")
    axes.set_ylabel("day of the forecast")


def _write_cell_numbers(axes: Axes, bias: Floats, color_limit: float) -> None:
    """Write the bias (O, H) in per cent into the cells that have matured."""
    for (row, column), value in np.ndenumerate(bias):
        if not np.isfinite(value):
            continue
        is_dark = abs(value) > 0.6 * color_limit
        color = "white" if is_dark else "#30363d"
        text = f"{100 * value:+.0f}" if abs(value) >= 0.005 else "0"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=7.5, c=color)


def _bias_by_day_title(grid: BiasGrid) -> str:
    """Say how the bias of the headline's horizon went from day to day."""
    has_matured = np.isfinite(grid.bias).any(axis=0)  # (H,)
    candidates = np.flatnonzero(has_matured & (grid.horizons <= HEADLINE_HORIZON))
    if not len(candidates):
        candidates = np.flatnonzero(has_matured)
    column = int(candidates[-1])

    is_known = np.isfinite(grid.bias[:, column])
    course = _describe_course(grid.bias[is_known, column], grid.origins[is_known])
    return f"D{grid.horizons[column]} forecasts, summed over cohorts, were {course}"


def _describe_course(bias: Floats, days: Days) -> str:
    """Say in words how the bias (O,) of forecasts changed over days (O,), in order."""
    if len(bias) == 1:
        return f"{bias_in_words(bias[0])} on the one day that has matured"
    if np.abs(bias).max() <= 0.05:
        return f"within 5 % of what came true on each of {len(bias)} days"

    months = [date.strftime("%b %Y") for date in days.astype("datetime64[D]").tolist()]
    half = len(bias) // 2
    if half >= 2:
        first_mean = float(bias[:half].mean())
        second_mean = float(bias[half:].mean())
        first_half = f"{bias_in_words(first_mean)} on average until {months[half - 1]}"
        has_turned = first_mean * second_mean < 0
        if has_turned and min(abs(first_mean), abs(second_mean)) > 0.03:
            return f"{first_half}, {bias_in_words(second_mean)} since"
        if abs(first_mean) > 0.03 and np.abs(bias[half:]).max() <= 0.05:
            return f"{first_half}, then settled"

    lowest = int(bias.argmin())
    highest = int(bias.argmax())
    low = f"{bias_in_words(bias[lowest])} ({months[lowest]})"
    high = f"{bias_in_words(bias[highest])} ({months[highest]})"
    return f"between {low} and {high}"


class ErrorLine(NamedTuple):
    """A line of a figure: an error `y` against horizon or epoch `x`."""

    name: str
    x: list[int]
    y: list[float]
    color: str
    dash: str


def error_line(name: str, errors: Mapping[int, float], color: str, dash: str = "-") -> ErrorLine:
    """Return a line of the errors that are known, by horizon or epoch."""
    known_errors = {x: error for x, error in errors.items() if np.isfinite(error)}
    return ErrorLine(name, list(known_errors), list(known_errors.values()), color, dash)


def error_lines(records: Sequence[BacktestRecord], age: int) -> list[ErrorLine]:
    """Return WAPE lines from an observed age: the least possible, the pattern, and each model.

    A model that is the pattern has no line of its own; lines without a point are left out.
    """

    def errors_by_node(
        record: BacktestRecord, stage: ScoredStage, error_of: Callable[[ScoreCells], float]
    ) -> dict[int, float]:
        nodes = scored_nodes(record, stage, age)
        return {node: error_of(cells) for node, cells in nodes.items()}

    first = records[0]
    floor_name = "noise floor" if first.oracle_forecast is None else "best possible"
    floor_errors = errors_by_node(first, "final", irreducible_wape)
    pattern_errors = errors_by_node(first, "pattern", wape_of_cells)
    lines = [
        error_line(floor_name, floor_errors, FLOOR_COLOR, ":"),
        error_line("pattern alone", pattern_errors, PATTERN_COLOR, "--"),
    ]
    for record, color in zip(records, cycle(MODEL_COLORS), strict=False):
        if not is_pattern_forecast(record):
            errors = errors_by_node(record, "final", wape_of_cells)
            lines.append(error_line(record.name, errors, color))
    return [line for line in lines if line.x]


@rc_context(FIGURE_STYLE)
def error_by_horizon(records: Sequence[BacktestRecord], ages: Sequence[int]) -> Figure | None:
    """Draw WAPE against horizon for each model, a panel for each observed age.

    Of `ages` those that the score rests on, or else the first two. None where nothing can be
    scored.
    """
    lines_by_age = {age: error_lines(records, age) for age in ages}
    lines_by_age = {age: lines for age, lines in lines_by_age.items() if lines}
    if not lines_by_age:
        return None
    drawn_ages = [age for age in lines_by_age if age in SCORED_AGES]
    if not drawn_ages:
        drawn_ages = list(lines_by_age)[:2]

    first_age = drawn_ages[0]
    figure = titled_figure(_error_by_horizon_title(first_age, lines_by_age[first_age]), 4.2)
    panels = figure.subplots(1, len(drawn_ages), sharey=True, squeeze=False)[0]
    for axes, age in zip(panels, drawn_ages, strict=True):
        axes.set_xscale("log")
        _draw_lines(axes, lines_by_age[age])

        counts = {h: len(cells_at_age(records[0], "final", age, h)) for h in HORIZONS}
        _label_horizons(axes, {h: h for h in counts if counts[h]}, counts)
        axes.set_title(f"forecasts made on day {age}")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    panels[0].set_ylabel("error for a single cohort (WAPE)")
    return figure


def _error_by_horizon_title(age: int, lines: Sequence[ErrorLine]) -> str:
    """Say the errors of all lines at the longest horizon, up to the headline's, that all have."""
    shared_horizons = [
        horizon
        for horizon in HORIZONS
        if horizon <= HEADLINE_HORIZON and all(horizon in line.x for line in lines)
    ]
    if not shared_horizons:
        return f"Error of forecasts made on day {age} by horizon"

    horizon = shared_horizons[-1]
    errors = sorted((line.y[line.x.index(horizon)], line.name) for line in lines)
    texts = [f"{name} {exact_percent(error)}" for error, name in errors]
    return f"Error of a D{horizon} forecast made on day {age}: {', '.join(texts)}"


def _label_horizons(axes: Axes, ticks: Mapping[int, float], counts: Mapping[int, int]) -> None:
    """Set ticks at horizons, with the number of forecasts behind each."""
    labels = [f"D{horizon}\n{count(counts[horizon])}" for horizon in ticks]
    axes.set_xticks(list(ticks.values()), labels)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("horizon, and number of forecasts that have matured")


def _draw_lines(axes: Axes, lines: Sequence[ErrorLine]) -> None:
    """Draw lines with their names beside their ends, pushed apart where names would overlap."""
    for line in lines:
        is_reference = line.dash == "--"
        axes.plot(line.x, line.y, line.dash, c=line.color, lw=2, zorder=2 + is_reference)

    low, high = axes.get_ylim()
    name_height = 0.065 * (high - max(low, 0))
    lowest_free = -np.inf
    for line in sorted(lines, key=lambda line: line.y[-1]):
        lowest_free = max(line.y[-1], lowest_free + name_height)
        name = f"\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{line.name}"
        axes.text(line.x[-1], lowest_free, name, va="center", color=line.color)


@rc_context(FIGURE_STYLE)
def error_by_epoch(losses: Mapping[str, Sequence[float]]) -> Figure | None:
    """Draw training and validation error by epoch; None for a model that does not train."""
    lines = [
        error_line(name, dict(enumerate(values, start=1)), color)
        for (name, values), color in zip(losses.items(), cycle(MODEL_COLORS), strict=False)
    ]
    lines = [line for line in lines if line.x]
    if not lines:
        return None
    judged = next((line for line in lines if line.name == "validation"), lines[-1])
    best_epoch = judged.x[int(np.argmin(judged.y))]

    title = f"The {judged.name} error was lowest at epoch {best_epoch} of {judged.x[-1]}"
    figure = titled_figure(title, 3.2)
    axes = figure.add_subplot()
    _draw_lines(axes, lines)
    axes.axvline(best_epoch, color=judged.color, lw=1, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (loss of the fit, no unit)")
    return figure


@rc_context(FIGURE_STYLE)
def coverage_by_horizon(record: BacktestRecord) -> Figure | None:
    """Draw the share of outcomes in the 80 % interval by horizon, and where in it they fell.

    None where no interval can be checked.
    """
    check = check_intervals(record)
    if check is None:
        return None
    coverage = check.coverage

    figure = titled_figure(_coverage_title(coverage), 3.8)
    left, right = figure.subplots(1, 2)
    _draw_coverage(left, coverage)
    ticks = {h: float(i) for i, h in enumerate(coverage)}
    _label_horizons(left, ticks, {h: coverage[h].cell_count for h in coverage})
    left.set_title("share of outcomes inside the 80 % interval, and two standard errors")

    _draw_outcome_positions(right, check.position_shares)
    for axes in (left, right):
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def _draw_coverage(axes: Axes, coverage: Mapping[int, IntervalCoverage]) -> None:
    """Draw the coverage of each horizon, with two standard errors, beside the 80 % promised."""
    shares = np.array([each.share for each in coverage.values()])
    margins = np.array([each.two_standard_errors for each in coverage.values()])
    positions = [float(i) for i in range(len(coverage))]
    axes.axhline(INTERVAL_SHARE, color=TRUTH_COLOR, lw=1, ls="--")
    axes.errorbar(positions, shares, margins, fmt="o", color=MODEL_COLORS[0], capsize=4)
    axes.set(xlim=(-0.6, len(coverage) - 0.4), ylim=(min(0.6, *(shares - 0.1)), 1))


def _coverage_title(coverage: Mapping[int, IntervalCoverage]) -> str:
    """Say at which horizons intervals were too narrow or too wide, beyond chance."""
    wrong_horizons: dict[str, list[str]] = {}
    for horizon, each in coverage.items():
        if each.deviation > each.two_standard_errors:
            fault = "narrow" if each.is_too_narrow else "wide"
            wrong_horizons.setdefault(fault, []).append(f"D{horizon} ({percent(each.share)})")
    if not wrong_horizons:
        return "The 80 % intervals held what they promise at every horizon, as far as can be told"

    texts = [f"too {fault} at {', '.join(horizons)}" for fault, horizons in wrong_horizons.items()]
    return f"The 80 % intervals were {' and '.join(texts)}"


def _draw_outcome_positions(axes: Axes, shares: Floats) -> None:
    """Draw a histogram of where outcomes fell in their interval, all horizons together."""
    left_edges = np.linspace(0, 1, POSITION_BINS + 1)[:-1]
    colors = [MODEL_COLORS[1], *[MODEL_COLORS[0]] * 8, MODEL_COLORS[1]]
    axes.bar(left_edges + 0.05, shares, 0.092, color=colors, alpha=0.85)
    axes.axhline(0.1, color=TRUTH_COLOR, lw=1, ls="--")
    axes.yaxis.set_major_locator(MultipleLocator(0.05))
    axes.set_xticks([0.05, 0.5, 0.95], ["below\ninterval", "in the middle", "above\ninterval"])
    axes.set_title("where outcomes fell: honest intervals fill the ten bars alike")


@rc_context(FIGURE_STYLE)
def worst_cohorts(record: BacktestRecord, headline: Headline) -> Figure:
    """Draw small multiples of the largest misses: forecast, interval, and what came true."""
    horizon = headline.horizon
    misses = largest_misses(record, headline.entry_mask, horizon)
    if len(misses.rows) == 1:
        title = f"The cohort with the largest miss at D{horizon} makes"
    else:
        title = f"The {len(misses.rows)} cohorts with the largest misses at D{horizon} make"
    title += f" up {percent(misses.error_share)} of all error"
    if len(misses.rows) != 1:
        verb = "was" if misses.too_low_count == 1 else "were"
        too_low = f"{misses.too_low_count} of them {verb} forecast too low"
        title += f"; {too_low if misses.too_low_count else 'all were forecast too high'}"

    row_count = -(-len(misses.rows) // COHORTS_PER_ROW)
    figure = titled_figure(title, 0.9 + 2.4 * row_count)
    for position, row in enumerate(misses.rows, start=1):
        axes = figure.add_subplot(row_count, COHORTS_PER_ROW, position)
        _draw_cohort_curves(axes, record, int(row), horizon)
        axes.set_title(_cohort_title(record, int(row), horizon), size=8)
        axes.set_ylim(bottom=0)
        last_day = axes.dataLim.x1
        axes.set_xticks([day for day in (0, 30, 90, 180, 360) if day <= last_day])

    figure.supylabel("revenue per user, by days since acquisition", size=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=5, frameon=False)
    return figure


def _draw_cohort_curves(axes: Axes, record: BacktestRecord, row: int, horizon: int) -> None:
    """Draw one entry at the nodes: from what was known to what was forecast and came true."""
    entries = record.entries
    observed_age = int(entries.observed_age[row])
    observed_value = float(entries.observed_value[row])
    last_age = max(horizon, entries.last_supported_age[row])
    is_drawn = entries.has_forecast[row] & (NODE_AGES <= last_age)  # (J,)
    days = [observed_age, *NODE_AGES[is_drawn]]

    def from_observed(values: Floats) -> Floats:
        """Return the entry's values (E, J) at the drawn nodes, after the observed one."""
        return np.array([observed_value, *values[row, is_drawn]])

    band = entries.bands["final"]
    lower, upper = from_observed(band.p10), from_observed(band.p90)
    blue = MODEL_COLORS[0]
    axes.fill_between(days, lower, upper, color=blue, alpha=0.16, lw=0, label="80 % interval")
    pattern = from_observed(entries.pattern)
    axes.plot(days, pattern, "--", color=PATTERN_COLOR, lw=1, label="pattern alone")
    axes.plot(days, from_observed(band.mean), color=blue, lw=2, label="forecast")
    actual = from_observed(record.actual)
    came_true = np.isfinite(actual)  # of some ages nothing was exported: the line goes on
    axes.plot(
        np.array(days)[came_true], actual[came_true], color=TRUTH_COLOR, lw=1.6, label="came true"
    )
    axes.plot(
        [observed_age], [observed_value], "o", color=TRUTH_COLOR, ms=5, label="known when forecast"
    )


def _cohort_title(record: BacktestRecord, row: int, horizon: int) -> str:
    """Say which cohort an entry is of, its users, and how far off its forecast was."""
    entries = record.entries
    j = NODES.index(horizon)
    actual = record.actual[row, j]
    forecast = entries.bands["final"].mean[row, j]
    miss = bias_in_words(forecast / actual - 1) if actual else "nothing came"

    names = " ".join(str(text[row]) for text in entries.attributes.values())
    short_names = textwrap.shorten(names, 30, placeholder=" ...")
    start = entries.start[row].astype("datetime64[D]")
    users = count(entries.users[row])
    return f"{short_names}\n{start}, {users} users\nD{horizon}: {miss}"


def titled_figure(title: str, height: float) -> Figure:
    """Return an empty figure under the title that says its finding, `height` in inches."""
    figure = Figure(figsize=(11, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, 118), x=0.008, ha="left", size=11, weight="bold")
    return figure
