"""Neighbours are those that look alike; their sums, and nothing of theirs but numbers, forecast."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import history, weekly_history
from factories.configs import PATTERN

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.models.baselines import neighbours
from ltvnet.models.baselines.neighbours import HistoricalCurves, Neighbours

DAY = "2025-06-30"

UsersAndValues = list[tuple[float, Floats]]


def daily_cohorts(cohorts: UsersAndValues) -> Curves:
    """One cohort (users, values) a day from 2023, long matured on DAY."""
    first = np.datetime64("2023-01-01")
    rows = [
        (str(first + n), str(first + n), {"Apps": "a"}, users, values)
        for n, (users, values) in enumerate(cohorts)
    ]
    return history(rows, hierarchy=("Apps",)).as_of(DAY)


def bent_curve(level: float, early: float, final: float) -> Floats:
    """`level` x `early` to D1, `level` at D7, `level` x `final` at D360."""
    return level * np.interp(np.arange(AGES), [0, 1, 7, 360], [early / 2, early, 1.0, final])


def fit_neighbours(count: int, curves: Curves) -> Neighbours:
    return Neighbours(count=count, pattern=PATTERN).fit(curves)


@pytest.fixture(scope="module")
def slow_and_fast() -> Curves:
    """Slow starters triple, fast ones grow by a fifth; both at levels about 1."""
    rng = np.random.default_rng(0)
    slow = [(1.0 + n, bent_curve(rng.uniform(0.8, 1.2), 0.2, 3.0 + n)) for n in range(4)]
    fast = [(5.0, bent_curve(rng.uniform(0.8, 1.2), 0.8, 1.2)) for _ in range(4)]
    return daily_cohorts(slow + fast)


def test_the_like_forecast_the_like(slow_and_fast: Curves) -> None:
    """Ratio of sums over the four slow starters: users 1 2 3 4, growth 3 4 5 6 of L(7)."""
    level = slow_and_fast.values[:4, 7]
    users, growth = np.arange(1.0, 5.0), np.arange(3.0, 7.0)
    pooled = (users * level * growth).sum() / (users * level).sum()
    new = daily_cohorts([(7.0, bent_curve(1.0, 0.2, 1.0)), (7.0, bent_curve(1.0, 0.8, 1.0))]).cut(7)
    raw = fit_neighbours(4, slow_and_fast).predict(new).raw
    np.testing.assert_allclose(raw.mean[:, -1], [pooled, 1.2], rtol=1e-12)


def test_quantiles_are_those_of_neighbours_by_users(slow_and_fast: Curves) -> None:
    """Of users 1 2 3 4 the first holds a tenth and the last the upper tenth: growth 3 and 6."""
    new = daily_cohorts([(7.0, bent_curve(1.0, 0.2, 1.0))]).cut(7)
    raw = fit_neighbours(4, slow_and_fast).predict(new).raw
    assert raw.p10[0, -1] == pytest.approx(3.0) and raw.p90[0, -1] == pytest.approx(6.0)


def test_level_tells_apart_what_shape_does_not() -> None:
    """Of one shape to D7, rich cohorts double and poor ones do not grow."""
    rich = [(9.0, bent_curve(10.0, 0.5, 2.0))] * 3
    poor = [(9.0, bent_curve(0.1, 0.5, 1.0))] * 3
    new = daily_cohorts([(9.0, bent_curve(8.0, 0.5, 1.0)), (9.0, bent_curve(0.2, 0.5, 1.0))]).cut(7)
    forecast = fit_neighbours(3, daily_cohorts(rich + poor)).predict(new).raw.mean[:, -1]
    np.testing.assert_allclose(forecast, [16.0, 0.2], rtol=1e-12)


def test_distance_by_hand() -> None:
    """Levels 2 and 1, shares at D1 0.5 and 0.25, at k/2 = 2 both 1."""
    ages = np.arange(AGES)
    curve, neighbour = (
        np.where(ages < 2, share, 1.0) * y for share, y in ((0.5, 2.0), (0.25, 1.0))
    )
    past = HistoricalCurves(daily_cohorts([(1.0, neighbour)]).values[:, NODES], np.ones(1))
    distance = past.distances(daily_cohorts([(1.0, curve)]).cut(4))
    assert distance[0, 0] == pytest.approx(2 * np.log(2.0) ** 2, rel=1e-12)


def test_too_few_neighbours_let_the_pattern_speak(slow_and_fast: Curves) -> None:
    forecast = fit_neighbours(9, slow_and_fast).predict(slow_and_fast.cut(7))
    np.testing.assert_array_equal(forecast.raw.mean, forecast.pattern)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = weekly_history(30, noise=0.4).as_of("2023-09-01")
    model = fit_neighbours(5, curves)
    in_one_block = model.predict(curves).raw
    monkeypatch.setattr(neighbours, "MAX_DISTANCES", 3 * len(curves))
    blocks = model.predict(curves).raw
    np.testing.assert_allclose(blocks.mean, in_one_block.mean, rtol=1e-12)
    np.testing.assert_allclose(blocks.p90, in_one_block.p90, rtol=1e-12)


def test_history_is_kept_evenly_up_to_a_limit(
    slow_and_fast: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 cohorts 3 are kept, 0 and those a third and two thirds on; of as many as 8 all."""
    for limit, rows in ((3, [0, 2, 5]), (8, list(range(8)))):
        monkeypatch.setattr(neighbours, "MAX_KEPT_CURVES", limit)
        history = fit_neighbours(2, slow_and_fast).history
        np.testing.assert_array_equal(history.values, slow_and_fast.values[rows][:, NODES])
        np.testing.assert_array_equal(history.users, slow_and_fast.users[rows])


def test_no_key_is_kept(slow_and_fast: Curves) -> None:
    """Curves at nodes and users are numbers; only the pattern knows names of segments."""
    named = replace(
        slow_and_fast, attributes={"Apps": slow_and_fast.attributes["Apps"], "Secret": named_rows()}
    )
    values, arrays = fit_neighbours(2, named).state()
    assert set(values) == {"arguments", "pattern"}
    own_arrays = {name for name in arrays if not name.startswith("pattern/")}
    assert own_arrays == {"curves", "users"} and arrays["curves"].shape == (8, len(NODES))
    assert all(array.dtype == np.float64 for array in arrays.values())


def named_rows() -> np.ndarray:
    return np.array([f"cohort {n}" for n in range(8)], dtype=object)


def test_count_is_checked() -> None:
    with pytest.raises(ValueError, match="expected count >= 1, got 0"):
        Neighbours(count=0, pattern=PATTERN)
