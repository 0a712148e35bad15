"""Two processes that share every batch learn what one process does."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohorts import weekly
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_forecaster import COVARIATES, MACHINE, NET, PATTERN, TRAINING
from test_nets import TIDE

from ltvnet.data.curves import Curves
from ltvnet.forecasting.run_context import HardwareConfig, RunContext
from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.forecaster import NeuralForecaster
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard

DDP = {"strategy": "ddp", "devices": 2}
NETS: dict[str, dict[str, Any]] = {
    "lstm": NET | {"dropout": 0.0},
    "mlp": {"kind": "mlp", "hidden": [8, 6], "embedding": 2, "dropout": 0.0},
    "tide": TIDE | {"dropout": 0.0},
}


@pytest.fixture(scope="module")
def curves() -> Curves:
    known = weekly(60).as_of("2024-02-29")
    return known.take(known.observed_age >= 0)


@pytest.fixture(scope="module")
def windows(curves: Curves) -> CohortTensors:
    fitted = neural("lstm").prepare(curves)
    return CohortTensors.from_curves(
        curves, fitted.pattern.leave_one_out_curves(curves), fitted.scaling
    )


def neural(net: str, folder: Path | None = None, **machine: object) -> NeuralForecaster:
    return NeuralForecaster(
        net=NETS[net],
        pattern=PATTERN,
        training=TRAINING | {"batch_size": 37},
        covariates=COVARIATES,
        context=RunContext(
            seed=0,
            folder=None if folder is None else folder / "checkpoints",
            hardware=HardwareConfig(**MACHINE | {"log_every": 1} | machine),
        ),
    )


def flat(net: torch.nn.Module) -> np.ndarray[Any, Any]:
    return torch.cat([part.detach().flatten() for part in net.parameters()]).numpy()


def curve(run: Path) -> list[float]:
    """The loss of each step of the inner fit."""
    events = EventAccumulator(str(run / "inner"))
    events.Reload()  # type: ignore[no-untyped-call]
    return [event.value for event in events.Scalars("train/loss_step")]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("net", list(NETS))
def test_two_processes_learn_what_one_does(net: str, curves: Curves, tmp_path: Path) -> None:
    """Each loss is a ratio of sums over the whole batch, and attributes are hidden in both."""
    one, two = neural(net, tmp_path / "one"), neural(net, tmp_path / "two", **DDP)
    single, shared = one.inner_scores(curves), two.inner_scores(curves)
    assert len(single) == len(shared) == 3
    np.testing.assert_allclose(shared, single, rtol=1e-5, atol=1e-7)
    losses = curve(tmp_path / "one")
    assert len(losses) > 4 and losses[-1] < losses[0]
    np.testing.assert_allclose(curve(tmp_path / "two"), losses, rtol=1e-5)
    assert not {"MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)


def test_the_weights_are_those_of_one_process(curves: Curves) -> None:
    nets = []
    for machine in ({}, DDP):
        model = neural("mlp", **machine)
        net, _ = model.train(curves, model.prepare(curves), None, 2)
        nets.append(flat(net))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)
    assert np.abs(nets[0]).max() > 0.1


def test_one_process_writes_and_both_take_up(curves: Curves, tmp_path: Path) -> None:
    """A run of two processes that stopped after its first epoch ends where an unbroken one does."""
    whole, cut = (neural("mlp", tmp_path / name, **DDP) for name in ("whole", "cut"))
    net, _ = whole.train(curves, whole.prepare(curves), None, 2)
    cut.train(curves, cut.prepare(curves), None, 1)
    again, _ = cut.train(curves, cut.prepare(curves), None, 2)
    np.testing.assert_array_equal(flat(again), flat(net))
    assert len(list((tmp_path / "whole").glob("events*"))) == 1
    found = {path.name for path in (tmp_path / "whole" / "checkpoints").iterdir()}
    assert found == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shares_are_disjoint_and_cover_every_batch(windows: CohortTensors, ranks: int) -> None:
    plan = EpochPlan(tasks_per_cohort=3, batch_size=100, unseen_share=0.5)
    draws = [
        EpochSampler(windows=windows, plan=plan, seed=7, share=ProcessShard(rank, ranks))
        for rank in range(ranks)
    ]
    tasks = draws[0].tasks
    parts: list[list[tuple[int, int]]] = []
    for blocks in zip(*draws, strict=True):
        each = [zip(b.global_sizes, b.batch.split(b.local_sizes), strict=True) for b in blocks]
        for batch in zip(*each, strict=True):
            found = [
                (int(cohort), round(float(value), 4))
                for _, part in batch
                for cohort, value in zip(
                    part.cohort_index, part.targets.observed_value, strict=True
                )
            ]
            assert len(found) == batch[0][0]
            assert len({len(part.cohort_index) for _, part in batch}) <= 2
            parts.append(sorted(found))
    values = windows.values[tasks.cohort_index, tasks.observed_age]
    whole = [(int(c), round(float(v), 4)) for c, v in zip(tasks.cohort_index, values, strict=True)]
    assert parts == [sorted(whole[i : i + 100]) for i in range(0, len(whole), 100)]


def test_processes_that_get_nothing_of_a_batch_still_add_up(curves: Curves) -> None:
    """More processes than tasks in the last batch."""
    nets = []
    for machine in ({}, DDP):
        model = neural("lstm", **machine)
        model.training["tasks"] = 1
        grown = int((curves.observed_age > 0).sum())
        model.training["batch_size"] = grown - 1
        net, _ = model.train(curves, model.prepare(curves), None, 2)
        nets.append(flat(net))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)


@pytest.mark.slow
def test_processes_that_are_started_anew_do_the_same(
    curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA needs them."""
    monkeypatch.setattr("ltvnet.models.neural.training._start_method", lambda _: "spawn")
    nets = []
    for machine in ({}, DDP):
        model = neural("mlp", **machine)
        nets.append(flat(model.train(curves, model.prepare(curves), None, 2)[0]))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "fsdp"}, "expected strategy out of auto, ddp, got 'fsdp'"),
        ({"precision": "16"}, "expected precision out of 32-true, tf32, bf16-mixed, got '16'"),
    ],
)
def test_a_machine_is_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardwareConfig(**MACHINE | change)  # type: ignore[arg-type]
