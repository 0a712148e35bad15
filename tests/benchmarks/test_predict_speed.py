"""The benchmark of prediction: its cohorts, its processes and its lines."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from cohorts import weekly
from omegaconf import OmegaConf

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts" / "benchmarks"))
from predict_speed import (  # noqa: E402
    Cost,
    beside,
    by_hand,
    cohorts,
    days,
    growth,
    pooled,
    rates,
)


@pytest.fixture(scope="module")
def curves() -> Curves:
    made = weekly(30).as_of("2023-12-31")
    return made.take(made.observed_age >= 0)


def test_cohorts_are_read_as_they_are(curves: Curves, tmp_path: Path) -> None:
    """The second time around a cohort has another ad set, and its curve another scale."""
    count = 2 * len(curves)
    path = cohorts(curves, tmp_path, count)
    (read,) = Files(path=path).curves(count)
    assert len(read) == count and set(read.attributes["AdSet"]) == {"ad0", "ad1"}
    first = read.take(read.attributes["AdSet"] == "ad0")
    np.testing.assert_array_equal(first.observed_age, curves.observed_age)
    scale = first.values / curves.values
    np.testing.assert_allclose(np.nanmax(scale, axis=1), np.nanmin(scale, axis=1))
    assert np.nanstd(scale) > 0.1


def test_the_least_that_it_takes(curves: Curves, tmp_path: Path) -> None:
    path = cohorts(curves, tmp_path, 20)
    assert by_hand("read", path) > 0 and by_hand("net", path) > 0
    assert sorted(tmp_path.iterdir()) == [path] and parquet.read_metadata(path).num_rows == 20


def test_lines_are_rates_of_medians() -> None:
    chosen = OmegaConf.create({"nets": {"mlp": 100}, "ages": [14, 30], "gib": 3.0, "wide": 40})
    cost = pooled([Cost(2.0, 1.0), Cost(4.0, 2.0), Cost(9.0, 1.5)])
    assert cost == Cost(4.0, 2.0)
    fast, memory = rates(chosen, 1000, {"mlp": cost})
    assert (fast.value, fast.meets_target) == (250.0, True) and (
        memory.value,
        memory.meets_target,
    ) == (2.0, True)
    assert [line.value for line in beside(1000, {"read": [1.0], "net": [5.0, 1.0, 4.0]})] == [
        1000.0,
        250.0,
    ]
    linear, flat = growth("mlp", [10, 100], [Cost(1.0, 1.0), Cost(10.0, 1.1)])
    assert linear.value == pytest.approx(1.0) and flat.value == pytest.approx(1.1)
    assert growth("mlp", [10], [cost]) == []
    wide = days(chosen, 1000, {"parquet": Cost(50.0, 1.0), "csv": Cost(100.0, 1.0)})
    assert [(line.value, line.meets_target) for line in wide] == [(20.0, False), (10.0, None)]
