"""Where past forecasts were wrong, in derivable numbers."""

from dataclasses import replace

import numpy as np
import pytest
from factories.records import past_record, single_forecast_record, with_intervals

from ltvnet import metrics
from ltvnet.backtesting.error_analysis import (
    bias_grid,
    check_intervals,
    growth_errors,
    hold_against_pattern,
    outcome_positions,
)
from ltvnet.backtesting.scores import cells_at_age, coverage_of_cells
from ltvnet.data.curves import HORIZONS, NODES


def test_intervals_hold_the_outcomes_of_one_campaign_in_two() -> None:
    """Outcomes are 1 / 1.1 and 1 / 0.9 of the mean, [0.88, 1.05] of it the interval."""
    check = check_intervals(past_record())
    assert check is not None and list(check.coverage) == list(HORIZONS)
    cell_counts = [coverage.cell_count for coverage in check.coverage.values()]
    assert cell_counts == sorted(cell_counts)  # older cohorts have later horizons ahead only
    for coverage in check.coverage.values():
        assert coverage.is_known and coverage.is_too_narrow
        assert coverage.share == pytest.approx(0.5)
        assert coverage.deviation == pytest.approx(0.3)
        assert coverage.two_standard_errors == 2 * coverage.standard_error

    two_outcomes = np.array([1 / 1.1, 1 / 0.9])
    positions = metrics.pit(two_outcomes, *np.array([[0.88] * 2, [1] * 2, [1.05] * 2]))
    expected = np.histogram(positions, 10, (0, 1))[0] / 2
    np.testing.assert_allclose(check.position_shares, expected)
    assert check.position_shares.sum() == pytest.approx(1.0)


def test_wide_intervals_hold_all() -> None:
    check = check_intervals(with_intervals(past_record(), 0.5, 2.0))
    assert check is not None
    assert {coverage.share for coverage in check.coverage.values()} == {1.0}
    assert not any(coverage.is_too_narrow for coverage in check.coverage.values())
    assert check.position_shares[[0, -1]].tolist() == [0.0, 0.0]


def test_without_intervals_nothing_is_checked() -> None:
    no_intervals = with_intervals(past_record(), float("nan"), float("nan"))
    assert check_intervals(no_intervals) is None
    cells = cells_at_age(no_intervals, "final", 7, 180)
    assert len(cells) and not coverage_of_cells(cells).is_known
    assert np.isnan(outcome_positions(cells)).all()


def test_a_single_week_has_no_error_of_coverage() -> None:
    coverage = coverage_of_cells(cells_at_age(single_forecast_record(), "final", 7, 180))
    assert coverage.cell_count == 1 and coverage.is_known
    assert np.isnan(coverage.two_standard_errors)


def test_a_model_is_held_against_the_pattern() -> None:
    """The net is off by 10 % and its sum 3.3 % too high; the pattern is 30 % too high."""
    contest = hold_against_pattern([past_record()], (7, 30))
    assert contest is not None and contest.first_is_model and contest.has_revenue
    assert contest.model_names == ["net"]
    cases = [(case.observed_age, case.horizon) for case in contest.cases]
    assert cases == [(7, horizon) for horizon in HORIZONS]  # no cohort is 30 days old
    for case in contest.cases:
        assert case.wapes == [pytest.approx(0.1)] and case.pattern_wape == pytest.approx(0.3)
        assert case.bias == pytest.approx(0.1 / 3) and case.pattern_bias == pytest.approx(0.3)
        assert case.gap == case.wapes[0] - case.pattern_wape
        assert case.cohort_count == case.coverage.cell_count > 0
        assert np.isnan(case.least_wape)
    assert (contest.closer_count, contest.worse_count) == (len(HORIZONS), 0)

    worse = hold_against_pattern([past_record(pattern=1.05)], (7,))
    assert worse is not None
    assert (worse.closer_count, worse.worse_count) == (0, len(HORIZONS))


def test_the_pattern_is_not_held_against_itself() -> None:
    pattern = past_record([(1.3, 1.3)] * 4)
    contest = hold_against_pattern([pattern], (7,))
    assert contest is not None and not contest.first_is_model and contest.model_names == []
    assert [case.gap for case in contest.cases] == [0.0] * len(HORIZONS)
    assert (contest.closer_count, contest.worse_count) == (0, 0)

    behind_pattern = hold_against_pattern([pattern, past_record()], (7,))
    assert behind_pattern is not None and not behind_pattern.first_is_model
    assert behind_pattern.model_names == ["net"]


def test_nothing_matured_or_earned_is_no_contest() -> None:
    record = past_record()
    assert hold_against_pattern([], (7,)) is None
    not_matured = replace(record, actual=np.full_like(record.actual, np.nan))
    assert hold_against_pattern([not_matured], (7,)) is None
    without_revenue = hold_against_pattern([replace(record, actual=0 * record.actual)], (7,))
    assert without_revenue is not None and not without_revenue.has_revenue


def test_errors_of_growth_leave_out_what_was_observed() -> None:
    record = past_record()
    value = record.entries.observed_value[:, None]
    final = record.entries.bands["final"]
    band = replace(final, mean=value + 1.25 * (record.actual - value))
    bands = {**record.entries.bands, "blended": band}
    record = replace(record, entries=replace(record.entries, bands=bands))
    errors = growth_errors(record, bucket=2, interval=NODES.index(30), stage="blended")
    assert errors.bias == pytest.approx(0.25) and errors.wape == pytest.approx(0.25)


@pytest.mark.parametrize("reach", [360, 200, 180])
def test_a_bias_grid_ends_where_the_data_do(reach: int) -> None:
    record = past_record()
    entries = record.entries
    last_supported_age = np.full(len(entries), reach)
    grid = bias_grid(
        replace(record, entries=replace(entries, last_supported_age=last_supported_age))
    )
    assert grid is not None
    assert grid.horizons.tolist() == [node for node in NODES if 13 < node <= reach]
    assert grid.bias.shape == (len(grid.origins), len(grid.horizons))
