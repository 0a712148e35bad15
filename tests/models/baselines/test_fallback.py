"""Where a baseline is silent the pattern speaks, and nodes are joined in log age."""

import numpy as np
import pytest
from factories.all_forecasters import FORECASTERS
from factories.cohorts import curve, history
from factories.models import make_forecaster

from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.forecasting.interpolation import interpolate_in_log_age
from ltvnet.forecasting.registry import REGISTRY

DAYS = ("2023-01-01", "2023-01-02", "2023-01-03", "2023-01-04")

BASELINES = [
    name
    for name, config in FORECASTERS.items()
    if config["name"] in REGISTRY and ".baselines." in REGISTRY[config["name"]].target
]


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


@pytest.mark.parametrize("name", BASELINES)
def test_an_unfitted_baseline_neither_predicts_nor_has_a_state(name: str, curves: Curves) -> None:
    baseline = make_forecaster(FORECASTERS[name])
    message = rf"^{type(baseline).__name__} was not fitted yet: call fit\(curves\) first$"
    with pytest.raises(ValueError, match=message):
        baseline.predict(curves)
    with pytest.raises(ValueError, match=message):
        baseline.state()
