"""The benchmark of prepare.py: contenders give the same curves, and its figures are told."""

import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from cohort_query import (
    LAST_AGE,
    curves_by_one_query,
    curves_by_pandas,
    curves_in_steps,
    generate_purchases,
    scan_columns,
)
from factories.shop import transactions_of
from omegaconf import OmegaConf
from prepare_speed import compare_costs, cost_of, measurements
from targets import ProcessCost


@pytest.mark.parametrize("by", [[], ["country"]])
def test_what_is_timed_gives_the_curves_of_ours(tmp_path: Path, by: list[str]) -> None:
    path = tmp_path / "lines.parquet"
    with duckdb.connect(config={"threads": 1}) as base:
        generate_purchases(base, path, 4000, 20)
        scan_columns(base, str(path), by)
        theirs = [
            curves_by_one_query(base, str(path), by),
            curves_in_steps(base, str(path), by),
            curves_by_pandas(str(path), by),
        ]
    made = transactions_of(path, {"by": by, "cache": str(tmp_path)}).prepared_cohorts
    names = [made.start.astype(str), *made.attributes]
    expected = dict(zip(zip(*names, strict=True), made.values, strict=True))
    assert len(expected) > 100 and made.values.shape[1] == LAST_AGE + 1
    for curves in theirs:
        assert curves.keys() == expected.keys()
        for name, values in curves.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-9)


def test_generated_purchases_are_as_told(tmp_path: Path) -> None:
    path = tmp_path / "lines.parquet"
    with duckdb.connect(config={"threads": 1}) as base:
        generate_purchases(base, path, 20000, 20)
        frame = base.read_parquet(str(path)).df()
    assert len(frame) == 20000
    assert frame["date"].is_monotonic_increasing and np.ptp(frame["date"].dt.day_of_year) == 364
    assert frame["customer_id"].nunique() == pytest.approx(1000, rel=0.02)
    assert (frame["amount"] < 0).mean() == pytest.approx(0.02, abs=0.004)
    assert np.log(frame["amount"].abs()).std() == pytest.approx(1, abs=0.03)
    assert (frame.groupby("customer_id")["country"].nunique() == 1).all()
    first = frame.groupby("customer_id")["date"].transform("min")
    assert (frame["date"] - first).dt.days.median() < 365 / 3  # they buy less the older they are


def test_all_of_it_on_little(tmp_path: Path) -> None:
    chosen = {"lines": [1000, 2000], "customer_lines": 20, "pandas": 1000, "by": ["country"]}
    engine = {"threads": 1, "memory": "1GB", "repeats": 1}
    config = OmegaConf.create({"out": str(tmp_path), "prepare": chosen | engine})
    found = {line.what: line for line in measurements(config)}
    assert found["prepare.py, peak memory"].meets_target
    assert found["prepare.py, whole process, 0.002 M lines"].value > 0.1  # Python starts
    assert not list(tmp_path.iterdir())
    config.prepare.lines = [2000]
    with pytest.raises(ValueError, match=r"expected prepare\.lines to grow, got \[2000\]"):
        measurements(config)


def test_ratios_and_slopes_by_hand() -> None:
    def costs(seconds: float) -> dict[str, ProcessCost]:
        return {
            "scan": ProcessCost(seconds / 8, 1),
            "query": ProcessCost(seconds / 2, 1),
            "steps": ProcessCost(seconds / 4, 1),
            "prepare": ProcessCost(seconds, 3),
        }

    found = {
        line.what: line
        for line in compare_costs({10: costs(2), 100: costs(20)}, ProcessCost(4, 2), 10)
    }
    assert found["prepare.py / shortest query"].value == 2
    assert found["prepare.py / shortest query"].meets_target
    assert found["prepare.py / three statements"].value == 4
    assert found["prepare.py / bare scan"].value == 8
    assert found["pandas at its rate / prepare.py"].value == 2
    growth = "prepare.py, growth of {} with lines (log-log slope)"
    assert found[growth.format("seconds")].value == pytest.approx(1)
    assert found[growth.format("memory")].value == pytest.approx(0, abs=1e-9)


def test_a_process_says_what_it_took_but_for_prepare() -> None:
    assert cost_of([sys.executable, "-c", "print('so'); print(7.5)"]).seconds == 7.5
