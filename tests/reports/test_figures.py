"""Figures show the numbers that they are made from, and their titles say what these say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from cohorts import curve, history
from matplotlib import rc_context
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from ltvnet import metrics
from ltvnet.backtesting import scores
from ltvnet.backtesting.error_analysis import bias_grid, largest_misses
from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.scores import BacktestRecord, build_record
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import NODES, History
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.reports import figures, findings, html
from ltvnet.reports.figures import ErrorLine
from ltvnet.reports.findings import Headline

DAYS = [np.datetime64("2023-02-05") + np.timedelta64(28, "D") * i for i in range(4)]
"""Sundays: cohorts of the weeks before stand at D0, D7, D14 ..."""

NAMES = ("a", "b")


def twenty_weeks(names: Sequence[str] = NAMES) -> History:
    """Twenty weekly cohorts of two campaigns, the first with twice the users."""
    weeks = [np.datetime64("2023-01-02") + np.timedelta64(7, "D") * i for i in range(20)]
    rows = [
        (str(week), str(week + 6), {"Campaign": name}, users, curve(360))
        for week in weeks
        for name, users in zip(names, (200.0, 100.0), strict=True)
    ]
    return history(rows, hierarchy=("Campaign",))


def forecast_from_truth(
    known: History, day: np.datetime64, factors: Sequence[float], pattern: float
) -> Forecast:
    """What comes true times a factor for each campaign, and times another one for the pattern."""
    curves = known.as_of(day)
    actual = known.as_of("2029-12-31").values[: len(curves), list(NODES)]
    codes = np.unique(curves.attributes["Campaign"], return_inverse=True)[1]
    mean = actual * np.array(factors)[codes][:, None]
    band = Band(mean, 0.88 * mean, mean, 1.05 * mean)
    words = np.full(len(curves), "ok", dtype=object)
    return Forecast(curves, np.array(NODES), pattern * actual, band, band, words, 360)


def past_record(
    factors: Sequence[Sequence[float]] = ((1.1, 0.9),) * 4,
    pattern: float = 1.3,
    until: str = "2029-12-31",
    names: Sequence[str] = NAMES,
    days: Sequence[np.datetime64] = DAYS,
) -> BacktestRecord:
    """Forecasts of D180 from D7 off by 10 % a cohort and 3.3 % too high, the pattern by 30 %."""
    known = twenty_weeks(names)
    parts = [
        LedgerEntries.from_forecast(
            forecast_from_truth(known, day, own, pattern), known.as_of(day).observed_age
        )
        for day, own in zip(days, factors, strict=False)
    ]
    return build_record("net", LedgerEntries.concatenate(parts), known.until(until))


def single_forecast() -> BacktestRecord:
    """A single forecast of a single cohort at D7."""
    found = past_record([(1.1, 0.9)])
    rows = found.entries.attributes["Campaign"] == "a"
    return replace(found, entries=found.entries.take(rows), actual=found.actual[rows])


def with_intervals(
    found: BacktestRecord, p10: Floats | float, p90: Floats | float
) -> BacktestRecord:
    """The same forecasts with other intervals, in multiples of the mean."""
    mean = found.entries.bands["final"].mean
    band = Band(mean, mean * p10, mean, mean * p90)
    entries = replace(found.entries, bands=dict.fromkeys(STAGES, band))
    return replace(found, entries=entries)


def title_of(figure: Figure | None) -> str:
    assert figure is not None
    return figure.get_suptitle().replace("\n", " ")


def test_the_headline_is_the_longest_horizon_up_to_half_a_year_from_day_7() -> None:
    found = findings.choose_headline(past_record(), (7, 30))
    assert isinstance(found, Headline)
    assert (found.age_label, found.horizon, len(found.cells)) == ("7", 180, 8)
    early = findings.choose_headline(past_record(until="2023-05-30"), (7, 30))
    assert early is not None and (early.age_label, early.horizon) == ("7", 90)
    assert findings.choose_headline(past_record(until=str(DAYS[0])), (7, 30)) is None
    own = findings.choose_headline(past_record(), ())
    assert own is not None and (own.age_label, own.horizon) == ("7-13", 180)


def test_the_heat_map_shows_the_relative_error_of_the_sum() -> None:
    grid = bias_grid(past_record())
    assert grid is not None and grid.age_label == "7-13"
    assert grid.horizons.tolist() == [14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360]
    np.testing.assert_array_equal(grid.origins, DAYS)
    np.testing.assert_allclose(grid.bias, (200 * 0.1 - 100 * 0.1) / 300)
    figure = figures.accuracy_by_day(past_record())
    assert figure is not None
    (mesh,) = [one for one in figure.axes[0].collections if isinstance(one, QuadMesh)]
    np.testing.assert_allclose(mesh.get_array(), grid.bias)
    assert mesh.get_clim() == (-0.05, 0.05)  # white is 0
    assert "within 5 % of what came true on each of 4 days" in title_of(figure)
    assert {text.get_text() for text in figure.axes[0].texts} == {"+3"}


def test_cells_that_have_not_matured_are_left_grey() -> None:
    found = past_record(until="2023-06-30")
    grid, figure = bias_grid(found), figures.accuracy_by_day(found)
    assert grid is not None and figure is not None
    ages = np.array([(np.datetime64("2023-06-30") - day).astype(int) + 7 for day in DAYS])
    np.testing.assert_array_equal(np.isfinite(grid.bias), grid.horizons <= ages[:, None])
    (mesh,) = [one for one in figure.axes[0].collections if isinstance(one, QuadMesh)]
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), np.isnan(grid.bias))
    assert figures.accuracy_by_day(past_record(until=str(DAYS[0]))) is None


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ((1.2, 1.2, 1.0, 1.0), "20 % too high on average until Mar 2023, then settled"),
        ((0.9, 0.9, 1.1, 1.3), "10 % too low on average until Mar 2023, 20 % too high since"),
        ((1.2, 1.1, 1.3, 1.2), "between 10 % too high (Mar 2023) and 30 % too high (Apr 2023)"),
        ((0.8,), "20 % too low on the one day that has matured"),
    ],
)
def test_the_heat_map_says_how_errors_went(factors: Sequence[float], words: str) -> None:
    found = past_record([(factor, factor) for factor in factors])
    assert (
        title_of(figures.accuracy_by_day(found))
        == f"D180 forecasts, summed over cohorts, were {words}"
    )


def test_errors_by_horizon_are_the_scores() -> None:
    found = past_record()
    oracle = replace(found, oracle_forecast=found.actual * 1.05)
    lines = {line.name: line for line in figures.error_lines([oracle], 7)}
    assert list(lines) == ["best possible", "pattern alone", "net"]
    for name, error in (("net", 0.1), ("pattern alone", 0.3), ("best possible", 0.05)):
        assert lines[name].x == [node for node in NODES if node >= 14]
        np.testing.assert_allclose(lines[name].y, error)
    figure = figures.error_by_horizon([oracle], (7, 14))
    assert figure is not None and len(figure.axes) == 1
    for drawn, line in zip(
        figure.axes[0].get_lines(), figures.error_lines([oracle], 7), strict=True
    ):
        assert list(drawn.get_xdata()) == line.x and list(drawn.get_ydata()) == line.y
        assert drawn.get_linestyle() == line.dash
    assert {text.get_text().strip() for text in figure.axes[0].texts} == set(lines)
    words = "best possible 5.0 %, net 10.0 %, pattern alone 30.0 %"
    assert title_of(figure) == f"Error of a D180 forecast made on day 7: {words}"


@pytest.mark.parametrize(
    ("ages", "shown"),
    [
        ((3, 7, 14, 28, 30, 60), (7, 30)),
        ((14, 7), (7,)),
        ((14, 28, 60), (14, 28)),
        ((3, 28), (28,)),
    ],
)
def test_no_more_than_two_ages_are_drawn(ages: Sequence[int], shown: Sequence[int]) -> None:
    known = twenty_weeks()
    cut = [
        LedgerEntries.from_forecast(
            forecast_from_truth(known, day, (1.1, 0.9), 1.3), known.as_of(day).observed_age
        )
        for day in DAYS
    ]
    entries = LedgerEntries.concatenate(cut)
    late = np.where(
        entries.observed_age == 35, 30, entries.observed_age
    )  # as if seen five days before
    found = build_record("net", replace(entries, observed_age=late), known)
    figure = figures.error_by_horizon([found], ages)
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"forecasts made on day {age}" for age in shown]


def test_no_revenue_is_not_drawn() -> None:
    found = past_record()
    nothing = replace(found, actual=0 * found.actual)
    assert bias_grid(nothing) is None and figures.accuracy_by_day(nothing) is None
    assert figures.error_by_horizon([nothing], (7, 30)) is None


def test_one_miss_is_singular() -> None:
    several = "The 2 cohorts with the largest misses at D180 make up 100 % of all error; 1 of them"
    alone = "The cohort with the largest miss at D180 makes up 100 % of all error"
    for found, words in (
        (single_forecast(), alone),
        (past_record([(1.1, 0.9)]), f"{several} was forecast too low"),
    ):
        headline = findings.choose_headline(found, (7,))
        assert headline is not None
        assert title_of(figures.worst_cohorts(found, headline)) == words


def test_a_noise_floor_is_drawn_from_standard_errors() -> None:
    found = past_record()
    floor, *_ = figures.error_lines([replace(found, standard_error=found.actual * 0.1)], 7)
    assert floor.name == "noise floor"
    np.testing.assert_allclose(floor.y, 0.1 * np.sqrt(2 / np.pi))


def test_a_model_that_is_the_pattern_has_no_line_of_its_own() -> None:
    same = past_record([(1.3, 1.3)] * 4)
    assert scores.is_pattern_forecast(same) and not scores.is_pattern_forecast(past_record())
    assert [line.name for line in figures.error_lines([same], 7)] == ["pattern alone"]
    assert figures.error_by_horizon([same], (3,)) is None


def test_errors_by_epoch_are_the_losses() -> None:
    losses = {"training": [3.0, 2.0, 1.5], "validation": [3.5, 2.25, 2.5]}
    figure = figures.error_by_epoch(losses)
    assert figure is not None
    for drawn, values in zip(figure.axes[0].get_lines(), losses.values(), strict=False):
        assert list(drawn.get_xdata()) == [1, 2, 3] and list(drawn.get_ydata()) == values
    assert title_of(figure) == "The validation error was lowest at epoch 2 of 3"
    assert figures.error_by_epoch({}) is None and figures.error_by_epoch({"training": []}) is None


def test_names_of_lines_do_not_overlap() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    figures._draw_lines(axes, [ErrorLine(name, [1, 2], [1.0, 2.0], "k", "-") for name in "abc"])
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert heights[0] == 2.0 and np.diff(heights).min() > 0.05


def test_coverage_is_the_share_of_outcomes_inside() -> None:
    # outcomes are 1 / 1.1 and 1 / 0.9 of the mean, so [0.88, 1.05] holds the first campaign's
    found = past_record()
    figure = figures.coverage_by_horizon(found)
    assert figure is not None
    points = figure.axes[0].containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata(), 0.5)
    assert "too narrow at D30 (50 %), D60 (50 %), D90 (50 %)" in title_of(figure)
    bars = np.array([bar.get_height() for bar in figure.axes[1].patches])
    fell = metrics.pit(np.array([1 / 1.1, 1 / 0.9]), *np.array([[0.88] * 2, [1] * 2, [1.05] * 2]))
    np.testing.assert_allclose(bars, np.histogram(fell, 10, (0, 1))[0] / 2)
    assert figures.coverage_by_horizon(with_intervals(found, float("nan"), float("nan"))) is None
    wide = title_of(figures.coverage_by_horizon(with_intervals(found, 0.5, 2.0)))
    assert "too wide at D30 (100 %)" in wide


def test_the_worst_cohorts_miss_the_most_money() -> None:
    factors = [(1.0, 1.5), (1.2, 1.0), (1.0, 1.0), (1.0, 0.7)]
    found = past_record(factors)
    headline = findings.choose_headline(found, (7,))
    assert headline is not None
    at, missed = largest_misses(found, headline.entry_mask, headline.horizon)
    level = 181**0.5
    money = [100 * 0.5, 200 * 0.2, 100 * 0.3, 0.0]
    np.testing.assert_allclose(np.abs(missed[at])[:4], level * np.array(money), atol=1e-9)
    assert len(np.unique(found.entries.cohort_index[at])) == len(at) == 8
    figure = figures.worst_cohorts(found, headline)
    words = "The 8 cohorts with the largest misses at D180 make up 100 % of all error; 1 of them"
    assert title_of(figure).startswith(words)
    first, row = figure.axes[0], int(at[0])
    mean = {line.get_label(): line for line in first.get_lines()}["forecast"]
    later = np.array(NODES) > 7
    np.testing.assert_array_equal(mean.get_xdata(), [7, *np.array(NODES)[later]])
    expected = [found.entries.observed_value[row], *found.entries.bands["final"].mean[row, later]]
    np.testing.assert_array_equal(mean.get_ydata(), expected)
    assert first.get_title(loc="left").endswith("D180: 50 % too high")


def test_names_are_text_and_no_formulas() -> None:
    found = past_record(names=("$a_1$ $", "<b> & ${"))
    headline = findings.choose_headline(found, (7,))
    assert headline is not None
    figure = figures.worst_cohorts(found, headline)
    with rc_context(html.FIGURE_STYLE):
        figure.canvas.draw()
    assert "$a_1$ $" in figure.axes[0].get_title(loc="left")
