"""Future cells that were filled in are told from curves that are flat indeed."""

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves
from ltvnet.data.padding import GrowthCounts, find_padding, find_zeroed_ages

DAY = np.datetime64("2024-02-01")


@pytest.fixture(scope="module")
def curves() -> Curves:
    """Weekly cohorts of two apps, as known on a day."""
    return weekly_history(56).as_of(DAY)


def fill_forward(values: Floats) -> Floats:
    return np.array(pd.DataFrame(values).ffill(axis=1))


def padding_of(curves: Curves, values: Floats) -> list[str]:
    counts = GrowthCounts()
    half = len(curves) // 2
    counts.add(curves.end[:half], values[:half])
    counts.add(curves.end[half:], values[half:])
    return [finding.as_text() for finding in find_padding(counts, np.datetime64("2025-01-01"))]


def test_filled_cells_are_told_with_the_day_of_the_export(curves: Curves) -> None:
    (text,) = padding_of(curves, fill_forward(curves.values))
    assert f"data.snapshot={DAY} data.partial=mask" in text
    assert "data.snapshot=2025-01-01" in text


def test_cells_filled_up_to_a_day_of_the_calendar(curves: Curves) -> None:
    age_limit = ((np.datetime64("2024-03-01") - curves.end) / np.timedelta64(1, "D"))[:, None]
    filled = np.where(np.arange(361) <= age_limit, fill_forward(curves.values), np.nan)
    assert len(padding_of(curves, filled)) == 1


def test_one_odd_row_does_not_hide_it(curves: Curves) -> None:
    filled = fill_forward(curves.values)
    filled[-1] = np.arange(361.0)
    (text,) = padding_of(curves, filled)
    assert f"data.snapshot={DAY}" in text


def test_curves_as_they_are_known_say_nothing(curves: Curves) -> None:
    assert padding_of(curves, curves.values) == []


def test_curves_that_are_flat_by_age_say_nothing(curves: Curves) -> None:
    """A paid app earns on day 0; closed cohorts that have all passed D360 are flat since."""
    flat = np.repeat(curves.values[:, :1], 361, axis=1)
    assert padding_of(curves, flat) == []
    assert padding_of(curves, np.where(np.isfinite(curves.values), flat, np.nan)) == []


def test_few_purchases_say_nothing(curves: Curves) -> None:
    rng = np.random.default_rng(0)
    rare = np.cumsum(rng.random(curves.values.shape) < 0.004, axis=1).astype(float)
    assert padding_of(curves, np.where(np.isfinite(curves.values), rare, np.nan)) == []


def test_few_purchases_that_are_filled_in_are_told(curves: Curves) -> None:
    rng = np.random.default_rng(0)
    rare = np.cumsum(rng.random(curves.values.shape) < 0.02, axis=1).astype(float)
    known = np.where(np.isfinite(curves.values), rare, np.nan)
    assert len(padding_of(curves, fill_forward(known))) == 1


def test_no_cell_says_nothing() -> None:
    assert find_padding(GrowthCounts(), DAY) == []


def test_an_age_exported_as_0_is_told(curves: Curves) -> None:
    values = np.array(curves.values)
    values[:, 14] = np.where(np.isfinite(values[:, 14]), 0.0, np.nan)
    (finding,) = find_zeroed_ages(values)
    assert finding.severity == "refusal"
    assert "at D14 " in finding.message
    assert find_zeroed_ages(curves.values) == []
