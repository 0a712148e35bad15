"""Curves at some ages alone: what lies between is unknown, and nothing is read from a later age."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.cohorts import identical_weekly_history, weekly_history
from factories.configs import arguments_of, group_config
from hypothesis import given
from hypothesis import strategies as st

import ltvnet
from ltvnet.data.arrays import Floats
from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import AGES, EVERY_AGE, MAX_AGE, NODES, History, last_exported_age
from ltvnet.data.exported_ages import carry_between_ages, common_exported_ages
from ltvnet.forecasting.interpolation import smooth_between_exported_ages, smooth_shape
from ltvnet.models.pattern.pattern import Pattern

MILESTONES = (0, 1, 3, 7, 14, 30, 60, 90, 120, 180, 270, 360)

GRIDS = st.sets(st.integers(0, MAX_AGE), min_size=1).map(lambda ages: tuple(sorted(ages)))


def sparse(history: History, ages: tuple[int, ...]) -> History:
    """A history as it would be, had its curves been exported at these ages alone."""
    values = carry_between_ages(history.values, ages)
    return replace(history, values=values, exported_ages=ages)


@given(GRIDS, st.integers(-3, MAX_AGE + 9))
def test_the_last_exported_age(ages: tuple[int, ...], age: int) -> None:
    expected = max((exported for exported in ages if exported <= age), default=-1)
    assert last_exported_age(ages, np.array(age)) == expected
    assert last_exported_age(EVERY_AGE, np.array(age)) == max(min(age, MAX_AGE), -1)


@given(GRIDS, st.integers(0, MAX_AGE))
def test_carried_cells(ages: tuple[int, ...], last_age: int) -> None:
    """A curve y(a) = a, known to an age: between exported ages stands the earlier one."""
    curve = np.where(np.arange(AGES) <= last_age, np.arange(AGES), np.nan)[None, :]
    [carried] = carry_between_ages(curve, ages)
    k = last_exported_age(ages, np.array(last_age))
    assert np.isnan(carried[k + 1 :]).all()
    for age in range(k + 1):
        assert carried[age] == max(last_exported_age(ages, np.array(age)), ages[0])


def test_observed_age_is_the_last_exported_one() -> None:
    """On a Thursday, weekly cohorts are at 4, 11, 18 ... of which none is a milestone."""
    full = weekly_history(60)
    history = sparse(full, MILESTONES)
    day = np.datetime64("2024-01-04")
    natural = full.as_of(day).observed_age
    assert (history.as_of(day).observed_age == last_exported_age(MILESTONES, natural)).all()
    before = history.as_of(day).observed_ages_before([0, 7])
    assert (before[1] == last_exported_age(MILESTONES, natural - 7)).all()
    assert set(history.as_of(day).cut(29).observed_age.tolist()) <= {-1, 0, 1, 3, 7, 14}


def test_a_cut_in_time_does_not_let_a_carried_value_stand_for_today() -> None:
    """As of its day 20, a cohort of milestones is known to day 14, and no further."""
    history = sparse(weekly_history(30), MILESTONES)
    day = history.end[0] + 20
    curves = history.as_of(day)
    [row] = np.flatnonzero((curves.start == history.start[0]) & (curves.attributes["Apps"] == "a"))
    assert curves.observed_age[row] == 14
    assert np.isnan(curves.values[row, 15:]).all()
    until = history.until(day)
    assert (until.as_of(day).values[row, :15] == curves.values[row, :15]).all()


def later_garbage(history: History, day: np.datetime64) -> History:
    """A history whose cells after a day, and those carried from them, are garbage."""
    age = (day - history.end).astype(int)
    known = last_exported_age(history.exported_ages, age)
    is_later = np.arange(AGES) > known[:, None]
    exported = np.where(is_later, 1e30 * (1.0 + np.arange(AGES)), history.values)
    return replace(history, values=carry_between_ages(exported, history.exported_ages))


@pytest.mark.parametrize("ages", [NODES, MILESTONES, (1, 7, 30, 90, 180, 360), (7,)])
def test_canary_garbage_in_later_milestones_changes_no_bit(ages: tuple[int, ...]) -> None:
    """Among others: garbage in D30 leaves forecasts made at day 20 as they were."""
    history = sparse(weekly_history(80, noise=0.3), ages)
    day = history.end[-1] + 20

    def forecast(of: History) -> Floats:
        curves = of.as_of(day)
        pattern = Pattern(**arguments_of(group_config("model", "pattern")))
        return pattern.fit(curves).predict(curves, NODES).raw.mean

    np.testing.assert_array_equal(forecast(history), forecast(later_garbage(history, day)))


def test_the_corrected_pipeline_forecasts_milestones_and_is_smooth_between() -> None:
    """Identical cohorts: forecasts are exact at exported ages, and linear in log age between."""
    history = sparse(identical_weekly_history(110), MILESTONES)
    day = history.start[-1] - 150
    model = ltvnet.model("pattern").fit(history, day)
    curves = history.as_of(day)
    forecast = model.predict(curves, [30, 45, 60, 180])
    is_young = curves.observed_age == 7
    truth = history.values[0, [30, 60, 180]]
    means = forecast.final.mean[is_young]
    np.testing.assert_allclose(means[:, [0, 2, 3]], np.tile(truth, (len(means), 1)), rtol=1e-6)
    share = (np.log1p(45) - np.log1p(30)) / (np.log1p(60) - np.log1p(30))
    np.testing.assert_allclose(means[:, 1], means[:, 0] + share * (means[:, 2] - means[:, 0]))
    assert (forecast.final.p10 <= forecast.final.p90)[np.isfinite(forecast.final.p10)].all()


def test_smoothing_leaves_daily_forecasts_and_exported_ages_alone() -> None:
    history = weekly_history(70)
    day = history.end[-1]
    pattern = Pattern(**arguments_of(group_config("model", "pattern"))).fit(history.as_of(day))
    daily = pattern.predict(history.as_of(day), EVERY_AGE[1:])
    assert smooth_between_exported_ages(daily) is daily

    of_milestones = pattern.predict(sparse(history, MILESTONES).as_of(day), EVERY_AGE)
    smoothed = smooth_between_exported_ages(of_milestones)
    exported = list(MILESTONES)
    np.testing.assert_array_equal(
        smoothed.raw.mean[:, exported], of_milestones.raw.mean[:, exported]
    )
    steps = np.diff(smoothed.raw.mean, axis=1)
    assert (steps[np.isfinite(steps)] >= 0).all()


@given(GRIDS.filter(lambda ages: len(ages) > 1))
def test_smooth_shapes_pass_through_exported_ages(ages: tuple[int, ...]) -> None:
    shape = carry_between_ages(np.log1p(EVERY_AGE)[None, :], (*ages,))
    shape = np.where(np.isnan(shape), np.log1p(ages[-1]), shape)
    smooth = smooth_shape(shape, ages)
    inside = slice(ages[0], ages[-1] + 1)
    np.testing.assert_allclose(smooth[0, inside], np.log1p(EVERY_AGE)[inside], atol=1e-12)


def test_ages_between_are_not_scored() -> None:
    history = sparse(weekly_history(60), MILESTONES)
    actuals = history.actuals(history.last_day)
    assert np.isfinite(actuals[list(MILESTONES)].to_numpy()).all()
    assert actuals.drop(columns=list(MILESTONES)).isna().all(axis=None)


def test_ages_that_snapshots_share() -> None:
    """An age counts where every table exported it that goes on to it."""
    assert common_exported_ages([EVERY_AGE, EVERY_AGE]) == EVERY_AGE
    assert common_exported_ages([(0, 1, 3), (0, 3, 7)]) == (0, 3, 7)
    assert common_exported_ages([EVERY_AGE, (0, 7, 30)]) == (0, 7, 30, *range(31, AGES))
    with pytest.raises(ValueError, match="snapshots with ages in common, got none: .*days 0-7"):
        common_exported_ages([(0, 2), (1, 3)])


@pytest.mark.parametrize("ages", [NODES, MILESTONES, (1, 2, 3, 7), (7, 30), (0, 1, 2, 180)])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_milestones_comes_back(
    tmp_path: Path, ages: tuple[int, ...], suffix: str
) -> None:
    history = sparse(weekly_history(30), ages)
    curves = history.as_of(history.end[0] + 200)
    path = tmp_path / f"cohorts_{curves.origin}{suffix}"
    write_cohorts(curves, path)
    read = Files(path=path, hierarchy=["Apps"]).history()
    assert read.exported_ages == tuple(age for age in ages if age <= 200)
    np.testing.assert_array_equal(read.as_of(curves.origin).values, curves.values)
    [streamed] = Files(path=path, hierarchy=["Apps"]).curves(10_000)
    np.testing.assert_array_equal(streamed.values, curves.values)
    np.testing.assert_array_equal(streamed.observed_age, curves.observed_age)


def test_a_gap_among_milestones_is_told_at_its_column(tmp_path: Path) -> None:
    path = tmp_path / "a_2025_02_10.csv"
    path.write_text("Date,day_0,day_7,day_30,day_60\n2024-01-06,1,2,,4\n")
    with pytest.raises(ValueError, match="line 2, day_30 = '': expected a value between known"):
        Files(path=path).history()


def test_snapshots_with_other_ages_are_joined_at_those_that_they_share(tmp_path: Path) -> None:
    """The older file is a daily one, the newer has milestones alone, up to D120."""
    history = weekly_history(20)
    for day, ages in (("2023-06-01", EVERY_AGE), ("2023-07-01", MILESTONES)):
        curves = sparse(history, ages).as_of(np.datetime64(day))
        write_cohorts(curves, tmp_path / f"ltv_{day}.csv")
    read = Files(path=tmp_path, hierarchy=["Apps"]).history()
    expected = sparse(history, MILESTONES)
    for day in ("2023-06-01", "2023-07-01"):
        values = read.as_of(day).values[:, :121]
        np.testing.assert_array_equal(values, expected.as_of(day).values[:, :121])


def test_values_masked_after_the_day_of_the_file_end_at_an_exported_age(tmp_path: Path) -> None:
    path = tmp_path / "a_2025-01-20.csv"
    path.write_text("Date,day_0,day_7,day_30\n2025-01-01,1,2,3\n")
    history = Files(path=path, partial="mask").history()
    assert history.observed_age.tolist() == [7]


def test_a_later_export_of_fewer_ages_takes_cells_and_adds_none(tmp_path: Path) -> None:
    """Its own cells, other numbers, are not seen on the day of the first export."""
    days = [f"2025-01-{day:02}" for day in range(1, 8)]
    daily = [f"{day},10," + ",".join(map(str, range(1, 9))) for day in days]
    later = [f"{day},10,70,80,90" for day in days]
    header = "Date,Users," + ",".join(f"day_{age}" for age in range(8))
    (tmp_path / "a_2025_01_15.csv").write_text("\n".join([header, *daily, ""]))
    before = Files(path=tmp_path).history().as_of("2025-01-11")
    (tmp_path / "a_2025_02_15.csv").write_text(
        "\n".join(["Date,Users,day_0,day_3,day_7", *later, ""])
    )
    history = Files(path=tmp_path, scale="any").history()
    after = history.as_of("2025-01-11")

    assert history.exported_ages[:3] == (0, 3, 7)
    assert (after.observed_age == last_exported_age((0, 3, 7), before.observed_age)).all()
    is_known = np.isfinite(after.values)
    assert (is_known <= np.isfinite(before.values)).all()
    exported = np.isin(np.arange(AGES), history.exported_ages) & is_known
    np.testing.assert_array_equal(after.values[exported], before.values[exported])
