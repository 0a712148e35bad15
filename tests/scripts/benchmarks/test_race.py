"""Fits beside those of other libraries: what is counted, written and made of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import race
from factories.cohorts import weekly_history
from factories.configs import LSTM_NET, compose_config
from factories.neural import FullSchedule, make_neural
from race import (
    FitRun,
    compare_runs,
    library_settings,
    record_training,
    run_library,
    write_race,
)

from ltvnet.data.curves import Curves
from ltvnet.models.neural.training_config import TrainingJob


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(60).as_of("2024-02-29")


def test_windows_seen_are_counted(curves: Curves) -> None:
    """Two epochs of four tasks of every cohort with growth; the net is the one that was built."""
    model = make_neural()
    model.__class__ = FullSchedule
    with record_training(tasks=4) as found:
        model.fit(curves)
    net = model.fitted_net.net
    assert net is not None
    (run,) = found
    assert run.windows == 2 * 4 * (curves.observed_age > 0).sum()
    assert run.parameters == sum(weight.numel() for weight in net.parameters())
    assert run.seconds > 0


def test_counting_ends_with_its_block(curves: Curves) -> None:
    from ltvnet.models.neural import training

    before = training.train_net
    with record_training(tasks=4):
        assert training.train_net is not before
    assert training.train_net is before
    assert {"net", "cohort_tensors", "stop_epoch"} <= set(TrainingJob.__annotations__) and LSTM_NET[
        "kind"
    ] == "lstm"


def test_libraries_get_every_known_value(curves: Curves, tmp_path: Path) -> None:
    write_race(tmp_path, curves, {"mlp": {"windows": 7}})
    known = pd.read_parquet(tmp_path / "known.parquet")
    assert len(known) == np.isfinite(curves.values).sum()
    row = known[known["unique_id"] == "c3"]
    np.testing.assert_array_equal(row["y"], curves.values[3, : curves.observed_age[3] + 1])
    assert json.loads((tmp_path / "settings.json").read_text()) == {"mlp": {"windows": 7}}


@pytest.mark.parametrize("library", race.LIBRARIES)
def test_nets_of_a_library_are_those_of_ours(library: str) -> None:
    """Each is told how many windows to see, and forecasts every day after D7."""
    nets = compose_config("benchmark", "what=race").race[library].nets
    ours = {net: FitRun(1.0, 1000 + place, 5) for place, net in enumerate(("lstm", "mlp", "tide"))}
    found = library_settings(nets, ours)
    assert [found[net]["windows"] for net in ours] == [1000, 1001, 1002]
    for each in found.values():
        days = each["arguments"]
        back, ahead = ("input_size", "h") if library == "neuralforecast" else (
            "input_chunk_length", "output_chunk_length",
        )  # fmt: skip
        assert (days[back], days[ahead]) == (8, 353)


def test_a_library_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "HERE", tmp_path)
    (tmp_path / "darts_race.py").write_text("raise SystemExit(3)")
    with pytest.raises(ValueError, match="expected fits of darts, got none: see .*race.log"):
        run_library(Path(sys.executable), "darts", tmp_path)


def test_lines_by_hand() -> None:
    """1,200 windows in 2 s here; 600 in 10 s and 1,200 in 4 s there: 10 and 2 times as fast."""
    runs = {
        ("ltvnet", "mlp"): [
            FitRun(2.0, 1200, 50, 1.0),
            FitRun(9.0, 1200, 50, 1.0),
            FitRun(2, 1200, 50, 1),
        ],
        ("neuralforecast", "mlp"): [FitRun(10.0, 600, 55)],
        ("darts", "mlp"): [FitRun(4.0, 1200, 45)],
    }
    lines = list(compare_runs("mlp", runs))
    found = {line.what: (line.value, line.meets_target) for line in lines}
    assert found["mlp (50 parameters, 1,200 windows), whole fit"] == (2.0, None)
    assert found["mlp, of the whole fit"] == (600.0, None)
    assert found["mlp in darts (45 parameters)"] == (300.0, None)
    assert found["mlp, faster than neuralforecast"] == (10.0, True)
    assert found["mlp, faster than darts"] == (2.0, False)
    assert found["mlp, the net alone, faster than darts"] == (4.0, None)
