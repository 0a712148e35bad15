"""Where a baseline is silent the pattern speaks, and nodes are joined in log age."""

import numpy as np
from factories.cohorts import curve, history

from ltvnet.data.curves import AGES, NODES
from ltvnet.forecasting.interpolation import interpolate_in_log_age

DAYS = ("2023-01-01", "2023-01-02", "2023-01-03", "2023-01-04")


def test_between_nodes_is_linear_in_log_age() -> None:
    """From the observed age on; an interval with an unknown end is unknown."""
    rows = [(day, day, {}, 100.0, curve(360)) for day in DAYS]
    curves = history(rows).as_of("2025-06-30").cut(4)
    at_nodes = np.tile(np.log1p(np.array(NODES, dtype=float)), (4, 1)) - np.log(5) + np.sqrt(5)
    at_nodes[:, NODES.index(30)] = np.nan
    value = interpolate_in_log_age(curves, at_nodes, np.arange(AGES))
    expected = np.log1p(np.arange(AGES)) - np.log(5) + np.sqrt(5)
    known_ages = np.r_[5:22, 45:AGES]
    np.testing.assert_allclose(value[:, known_ages], np.tile(expected[known_ages], (4, 1)))
    assert np.isnan(value[:, 22:45]).all()
