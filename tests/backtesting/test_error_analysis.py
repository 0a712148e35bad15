"""Where past forecasts were wrong, in derivable numbers."""

import numpy as np
import pytest
from factories.records import past_record, single_forecast_record, with_intervals

from ltvnet import metrics
from ltvnet.backtesting.error_analysis import check_intervals, outcome_positions
from ltvnet.backtesting.scores import cells_at_age, coverage_of_cells
from ltvnet.data.curves import HORIZONS


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
