"""Each layout of a platform gives back the cohorts that it was written from, to the bit."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.exports import EXPORT_DAY, LAYOUTS
from factories.odd_exports import ODD_EXPORTS

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import EVERY_AGE, Curves


def read_curves(path: Path, date: str = EXPORT_DAY, **options: Any) -> Curves:  # noqa: ANN401
    return Files(path=path, **options).history().as_of(date)


def assert_alike(curves: Curves, expected: Curves, ages: tuple[int, ...]) -> None:
    """Equal to the bit at the exported ages, and known no longer than at the last of them."""
    assert sorted(curves.attributes) == sorted(expected.attributes)
    for name, text in expected.attributes.items():
        assert curves.attributes[name].tolist() == text.tolist(), name
    for name in ("start", "end", "users", "spend"):
        first, second = getattr(curves, name), getattr(expected, name)
        np.testing.assert_array_equal(first, second, err_msg=name)
    every_age = EVERY_AGE if ages == tuple(range(len(ages))) else ages
    assert curves.exported_ages == every_age
    np.testing.assert_array_equal(curves.values[:, ages], expected.values[:, ages])
    assert curves.lag_days == expected.lag_days


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_to_the_bit(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    with caplog.at_level(logging.INFO):
        curves = read_curves(path)
    expected = layout.cohorts()
    if not layout.has_spend:
        expected = replace(expected, spend=np.full(len(expected), np.nan))
    assert_alike(curves, expected, layout.ages)
    assert f"read as {layout.preset}" in caplog.text


@pytest.mark.parametrize("name", ODD_EXPORTS)
def test_exports_of_new_users_are_read_to_the_bit(name: str, tmp_path: Path) -> None:
    export = ODD_EXPORTS[name]
    curves = read_curves(export.write(tmp_path))
    assert_alike(curves, export.cohorts(), tuple(range(181)))
