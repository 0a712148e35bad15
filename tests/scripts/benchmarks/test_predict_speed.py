"""The benchmark of prediction: its cohorts, its processes and its lines."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from factories.cohorts import weekly_history
from omegaconf import OmegaConf
from predict_speed import (
    bare_rates,
    measure_growth,
    net_rates,
    seconds_by_hand,
    wide_rates,
    write_cohort_table,
)
from targets import ProcessCost, pool_costs

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves


@pytest.fixture(scope="module")
def curves() -> Curves:
    made = weekly_history(30).as_of("2023-12-31")
    return made.take(made.observed_age >= 0)


def test_cohorts_are_read_as_they_are(curves: Curves, tmp_path: Path) -> None:
    """The second time around a cohort has another ad set, and its curve another scale."""
    count = 2 * len(curves)
    path = write_cohort_table(curves, tmp_path, count)
    (read,) = Files(path=path).curves(count)
    assert len(read) == count and set(read.attributes["AdSet"]) == {"ad0", "ad1"}
    first = read.take(read.attributes["AdSet"] == "ad0")
    np.testing.assert_array_equal(first.observed_age, curves.observed_age)
    scale = first.values / curves.values
    np.testing.assert_allclose(np.nanmax(scale, axis=1), np.nanmin(scale, axis=1))
    assert np.nanstd(scale) > 0.1


def test_the_least_that_it_takes(curves: Curves, tmp_path: Path) -> None:
    path = write_cohort_table(curves, tmp_path, 20)
    assert seconds_by_hand("read", path) > 0 and seconds_by_hand("net", path) > 0
    assert sorted(tmp_path.iterdir()) == [path] and parquet.read_metadata(path).num_rows == 20


def test_lines_are_rates_of_medians() -> None:
    chosen = OmegaConf.create({"nets": {"mlp": 100}, "ages": [14, 30], "gib": 3.0, "wide": 40})
    cost = pool_costs([ProcessCost(2.0, 1.0), ProcessCost(4.0, 2.0), ProcessCost(9.0, 1.5)])
    assert cost == ProcessCost(4.0, 2.0)
    fast, memory = net_rates(chosen, 1000, {"mlp": cost})
    assert (fast.value, fast.meets_target) == (250.0, True) and (
        memory.value,
        memory.meets_target,
    ) == (2.0, True)
    assert [line.value for line in bare_rates(1000, {"read": [1.0], "net": [5.0, 1.0, 4.0]})] == [
        1000.0,
        250.0,
    ]
    linear, flat = measure_growth("mlp", [10, 100], [ProcessCost(1.0, 1.0), ProcessCost(10.0, 1.1)])
    assert linear.value == pytest.approx(1.0) and flat.value == pytest.approx(1.1)
    assert measure_growth("mlp", [10], [cost]) == []
    wide = wide_rates(
        chosen, 1000, {"parquet": ProcessCost(50.0, 1.0), "csv": ProcessCost(100.0, 1.0)}
    )
    assert [(line.value, line.meets_target) for line in wide] == [(20.0, False), (10.0, None)]
