"""Recorded work gives what the same work gives unrecorded; most of this needs a GPU."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cohorts import weekly
from factories import run_context
from test_forecaster import COVARIATES, MACHINE, NET, PATTERN, TRAINING
from torch import Tensor

from ltvnet.data.curves import Curves
from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.cuda_graphs import CapturedGraph, copy_to, iter_tensors
from ltvnet.models.neural.forecaster import NeuralForecaster, build_net
from ltvnet.models.neural.task_sampling import Batch, EpochPlan, EpochSampler, ProcessShard
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import ResidualTrainingModule

GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_GPU = MACHINE | {"accelerator": "gpu"}


class Pair(NamedTuple):
    one: Tensor
    others: tuple[Tensor, ...]


def test_a_copy_has_the_same_form_and_tensors_of_its_own() -> None:
    pair = Pair(torch.ones(2), (torch.zeros(3), torch.arange(2)))
    copy = copy_to(pair, torch.device("cpu"))
    assert isinstance(copy, Pair) and isinstance(copy.others, tuple)
    for mine, other in zip(iter_tensors(copy), iter_tensors(pair), strict=True):
        assert torch.equal(mine, other) and mine is not other
    assert [len(x) for x in iter_tensors(pair)] == [2, 3, 2]


@needs_gpu
def test_recorded_work_reads_what_it_is_given_and_draws_anew() -> None:
    pair = Pair(torch.ones(4, device=GPU), (torch.zeros(4, device=GPU),))
    torch.manual_seed(1)
    expected = torch.rand(4, device=GPU)
    torch.manual_seed(1)
    recorded = CapturedGraph(lambda x: x.one + 2 * x.others[0] + torch.rand_like(x.one), pair)
    torch.testing.assert_close(recorded(pair), 1 + expected)
    other = Pair(torch.full((4,), 5.0, device=GPU), (torch.ones(4, device=GPU),))
    first, second = recorded(other), recorded(other)
    assert (first - 7 < 1).all() and (first >= 7).all() and not torch.equal(first, second)
    assert not recorded.matches_shapes(
        Pair(torch.ones(3, device=GPU), (torch.ones(4, device=GPU),))
    )


@pytest.fixture(scope="module")
def curves() -> Curves:
    known = weekly(60).as_of("2024-02-29")
    return known.take(known.observed_age >= 0)


def model(machine: dict[str, object], **net: object) -> NeuralForecaster:
    return NeuralForecaster(
        net=NET | net, pattern=PATTERN, training=TRAINING, covariates=COVARIATES,
        context=replace(run_context(), hardware=HardwareConfig(**machine)),
    )  # fmt: skip


def on(device: torch.device, curves: Curves) -> ResidualTrainingModule:
    """A module on a device, before its first step; without dropout, which is drawn there."""
    neural = model(MACHINE, dropout=0.0)
    fitted = neural.prepare(curves)
    windows = CohortTensors.from_curves(
        curves, fitted.pattern.leave_one_out_curves(curves), fitted.scaling
    )
    torch.manual_seed(0)
    net = build_net(neural.net, fitted.scaling.input_sizes)
    job = TrainingJob(
        net=net, cohort_tensors=windows.to(device), validation=None,
        confidence=fitted.confidence, seed=0, stop_epoch=1,
        checkpoint_folder=None, event_folder=None,
    )  # fmt: skip
    module = ResidualTrainingModule(
        job=job, training=TrainingConfig(**TRAINING), machine=HardwareConfig(**MACHINE)
    )
    module.scale = torch.ones(())
    return module.to(device).train()


def stepped(module: ResidualTrainingModule, batches: list[Batch]) -> list[float]:
    """Losses of steps of gradient descent."""
    losses = []
    for batch in batches:
        losses.append(float(module.compute_gradient(batch, len(batch.cohort_index))))
        with torch.no_grad():
            for weight in module.net.parameters():
                assert weight.grad is not None
                weight -= 0.05 * weight.grad
    return losses


@needs_gpu
def test_steps_on_a_gpu_learn_what_those_on_a_cpu_do(curves: Curves) -> None:
    """Recorded ones, and the smaller last one of an epoch that is not, and ones after it."""
    here, there = on(torch.device("cpu"), curves), on(GPU, curves)
    plan = EpochPlan(TRAINING["tasks"], TRAINING["batch_size"], TRAINING["unseen"])
    draws = EpochSampler(windows=here.cohort_tensors, plan=plan, seed=0, share=ProcessShard(0, 1))
    batches = [batch for block in draws for batch in here.normalized_batches(block)] * 2
    assert len({len(batch.cohort_index) for batch in batches}) == 2
    moved = [copy_to(batch, GPU) for batch in batches]
    expected, found = stepped(here, batches), stepped(there, moved)
    assert there.captured_graph is not None and here.captured_graph is None
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for mine, other in zip(there.net.parameters(), here.net.parameters(), strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-3, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "tf32", "bf16-mixed"])
def test_a_fit_on_a_gpu_is_repeatable_and_forecasts_anywhere(
    curves: Curves, precision: str
) -> None:
    machine = ON_GPU | {"precision": precision}
    one, same = model(machine).fit(curves), model(machine).fit(curves)
    here = one.predict(curves).final.mean
    np.testing.assert_allclose(same.predict(curves).final.mean, here, rtol=1e-4)
    one.to("cuda")
    np.testing.assert_allclose(one.predict(curves).final.mean, here, rtol=1e-4)
    values, arrays = one.state()
    again = NeuralForecaster.from_state(values, arrays)
    np.testing.assert_allclose(again.predict(curves).final.mean, here, rtol=1e-6)


class Unfit:
    """Stands for recorded work of another size."""

    def matches_shapes(self, _: Batch) -> bool:
        return False


def test_gradients_beside_recorded_ones_stay_in_place_and_do_not_add_up(curves: Curves) -> None:
    module = on(torch.device("cpu"), curves)
    draws = EpochSampler(
        windows=module.cohort_tensors, plan=module.plan, seed=0, share=ProcessShard(0, 1)
    )
    first, second = list(module.normalized_batches(next(iter(draws))))[:2]
    size = len(first.cohort_index)
    module.compute_gradient(second, size)
    expected = [weight.grad.clone() for weight in module.net_parameters if weight.grad is not None]
    module.captured_graph = Unfit()  # type: ignore[assignment]
    module.compute_gradient(first, size)
    where = [weight.grad.data_ptr() for weight in module.net_parameters if weight.grad is not None]
    module.compute_gradient(second, size)
    for weight, place, gradient in zip(module.net_parameters, where, expected, strict=True):
        assert weight.grad is not None and weight.grad.data_ptr() == place
        torch.testing.assert_close(weight.grad, gradient)


def test_a_batch_in_which_nothing_counts_teaches_nothing(curves: Curves) -> None:
    """Cohorts without users: no loss, no slope but that of the penalty, and no NaN."""
    module = on(torch.device("cpu"), curves)
    module.cohort_tensors = replace(
        module.cohort_tensors, relative_users=torch.zeros_like(module.cohort_tensors.relative_users)
    )
    draws = EpochSampler(
        windows=module.cohort_tensors, plan=module.plan, seed=0, share=ProcessShard(0, 1)
    )
    batch = next(module.normalized_batches(next(iter(draws))))
    assert float(module.compute_gradient(batch, len(batch.cohort_index))) == 0.0
    assert all(x.grad is not None and x.grad.eq(0).all() for x in module.net_parameters)


def test_rounded_weights_are_of_the_step_that_reads_them(
    curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of a block are steps of their own in bfloat16 too, whatever is kept of casts."""
    states = []
    for block in (4096, 1):
        monkeypatch.setattr("ltvnet.models.neural.task_sampling.TASKS_PER_GROUP", block)
        net = model(MACHINE | {"precision": "bf16-mixed"}).fit(curves).fitted.net
        assert net is not None
        states.append(net.state_dict())
    for one, other in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(one, other)
