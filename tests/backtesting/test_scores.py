"""Scores of past forecasts, in derivable numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import curve, identical_weekly_history, weekly_history
from factories.configs import PATTERN, arguments_of

from ltvnet.backtesting.ledger import STAGES
from ltvnet.backtesting.replay import forecast_entries
from ltvnet.backtesting.scores import (
    BacktestRecord,
    build_record,
    compare_stage_with_pattern,
    forecast_by_oracle,
    growth_standard_error,
    mean_wape,
    mean_wape_by_name,
    revision,
    score_rows_at_ages,
    score_rows_by_bucket,
    score_table,
    score_table_by_segment,
)
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Band
from ltvnet.models.pattern.pattern import Pattern


def fit_pattern(curves: Curves) -> Pattern:
    return Pattern(**arguments_of(PATTERN)).fit(curves)


@pytest.fixture(scope="module")
def curves() -> Curves:
    return identical_weekly_history().as_of("2024-02-29")


@pytest.fixture(scope="module")
def half_record(curves: Curves) -> BacktestRecord:
    """A model that says half of what came true, within [a quarter, twice] of it."""
    entries = forecast_entries(fit_pattern(curves), curves, [7, 30])
    truth = entries.look_up_actuals(identical_weekly_history().as_of("2026-01-01"))
    band = Band(truth / 2, truth / 4, truth / 2, truth * 2)
    return build_record(
        "half", replace(entries, bands=dict.fromkeys(STAGES, band)), identical_weekly_history()
    )


def test_every_metric_of_a_known_error(half_record: BacktestRecord) -> None:
    scores = score_table(half_record, [7, 30])
    np.testing.assert_allclose(scores["wape"], 0.5)
    np.testing.assert_allclose(scores["bias"], -0.5)
    np.testing.assert_allclose(scores["median_ape"], 0.5)
    np.testing.assert_allclose(scores["coverage"], 1.0)
    several = scores["weeks"] > 1
    np.testing.assert_allclose(scores["coverage_error"][several], 0.0, atol=1e-12)
    assert scores["coverage_error"][~several].isna().all() and several.any()
    np.testing.assert_allclose(scores["width"], 2 - 0.25)
    np.testing.assert_allclose(scores["wape_pattern"], 0.0, atol=1e-9)
    np.testing.assert_allclose(scores["pinball_p10"], 0.1 * 0.75)
    np.testing.assert_allclose(scores["pinball_p90"], 0.1 * 1.0)
    assert mean_wape(half_record) == pytest.approx(0.5)
    assert mean_wape(half_record, "pattern") == pytest.approx(0.0, abs=1e-9)
    assert compare_stage_with_pattern(half_record, "final").is_worse


def test_cohorts_are_counted_at_a_cut_age_and_at_their_own(half_record: BacktestRecord) -> None:
    counts = score_table(half_record, [7, 30]).set_index(["observed_age", "horizon"])["n"]
    # on 2024-02-29, a Thursday, cohorts stand at 4, 11, 18, 25, 32 ... days
    assert counts["7", 30] == counts["30", 60] == 1  # those at 11 and at 32 days, cut
    assert counts["3-6", 30] == counts["7-13", 30] == 1
    assert counts["14-29", 30] == 2 and counts["30-59", 60] == 4
    assert counts["all", 30] == 4


def test_rows_of_a_table_by_exact_age_and_by_bucket(half_record: BacktestRecord) -> None:
    table = score_table(half_record, [7, 30])
    at_ages = score_rows_at_ages(table, [30, 7, 60])  # none at 60 days
    assert list(at_ages["observed_age"].unique()) == ["30", "7"]
    by_bucket = score_rows_by_bucket(table)
    assert list(by_bucket["observed_age"].unique())[-1] == "all"
    assert len(at_ages) + len(by_bucket) == len(table)
    assert at_ages.columns.equals(table.columns) and (at_ages.dtypes == table.dtypes).all()
    for rows in (score_rows_by_bucket(pd.DataFrame()), score_rows_at_ages(pd.DataFrame(), [7])):
        assert rows.columns.empty


def test_scores_by_name_hold_the_pattern_of_the_first(half_record: BacktestRecord) -> None:
    assert mean_wape_by_name([]) == {}
    by_name = mean_wape_by_name([half_record, replace(half_record, name="again")])
    assert list(by_name) == ["half", "again", "pattern"]
    assert by_name["half"] == by_name["again"] == pytest.approx(0.5)
    assert by_name["pattern"] == mean_wape(half_record, "pattern")
    as_pattern = mean_wape_by_name([replace(half_record, name="pattern")])
    assert as_pattern == {"pattern": by_name["half"]}


def test_cells_beyond_the_support_of_the_data_do_not_count(half_record: BacktestRecord) -> None:
    near = replace(
        half_record,
        entries=replace(
            half_record.entries, last_supported_age=half_record.entries.last_supported_age * 0 + 90
        ),
    )
    assert set(score_table(near, [7])["horizon"]) == {30, 60, 90}


def test_nothing_matured_gives_no_rows_and_no_score(half_record: BacktestRecord) -> None:
    nothing = replace(half_record, actual=np.full_like(half_record.actual, np.nan))
    assert score_table(nothing, [7]).empty and mean_wape(nothing) is None
    early = build_record(
        "half", half_record.entries, identical_weekly_history().until("2024-03-06")
    )
    assert mean_wape(early) is None  # no D90 has matured in a week for cohorts younger than that


def test_cohorts_that_earned_nothing_have_no_error_in_percent(half_record: BacktestRecord) -> None:
    nothing = replace(half_record, actual=half_record.actual * 0)
    assert mean_wape(nothing) is None
    exact = half_record.entries.observed_age == 7
    partly_zero = replace(half_record, actual=np.where(exact[:, None], 0.0, half_record.actual))
    assert mean_wape(partly_zero) == pytest.approx(0.5)  # of those at 30 days alone


def test_a_segment_has_scores_of_its_own(curves: Curves) -> None:
    data = weekly_history(70, ("a", "b"))
    curves_then = data.as_of("2024-02-29")
    entries = forecast_entries(fit_pattern(curves_then), curves_then, [])
    truth = entries.look_up_actuals(data.as_of(data.last_day))
    wrong = np.where(entries.attributes["Apps"] == "b", 1.5, 1.0)[:, None] * truth
    bands = dict.fromkeys(STAGES, Band(wrong, wrong, wrong, wrong))
    segment_scores = score_table_by_segment(
        build_record("m", replace(entries, bands=bands), data), 1
    )
    by_app = segment_scores.set_index(["Apps", "horizon"])["bias"]
    np.testing.assert_allclose(by_app[[("a", 180), ("b", 180)]], [0.0, 0.5], atol=1e-12)


def test_revision_is_how_much_forecasts_move_between_origins(curves: Curves) -> None:
    earlier = identical_weekly_history().as_of("2024-02-22")
    entries_by_origin = [forecast_entries(fit_pattern(c), c, [7]) for c in (earlier, curves)]
    joined = type(entries_by_origin[0]).concatenate(entries_by_origin)
    assert revision(joined, 360, "final") == pytest.approx(0.0, abs=1e-9)
    later = joined.origin == curves.origin
    mean = joined.bands["final"].mean * np.where(later, 2.0, 1.0)[:, None]
    moved = replace(joined, bands=dict.fromkeys(STAGES, Band(mean, mean, mean, mean)))
    assert revision(moved, 360, "final") == pytest.approx(0.5)  # from 1 to 2: a change of 1 over 2


def test_the_oracle_grows_as_expected_from_what_was_observed(curves: Curves) -> None:
    truth = replace(identical_weekly_history(), values=identical_weekly_history().values * 3).as_of(
        "2026-01-01"
    )
    entries = forecast_entries(fit_pattern(curves), curves, [7])
    oracle_values = forecast_by_oracle(truth, entries)
    row = int(np.flatnonzero((entries.observed_age == 7) & (entries.natural_age == 11))[0])
    grown = 3 * (curve(360)[180] - curve(360)[7])
    assert oracle_values[row, NODES.index(180)] == pytest.approx(curve(360)[7] + grown)
    assert np.isnan(oracle_values[row, NODES.index(7)]) and np.isnan(
        oracle_values[row, NODES.index(10)]
    )
    partial_oracle = forecast_by_oracle(
        truth.take(np.arange(20)), entries
    )  # knows 20 cohorts, the first ones
    has_oracle = np.isfinite(partial_oracle).any(axis=1)
    assert 0 < has_oracle.sum() < len(entries)
    assert set(entries.keys[entries.cohort_index[has_oracle]]) <= set(truth.index[:20])
    other_truth = replace(truth, attributes={"Apps": np.full(len(truth), "a", dtype=object)})
    assert np.isnan(forecast_by_oracle(other_truth, entries)).all()


def test_the_error_of_growth_leaves_out_what_was_observed(curves: Curves) -> None:
    entries = forecast_entries(fit_pattern(curves), curves, [7])
    node_errors = np.sqrt(np.arange(1.0, len(NODES) + 1))  # variance of node j is j + 1
    errors = pd.DataFrame(
        np.tile(node_errors, (len(curves), 1)), index=curves.index, columns=list(NODES)
    )
    growth_errors = growth_standard_error(errors, entries)
    row = int(np.flatnonzero(entries.observed_age == 11)[0])  # the last node by then is 10
    j, k = NODES.index(180), NODES.index(10)
    assert growth_errors[row, j] == pytest.approx(np.sqrt(j - k))
    floor = score_table(
        replace(
            build_record("m", entries, identical_weekly_history()), standard_error=growth_errors
        ),
        [7],
    )["noise_floor"]
    assert (floor > 0).all()
