"""Two processes that share every batch learn what one process does."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.neural import make_deterministic, train_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves

DDP = {"strategy": "ddp", "devices": 2}


def flat_weights(net: torch.nn.Module) -> Floats:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]).numpy()


def inner_losses(run: Path) -> list[float]:
    """The loss of each step of the inner fit."""
    events = EventAccumulator(str(run / "inner"))
    events.Reload()  # type: ignore[no-untyped-call]
    return [event.value for event in events.Scalars("train/loss_step")]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("net", ["lstm", "mlp", "tide"])
def test_two_processes_learn_what_one_does(
    net: str, training_curves: Curves, tmp_path: Path
) -> None:
    """Each loss is a ratio of sums over the whole batch, and attributes are hidden in both."""
    single_scores = make_deterministic(net, tmp_path / "one").inner_scores(training_curves)
    shared_model = make_deterministic(net, tmp_path / "two", **DDP)
    shared_scores = shared_model.inner_scores(training_curves)
    assert len(single_scores) == len(shared_scores) == 3
    np.testing.assert_allclose(shared_scores, single_scores, rtol=1e-5, atol=1e-7)
    losses = inner_losses(tmp_path / "one")
    assert len(losses) > 4 and losses[-1] < losses[0]
    np.testing.assert_allclose(inner_losses(tmp_path / "two"), losses, rtol=1e-5)
    assert not {"MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)


def test_the_weights_are_those_of_one_process(training_curves: Curves) -> None:
    nets = []
    for machine in ({}, DDP):
        net = train_for(make_deterministic("mlp", **machine), training_curves, epochs=2)
        nets.append(flat_weights(net))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)
    assert np.abs(nets[0]).max() > 0.1


def test_one_process_writes_and_both_take_up(training_curves: Curves, tmp_path: Path) -> None:
    """A run of two processes that stopped after its first epoch ends where an unbroken one does."""
    unbroken, interrupted = (
        make_deterministic("mlp", tmp_path / name, **DDP) for name in ("whole", "cut")
    )
    net = train_for(unbroken, training_curves, epochs=2)
    train_for(interrupted, training_curves, epochs=1)
    resumed = train_for(interrupted, training_curves, epochs=2)
    np.testing.assert_array_equal(flat_weights(resumed), flat_weights(net))
    assert len(list((tmp_path / "whole").glob("events*"))) == 1
    checkpoints = {path.name for path in (tmp_path / "whole" / "checkpoints").iterdir()}
    assert checkpoints == {"best.ckpt", "last.ckpt"}


def test_processes_that_get_nothing_of_a_batch_still_add_up(training_curves: Curves) -> None:
    """More processes than tasks in the last batch."""
    nets = []
    for machine in ({}, DDP):
        model = make_deterministic("lstm", **machine)
        grown = int((training_curves.observed_age > 0).sum())
        model.training = replace(model.training, tasks=1, batch_size=grown - 1)
        nets.append(flat_weights(train_for(model, training_curves, epochs=2)))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)


@pytest.mark.slow
def test_processes_that_are_started_anew_do_the_same(
    training_curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA needs them."""
    monkeypatch.setattr("ltvnet.models.neural.training.process_start_method", lambda _: "spawn")
    nets = []
    for machine in ({}, DDP):
        model = make_deterministic("mlp", **machine)
        nets.append(flat_weights(train_for(model, training_curves, epochs=2)))
    np.testing.assert_allclose(nets[1], nets[0], atol=1e-5)
