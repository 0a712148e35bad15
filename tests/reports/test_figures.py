"""Figures show the numbers that they are made from, and their titles say what these say."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from factories.records import (
    SUNDAYS,
    forecast_off_by,
    past_record,
    single_forecast_record,
    two_campaigns,
    with_intervals,
)
from matplotlib import rc_context
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from ltvnet import metrics
from ltvnet.backtesting import scores
from ltvnet.backtesting.error_analysis import bias_grid, largest_misses
from ltvnet.backtesting.ledger import LedgerEntries
from ltvnet.backtesting.scores import build_record
from ltvnet.data.curves import NODES
from ltvnet.reports import figures, findings, html


def title(figure: Figure | None) -> str:
    assert figure is not None
    return figure.get_suptitle().replace("\n", " ")


def test_the_heat_map_shows_the_relative_error_of_the_sum() -> None:
    grid = bias_grid(past_record())
    assert grid is not None and grid.age_label == "7-13"
    assert grid.horizons.tolist() == [14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360]
    np.testing.assert_array_equal(grid.origins, SUNDAYS)
    np.testing.assert_allclose(grid.bias, (200 * 0.1 - 100 * 0.1) / 300)
    figure = figures.accuracy_by_day(past_record())
    assert figure is not None
    (mesh,) = [
        collection for collection in figure.axes[0].collections if isinstance(collection, QuadMesh)
    ]
    np.testing.assert_allclose(mesh.get_array(), grid.bias)
    assert mesh.get_clim() == (-0.05, 0.05)  # white is 0
    assert "within 5 % of what came true on each of 4 days" in title(figure)
    assert {text.get_text() for text in figure.axes[0].texts} == {"+3"}


def test_cells_that_have_not_matured_are_left_grey() -> None:
    model_record = past_record(until="2023-06-30")
    grid, figure = bias_grid(model_record), figures.accuracy_by_day(model_record)
    assert grid is not None and figure is not None
    ages = np.array([(np.datetime64("2023-06-30") - day).astype(int) + 7 for day in SUNDAYS])
    np.testing.assert_array_equal(np.isfinite(grid.bias), grid.horizons <= ages[:, None])
    (mesh,) = [
        collection for collection in figure.axes[0].collections if isinstance(collection, QuadMesh)
    ]
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), np.isnan(grid.bias))
    assert figures.accuracy_by_day(past_record(until=str(SUNDAYS[0]))) is None


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
    model_record = past_record([(factor, factor) for factor in factors])
    assert (
        title(figures.accuracy_by_day(model_record))
        == f"D180 forecasts, summed over cohorts, were {words}"
    )


def test_errors_by_horizon_are_the_scores() -> None:
    model_record = past_record()
    oracle = replace(model_record, oracle_forecast=model_record.actual * 1.05)
    line_by_name = {series.name: series for series in figures.error_lines([oracle], 7)}
    assert list(line_by_name) == ["best possible", "pattern alone", "net"]
    for name, error in (("net", 0.1), ("pattern alone", 0.3), ("best possible", 0.05)):
        assert line_by_name[name].x == [node for node in NODES if node >= 14]
        np.testing.assert_allclose(line_by_name[name].y, error)
    figure = figures.error_by_horizon([oracle], (7, 14))
    assert figure is not None and len(figure.axes) == 1
    for artist, series in zip(
        figure.axes[0].get_lines(), figures.error_lines([oracle], 7), strict=True
    ):
        assert list(artist.get_xdata()) == series.x and list(artist.get_ydata()) == series.y
        assert artist.get_linestyle() == series.dash
    assert {text.get_text().strip() for text in figure.axes[0].texts} == set(line_by_name)
    errors = "best possible 5.0 %, net 10.0 %, pattern alone 30.0 %"
    assert title(figure) == f"Error of a D180 forecast made on day 7: {errors}"


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
    history = two_campaigns()
    cut = [
        LedgerEntries.from_forecast(
            forecast_off_by(history, day, (1.1, 0.9), 1.3), history.as_of(day).observed_age
        )
        for day in SUNDAYS
    ]
    entries = LedgerEntries.concatenate(cut)
    late = np.where(
        entries.observed_age == 35, 30, entries.observed_age
    )  # as if seen five days before
    past_35 = build_record("net", replace(entries, observed_age=late), history)
    figure = figures.error_by_horizon([past_35], ages)
    assert figure is not None
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"forecasts made on day {age}" for age in shown]


def test_no_revenue_is_not_drawn() -> None:
    model_record = past_record()
    nothing = replace(model_record, actual=0 * model_record.actual)
    assert bias_grid(nothing) is None and figures.accuracy_by_day(nothing) is None
    assert figures.error_by_horizon([nothing], (7, 30)) is None


def test_one_miss_is_singular() -> None:
    several = "The 2 cohorts with the largest misses at D180 make up 100 % of all error; 1 of them"
    all_high = several.replace("1 of them", "all were forecast too high")
    alone = "The cohort with the largest miss at D180 makes up 100 % of all error"
    for model_record, expected in (
        (single_forecast_record(), alone),
        (past_record([(1.1, 0.9)]), f"{several} was forecast too low"),
        (
            past_record([(1.1, 1.2)]),
            all_high,
        ),
    ):
        headline = findings.choose_headline(model_record, (7,))
        assert headline is not None
        assert title(figures.worst_cohorts(model_record, headline)) == expected


def test_a_noise_floor_is_drawn_from_standard_errors() -> None:
    model_record = past_record()
    floor, *_ = figures.error_lines(
        [replace(model_record, standard_error=model_record.actual * 0.1)], 7
    )
    assert floor.name == "noise floor"
    np.testing.assert_allclose(floor.y, 0.1 * np.sqrt(2 / np.pi))


def test_a_model_that_is_the_pattern_has_no_line_of_its_own() -> None:
    pattern_record = past_record([(1.3, 1.3)] * 4)
    assert scores.is_pattern_forecast(pattern_record) and not scores.is_pattern_forecast(
        past_record()
    )
    assert [series.name for series in figures.error_lines([pattern_record], 7)] == ["pattern alone"]
    assert figures.error_by_horizon([pattern_record], (3,)) is None


def test_errors_by_epoch_are_the_losses() -> None:
    losses = {"training": [3.0, 2.0, 1.5], "validation": [3.5, 2.25, 2.5]}
    figure = figures.error_by_epoch(losses)
    assert figure is not None
    for drawn, values in zip(figure.axes[0].get_lines(), losses.values(), strict=False):
        assert list(drawn.get_xdata()) == [1, 2, 3] and list(drawn.get_ydata()) == values
    assert title(figure) == "The validation error was lowest at epoch 2 of 3"
    assert figures.error_by_epoch({}) is None and figures.error_by_epoch({"training": []}) is None


def test_names_of_lines_do_not_overlap() -> None:
    figure = figures.error_by_epoch({name: [1.0, 2.0] for name in "abc"})
    assert figure is not None
    heights = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert heights[0] == 2.0 and np.diff(heights).min() > 0.05


def test_coverage_is_the_share_of_outcomes_inside() -> None:
    # outcomes are 1 / 1.1 and 1 / 0.9 of the mean, so [0.88, 1.05] holds the first campaign's
    model_record = past_record()
    figure = figures.coverage_by_horizon(model_record)
    assert figure is not None
    points = figure.axes[0].containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata(), 0.5)
    assert "too narrow at D30 (50 %), D60 (50 %), D90 (50 %)" in title(figure)
    bars = np.array([bar.get_height() for bar in figure.axes[1].patches])
    fell = metrics.pit(np.array([1 / 1.1, 1 / 0.9]), *np.array([[0.88] * 2, [1] * 2, [1.05] * 2]))
    np.testing.assert_allclose(bars, np.histogram(fell, 10, (0, 1))[0] / 2)
    assert (
        figures.coverage_by_horizon(with_intervals(model_record, float("nan"), float("nan")))
        is None
    )
    wide = title(figures.coverage_by_horizon(with_intervals(model_record, 0.5, 2.0)))
    assert "too wide at D30 (100 %)" in wide


def test_the_worst_cohorts_miss_the_most_money() -> None:
    factors = [(1.0, 1.5), (1.2, 1.0), (1.0, 1.0), (1.0, 0.7)]
    model_record = past_record(factors)
    headline = findings.choose_headline(model_record, (7,))
    assert headline is not None
    worst_rows, missed = largest_misses(model_record, headline.entry_mask, headline.horizon)
    level = 181**0.5
    money = [100 * 0.5, 200 * 0.2, 100 * 0.3, 0.0]
    np.testing.assert_allclose(np.abs(missed[worst_rows])[:4], level * np.array(money), atol=1e-9)
    assert len(np.unique(model_record.entries.cohort_index[worst_rows])) == len(worst_rows) == 8
    figure = figures.worst_cohorts(model_record, headline)
    begin = "The 8 cohorts with the largest misses at D180 make up 100 % of all error; 1 of them"
    assert title(figure).startswith(begin)
    first, row = figure.axes[0], int(worst_rows[0])
    mean = {artist.get_label(): artist for artist in first.get_lines()}["forecast"]
    later = np.array(NODES) > 7
    np.testing.assert_array_equal(mean.get_xdata(), [7, *np.array(NODES)[later]])
    expected = [
        model_record.entries.observed_value[row],
        *model_record.entries.bands["final"].mean[row, later],
    ]
    np.testing.assert_array_equal(mean.get_ydata(), expected)
    assert first.get_title(loc="left").endswith("D180: 50 % too high")


def test_what_came_true_is_a_line_over_ages_that_were_not_exported() -> None:
    """Of D45 and D60 nothing is known: a gap would hide the ends of lines."""
    model_record = past_record()
    actual = model_record.actual.copy()
    missing = [NODES.index(45), NODES.index(60)]
    actual[:, missing] = np.nan
    record = replace(model_record, actual=actual)
    headline = findings.choose_headline(record, (7,))
    assert headline is not None
    figure = figures.worst_cohorts(record, headline)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    days = np.asarray(lines["came true"].get_xdata())
    np.testing.assert_array_equal(days, [7, *(n for n in NODES if n > 7 and n not in (45, 60))])
    assert np.isfinite(lines["came true"].get_ydata()).all()


def test_names_are_text_and_no_formulas() -> None:
    model_record = past_record(names=("$a_1$ $", "<b> & ${"))
    headline = findings.choose_headline(model_record, (7,))
    assert headline is not None
    figure = figures.worst_cohorts(model_record, headline)
    with rc_context(html.FIGURE_STYLE):
        figure.canvas.draw()
    assert "$a_1$ $" in figure.axes[0].get_title(loc="left")
