"""The regression recovers curves it was made for, smears as Duan does, and lets history speak."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.models.baselines.loglinear import LogLinear

DAY = "2025-06-30"


WITHOUT_CALENDAR = PATTERN | {"calendar": False}
"""Curves here are free of noise, and dates of effects."""


def loglinear(*, slopes: bool = False, min_cohorts: int = 4) -> LogLinear:
    return LogLinear(slopes=slopes, min_cohorts=min_cohorts, pattern=WITHOUT_CALENDAR)


def cohorts(values: list[Floats], users: list[float] | None = None) -> Curves:
    """One cohort a day from 2023, long matured on DAY."""
    days = np.arange(np.datetime64("2023-01-01"), np.datetime64("2023-12-31"))
    counts = users or [100.0] * len(values)
    rows = [
        (str(d), str(d), {"Apps": "a"}, n, v) for d, n, v in zip(days, counts, values, strict=False)
    ]
    return history(rows, hierarchy=("Apps",)).as_of(DAY)


def power_law_curves(levels: list[float], power: float, factor: float) -> list[Floats]:
    """Curves whose value at every later node is factor x L(7)^power, and rises between."""
    curves = []
    for level in levels:
        early = level * np.linspace(0.3, 1.0, 8)
        final = factor * level**power
        curves.append(np.concatenate([early, np.linspace(level, final, AGES - 7)[1:]]))
    return curves


def test_power_law_related_curves_are_recovered_exactly() -> None:
    """L(360) = 2 L(7)^0.8: b1 = 0.8, the forecast exact, nothing to smear."""
    levels = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    curves = cohorts(power_law_curves(levels, 0.8, 2.0))
    fitted = loglinear().fit(curves)
    slope = 1.0 + fitted.regressions.coefficients[7, 1, -1]
    assert slope == pytest.approx(0.8, abs=1e-9)
    assert fitted.regressions.smear[7, -1] == pytest.approx(1.0, abs=1e-12)
    forecast = fitted.predict(curves.cut(7)).raw.mean[:, -1]
    np.testing.assert_allclose(forecast, 2.0 * np.array(levels) ** 0.8, rtol=1e-9)


def test_smearing_by_hand() -> None:
    """Two levels, each seen twice: residuals are half the log ratio of each pair.

    L(7) = 1 with L(360) = 2 and 8 (mean log: 4), L(7) = 2 with L(360) = 8 and 8. Residuals
    -log 2, log 2, 0, 0 with users 1, 1, 2, 2: smear (1/2 + 2 + 2 + 2) / 6 = 13/12.
    """
    pairs = [(1.0, 2.0), (1.0, 8.0), (2.0, 8.0), (2.0, 8.0)]
    values = [np.interp(np.arange(AGES), [0, 7, 360], [0.5 * y, y, z]) for y, z in pairs]
    curves = cohorts(values, [1.0, 1.0, 2.0, 2.0])
    fitted = loglinear().fit(curves)
    assert fitted.regressions.smear[7, -1] == pytest.approx(13 / 12, rel=1e-12)
    forecast = fitted.predict(curves.cut(7)).raw.mean[:, -1]
    np.testing.assert_allclose(forecast, np.array([4, 4, 8, 8]) * 13 / 12, rtol=1e-9)


def test_equals_numpy_least_squares() -> None:
    """Weights are users, the slope is log L(k) / L(k/2): the same as lstsq on the same rows."""
    curves = weekly_history(40, noise=0.5).as_of("2024-10-01")
    fitted = loglinear(slopes=True).fit(curves)
    k, node, value = 11, NODES.index(180), curves.values
    rows = curves.observed_age >= 180
    design = np.stack([np.ones(rows.sum()), *np.log([value[rows, k], value[rows, k // 2]])], axis=1)
    root = np.sqrt(curves.users[rows])
    y = np.log(value[rows, 180])
    beta = np.linalg.lstsq(root[:, None] * design, root * y, rcond=None)[0]
    smear = np.average(np.exp(y - design @ beta), weights=curves.users[rows])
    forecast = fitted.predict(curves.cut(k)).raw.mean[rows, node]
    np.testing.assert_allclose(forecast, np.exp(design @ beta) * smear, rtol=1e-9)


def test_curves_of_one_level_grow_in_proportion() -> None:
    """Where L(k) never varied it has no coefficient: another level grows by the same factor."""
    curves = cohorts([curve(360)] * 6)
    for slopes in (False, True):
        fitted = loglinear(slopes=slopes).fit(curves)
        rich = replace(curves, values=3 * curves.values).cut(11)
        forecast = fitted.predict(rich, range(AGES)).raw.mean
        np.testing.assert_allclose(forecast[:, list(NODES[9:])], 3 * rich_nodes(), rtol=1e-9)


def rich_nodes() -> Floats:
    return np.tile(curve(360)[list(NODES[9:])], (6, 1))


def test_too_few_cohorts_let_the_pattern_speak() -> None:
    curves = weekly_history(3).as_of(DAY)
    forecast = loglinear(min_cohorts=7).fit(curves).predict(curves.cut(9))
    np.testing.assert_array_equal(forecast.raw.mean, forecast.pattern)
    forecast = loglinear(min_cohorts=6).fit(curves).predict(curves.cut(9))
    assert (forecast.raw.mean != forecast.pattern)[forecast.is_ahead].mean() > 0.9


def test_a_regression_needs_cohorts() -> None:
    with pytest.raises(ValueError, match="expected min_cohorts >= 4, got 2"):
        loglinear(min_cohorts=2)
