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

from ltvnet import metrics
from ltvnet.backtesting.scores import (
    HORIZONS,
    SCORED_AGES,
    BacktestRecord,
    ScoreCells,
    bias_of_cells,
    cells_at_age,
    coverage_with_error,
    group_by_observed_age,
    irreducible_wape,
    is_pattern_forecast,
    wape_of_cells,
)
from ltvnet.data.arrays import Days, Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.reports.findings import HEADLINE_HORIZON, Headline
from ltvnet.reports.html import FIGURE_STYLE
from ltvnet.reports.wording import bias_in_words, percent

MODEL_COLORS = ("#0b5fa5", "#d9730d", "#7a4fb3", "#2e8b57", "#b23a6f")  # of the models, in order
PATTERN_COLOR, FLOOR_COLOR, TRUTH_COLOR, UNKNOWN_COLOR = "#6b7280", "#9c7a3c", "#111827", "#d5d9dd"
LABELLED_ROWS = 32  # a heat map with more has no numbers in its cells


class BiasGrid(NamedTuple):
    """Relative error of the sum over cohorts of some observed ages, the `label`.

    `origins` (O,), `horizons` (H,), `values` (O, H), NaN where not matured.
    """

    age_label: str
    origins: Days
    horizons: Ints
    bias: Floats


def bias_grid(record: BacktestRecord) -> BiasGrid | None:
    """Of cohorts 7-13 days old, or of the ages with most forecasts; None: nothing to score on."""
    buckets = {
        label: rows for label, rows in group_by_observed_age(record.entries, ()) if label != "all"
    }
    counts = {label: int(record.is_scorable[rows].sum()) for label, rows in buckets.items()}
    best = "7-13" if counts["7-13"] else max(buckets, key=lambda label: counts[label])
    rows, later = buckets[best], np.array(NODES) > int(best.split("-")[1])
    if not record.is_scorable[rows][:, later].any():
        return None
    horizons, origins = np.array(NODES)[later], np.unique(record.entries.origin[rows])
    values = np.full((len(origins), len(horizons)), np.nan)
    for (o, h), _ in np.ndenumerate(values):
        own = rows & (record.entries.origin == origins[o])
        values[o, h] = bias_of_cells(record.select_cells("final", own, int(horizons[h])))
    return BiasGrid(best, origins, horizons, values) if np.isfinite(values).any() else None


def _by_day(found: BiasGrid) -> str:
    """How errors of the horizon that the report speaks of went from day to day."""
    matured = np.isfinite(found.bias).any(axis=0)
    spoken = matured & (found.horizons <= HEADLINE_HORIZON)
    j = int(np.flatnonzero(spoken if spoken.any() else matured)[-1])
    known = np.isfinite(found.bias[:, j])
    off, days = found.bias[known, j], found.origins[known]
    return f"D{found.horizons[j]} forecasts, summed over cohorts, were {_course(off, days)}"


def _course(off: Floats, days: Days) -> str:
    if len(off) == 1:
        return f"{bias_in_words(off[0])} on the one day that has matured"
    if np.abs(off).max() <= 0.05:
        return f"within 5 % of what came true on each of {len(off)} days"
    months = [date.strftime("%b %Y") for date in days.astype("datetime64[D]").tolist()]
    half = len(off) // 2
    before, since = float(off[:half].mean()), float(off[half:].mean())
    if half >= 2 and before * since < 0 and min(abs(before), abs(since)) > 0.03:
        return f"{bias_in_words(before)} on average until {months[half - 1]}, {bias_in_words(since)} since"
    if half >= 2 and abs(before) > 0.03 and np.abs(off[half:]).max() <= 0.05:
        return f"{bias_in_words(before)} on average until {months[half - 1]}, then settled"
    low, high = (f"{bias_in_words(off[i])} ({months[i]})" for i in (off.argmin(), off.argmax()))
    return f"between {low} and {high}"


@rc_context(FIGURE_STYLE)
def accuracy_by_day(record: BacktestRecord) -> Figure | None:
    """Heat map of relative errors of the sum: rows days of forecast, columns horizons."""
    if (found := bias_grid(record)) is None:
        return None
    count = len(found.origins)
    figure = titled_figure(_by_day(found), float(np.clip(1.6 + 0.24 * count, 2.6, 9.5)))
    axes = figure.add_subplot(facecolor=UNKNOWN_COLOR)
    limit = max(0.05, np.ceil(20 * np.nanquantile(np.abs(found.bias), 0.95)) / 20)
    cells = np.ma.masked_invalid(found.bias)
    shown = axes.pcolormesh(cells, cmap="RdBu_r", vmin=-limit, vmax=limit, ec="white", lw=0.6)
    axes.grid(visible=False)
    axes.invert_yaxis()
    step = -(-count // LABELLED_ROWS)
    axes.set_yticks(np.arange(0, count, step) + 0.5, [str(day) for day in found.origins[::step]])
    axes.set_xticks(np.arange(len(found.horizons)) + 0.5, [f"D{h}" for h in found.horizons])
    axes.tick_params(length=0)
    axes.set_xlabel(
        f"horizon of forecasts of cohorts {found.age_label} days old; grey: not matured"
    )
    axes.set_ylabel("day of the forecast")
    bar = figure.colorbar(shown, ax=axes, format=PercentFormatter(1, 0), aspect=30, pad=0.01)
    bar.set_label("too low  \N{LEFTWARDS ARROW}  forecast  \N{RIGHTWARDS ARROW}  too high")
    for (row, column), value in np.ndenumerate(found.bias):
        if np.isfinite(value) and count <= LABELLED_ROWS:
            color = "white" if abs(value) > 0.6 * limit else "#30363d"
            text = f"{100 * value:+.0f}" if abs(value) >= 0.005 else "0"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=7.5, c=color)
    return figure


class ErrorLine(NamedTuple):
    """An error (y) against horizon or epoch (x)."""

    name: str
    x: list[int]
    y: list[float]
    color: str
    dash: str


def error_line(name: str, errors: Mapping[int, float], color: str, dash: str = "-") -> ErrorLine:
    """A line of the errors that are known."""
    known = {x: y for x, y in errors.items() if np.isfinite(y)}
    return ErrorLine(name, list(known), list(known.values()), color, dash)


def error_lines(records: Sequence[BacktestRecord], age: int) -> list[ErrorLine]:
    """WAPE of each model from an observed age, of the pattern, and the least that is possible.

    A model that is the pattern has no line of its own.
    """

    def errors(
        record: BacktestRecord, stage: str, error: Callable[[ScoreCells], float]
    ) -> dict[int, float]:
        found = {node: cells_at_age(record, stage, age, node) for node in NODES if node >= age + 7}
        return {node: error(c) for node, c in found.items() if len(c)}

    first = records[0]
    name = "noise floor" if first.oracle_forecast is None else "best possible"
    made = [
        error_line(name, errors(first, "final", irreducible_wape), FLOOR_COLOR, ":"),
        error_line("pattern alone", errors(first, "pattern", wape_of_cells), PATTERN_COLOR, "--"),
    ]
    for record, color in zip(records, cycle(MODEL_COLORS), strict=False):
        if not is_pattern_forecast(record):
            made.append(error_line(record.name, errors(record, "final", wape_of_cells), color))
    return [one for one in made if one.x]


@rc_context(FIGURE_STYLE)
def error_by_horizon(records: Sequence[BacktestRecord], ages: Sequence[int]) -> Figure | None:
    """WAPE against horizon for each model, the pattern dashed, a panel for each observed age.

    Of `ages` those that the score rests on, or else the first two.
    """
    found = {age: made for age in ages if (made := error_lines(records, age))}
    shown = [age for age in found if age in SCORED_AGES] or list(found)[:2]
    if not (panels := {age: found[age] for age in shown}):
        return None
    figure = titled_figure(_compared(*next(iter(panels.items()))), 4.2)
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (age, made) in zip(places, panels.items(), strict=True):
        axes.set_xscale("log")
        _draw(axes, made)
        counts = {h: len(cells_at_age(records[0], "final", age, h)) for h in HORIZONS}
        _horizons(axes, {h: h for h in counts if counts[h]}, counts)
        axes.set_title(f"forecasts made on day {age}")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    places[0].set_ylabel("error for a single cohort (WAPE)")
    return figure


def _compared(age: int, made: Sequence[ErrorLine]) -> str:
    """What lines say of the horizon that the report speaks of."""
    shared = [h for h in HORIZONS if h <= HEADLINE_HORIZON and all(h in one.x for one in made)]
    if not shared:
        return f"Error of forecasts made on day {age} by horizon"
    errors = sorted((one.y[one.x.index(shared[-1])], one.name) for one in made)
    said = [f"{name} {percent(error, exact=True)}" for error, name in errors]
    return f"Error of a D{shared[-1]} forecast made on day {age}: {', '.join(said)}"


def _horizons(axes: Axes, places: Mapping[int, float], counts: Mapping[int, int]) -> None:
    """Ticks at horizons, with the number of forecasts behind each."""
    axes.set_xticks(list(places.values()), [f"D{h}\n{counts[h]:,}" for h in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("horizon, and number of forecasts that have matured")


def _draw(axes: Axes, made: Sequence[ErrorLine]) -> None:
    """Lines with their names beside their ends, pushed apart where names would overlap."""
    for one in made:
        axes.plot(one.x, one.y, one.dash, c=one.color, lw=2, zorder=2 + (one.dash == "--"))
    low, high = axes.get_ylim()
    free = -np.inf
    for one in sorted(made, key=lambda one: one.y[-1]):
        free = max(one.y[-1], free + 0.065 * (high - max(low, 0)))
        name = f"\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{one.name}"
        axes.text(one.x[-1], free, name, va="center", color=one.color)


@rc_context(FIGURE_STYLE)
def error_by_epoch(losses: Mapping[str, Sequence[float]]) -> Figure | None:
    """Training and validation error by epoch; None for a model that does not train."""
    found = [
        error_line(name, dict(enumerate(values, start=1)), color)
        for (name, values), color in zip(losses.items(), cycle(MODEL_COLORS), strict=False)
    ]
    if not (made := [one for one in found if one.x]):
        return None
    watched = next((one for one in made if one.name == "validation"), made[-1])
    best = watched.x[int(np.argmin(watched.y))]
    figure = titled_figure(
        f"The {watched.name} error was lowest at epoch {best} of {watched.x[-1]}", 3.2
    )
    axes = figure.add_subplot()
    _draw(axes, made)
    axes.axvline(best, color=watched.color, lw=1, ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (loss of the fit, no unit)")
    return figure


@rc_context(FIGURE_STYLE)
def coverage_by_horizon(record: BacktestRecord) -> Figure | None:
    """Share of outcomes inside the 80 % interval by horizon, and where in it they fell."""
    own = dict(group_by_observed_age(record.entries, ()))["all"]
    cells = {h: record.select_cells("final", own, h) for h in HORIZONS}
    held = {
        h: coverage_with_error(c)
        for h, c in cells.items()
        if np.isfinite(coverage_with_error(c)[0])
    }
    if not held:
        return None
    shares, errors = np.array(list(held.values())).T
    figure = titled_figure(_kept(held), 3.8)
    left, right = figure.subplots(1, 2)
    place = {h: float(i) for i, h in enumerate(held)}
    left.axhline(0.8, color=TRUTH_COLOR, lw=1, ls="--")
    left.errorbar(
        list(place.values()), shares, 2 * errors, fmt="o", color=MODEL_COLORS[0], capsize=4
    )
    left.set(xlim=(-0.6, len(held) - 0.4), ylim=(min(0.6, *(shares - 0.1)), 1))
    _horizons(left, place, {h: len(cells[h]) for h in held})
    left.set_title("share of outcomes inside the 80 % interval, and two standard errors")
    _where_they_fell(right, [cells[h] for h in held])
    for axes in (left, right):
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def _kept(held: Mapping[int, tuple[float, float]]) -> str:
    """At which horizons intervals were too narrow or too wide, beyond chance."""
    off = {h: share for h, (share, error) in held.items() if abs(share - 0.8) > 2 * error}
    if not off:
        return "The 80 % intervals held what they promise at every horizon, as far as can be told"
    parts: dict[str, list[str]] = {}
    for h, share in off.items():
        parts.setdefault("narrow" if share < 0.8 else "wide", []).append(f"D{h} ({percent(share)})")
    said = [f"too {word} at {', '.join(days)}" for word, days in parts.items()]
    return f"The 80 % intervals were {' and '.join(said)}"


def _where_they_fell(axes: Axes, cells: Sequence[ScoreCells]) -> None:
    """Histogram of the probability integral transform of outcomes, all horizons together."""
    found = [metrics.pit(c.actual, c.band.p10, c.band.p50, c.band.p90) for c in cells]
    fell = np.concatenate(found)
    counts, edges = np.histogram(fell[np.isfinite(fell)], bins=10, range=(0, 1))
    colors = [MODEL_COLORS[1], *[MODEL_COLORS[0]] * 8, MODEL_COLORS[1]]
    axes.bar(edges[:-1] + 0.05, counts / max(counts.sum(), 1), 0.092, color=colors, alpha=0.85)
    axes.axhline(0.1, color=TRUTH_COLOR, lw=1, ls="--")
    axes.yaxis.set_major_locator(MultipleLocator(0.05))
    axes.set_xticks([0.05, 0.5, 0.95], ["below\ninterval", "in the middle", "above\ninterval"])
    axes.set_title("where outcomes fell: honest intervals fill the ten bars alike")


def largest_misses(record: BacktestRecord, found: Headline) -> tuple[Ints, Floats]:
    """The ten largest misses in money, one a cohort, and how much too high each entry was (E,)."""
    j, entries = NODES.index(found.horizon), record.entries
    missed = entries.users * (entries.bands["final"].mean[:, j] - record.actual[:, j])
    missed = np.where(found.entry_mask & record.is_scorable[:, j], missed, np.nan)
    at = np.argsort(-np.abs(missed), kind="stable")[: np.isfinite(missed).sum()]
    _, first = np.unique(entries.cohort_index[at], return_index=True)
    return at[np.sort(first)][:10], missed


@rc_context(FIGURE_STYLE)
def worst_cohorts(record: BacktestRecord, found: Headline) -> Figure:
    """Small multiples of the largest misses: forecast, interval, and what came true."""
    at, missed = largest_misses(record, found)
    share = float(np.abs(missed[at]).sum() / (np.nansum(np.abs(missed)) or 1))
    low, many = int((missed[at] < 0).sum()), len(at) != 1
    which = f"{len(at)} cohorts with the largest misses" if many else "cohort with the largest miss"
    said = (
        f"The {which} at D{found.horizon} make{'s' * (not many)} up {percent(share)} of all error"
    )
    if many:
        said += f"; {low} of them {'was' if low == 1 else 'were'} forecast too low"
    figure = titled_figure(said, 0.9 + 2.4 * (high := -(-len(at) // 5)))
    for place, row in enumerate(at, start=1):
        _draw_cohort(figure.add_subplot(high, 5, place), record, int(row), found.horizon)
    figure.supylabel("revenue per user, by days since acquisition", size=9)
    shown = figure.axes[0].get_legend_handles_labels()
    figure.legend(*shown, loc="outside lower left", ncols=5, frameon=False)
    return figure


def _draw_cohort(axes: Axes, record: BacktestRecord, row: int, horizon: int) -> None:
    """One cohort at the nodes: from what was known to what was forecast and what came true."""
    entries, band = record.entries, record.entries.bands["final"]
    k, value = int(entries.observed_age[row]), float(entries.observed_value[row])
    ahead = entries.has_forecast[row] & (
        np.array(NODES) <= max(horizon, entries.last_supported_age[row])
    )
    days = [k, *np.array(NODES)[ahead]]
    low, high, pattern, mean, actual = (
        np.array([value, *cells[row, ahead]])
        for cells in (band.p10, band.p90, entries.pattern, band.mean, record.actual)
    )
    axes.fill_between(
        days, low, high, color=MODEL_COLORS[0], alpha=0.16, lw=0, label="80 % interval"
    )
    axes.plot(days, pattern, "--", color=PATTERN_COLOR, lw=1, label="pattern alone")
    axes.plot(days, mean, color=MODEL_COLORS[0], lw=2, label="forecast")
    axes.plot(days, actual, color=TRUTH_COLOR, lw=1.6, label="came true")
    axes.plot([k], [value], "o", color=TRUTH_COLOR, ms=5, label="known when forecast")
    came, said = record.actual[row, NODES.index(horizon)], band.mean[row, NODES.index(horizon)]
    off = bias_in_words(said / came - 1) if came else "nothing came"
    names = " ".join(str(text[row]) for text in entries.attributes.values())
    head = textwrap.shorten(names, 30, placeholder=" ...")
    begun = f"{entries.start[row].astype('datetime64[D]')}, {entries.users[row]:,.0f} users"
    axes.set_title(f"{head}\n{begun}\nD{horizon}: {off}", size=8)
    axes.set_ylim(bottom=0)
    axes.set_xticks([0, 90, 180, 360])


def titled_figure(title: str, height: float) -> Figure:
    """An empty figure under what it shows, of a height in inches."""
    figure = Figure(figsize=(11, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, 118), x=0.008, ha="left", size=11, weight="bold")
    return figure
