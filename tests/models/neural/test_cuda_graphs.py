"""A captured graph gives what the same work gives without one; most of this needs a GPU."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from factories.configs import LSTM, TRAINING, arguments_of
from factories.models import make_run_context
from factories.neural import module_on
from torch import Tensor

from ltvnet.data.curves import Curves
from ltvnet.models.neural.cuda_graphs import CapturedGraph, copy_to, iter_tensors
from ltvnet.models.neural.forecaster import NeuralForecaster
from ltvnet.models.neural.task_sampling import Batch, EpochPlan, EpochSampler, ProcessShard
from ltvnet.models.neural.training_module import ResidualTrainingModule

GPU = torch.device("cuda")


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Pair(NamedTuple):
    one: Tensor
    others: tuple[Tensor, ...]


def test_a_copy_has_the_same_form_and_tensors_of_its_own() -> None:
    pair = Pair(torch.ones(2), (torch.zeros(3), torch.arange(2)))
    copy = copy_to(pair, torch.device("cpu"))
    assert isinstance(copy, Pair) and isinstance(copy.others, tuple)
    for copied_tensor, tensor in zip(iter_tensors(copy), iter_tensors(pair), strict=True):
        assert torch.equal(copied_tensor, tensor) and copied_tensor is not tensor
    assert [len(x) for x in iter_tensors(pair)] == [2, 3, 2]


@needs_gpu
def test_recorded_work_reads_what_it_is_given_and_draws_anew() -> None:
    pair = Pair(torch.ones(4, device=GPU), (torch.zeros(4, device=GPU),))
    torch.manual_seed(1)
    expected = torch.rand(4, device=GPU)
    torch.manual_seed(1)
    recorded = CapturedGraph(lambda x: x.one + 2 * x.others[0] + torch.rand_like(x.one), pair)
    torch.testing.assert_close(recorded(pair), 1 + expected)
    new_input = Pair(torch.full((4,), 5.0, device=GPU), (torch.ones(4, device=GPU),))
    first, second = recorded(new_input), recorded(new_input)
    assert (first - 7 < 1).all() and (first >= 7).all() and not torch.equal(first, second)
    assert not recorded.matches_shapes(
        Pair(torch.ones(3, device=GPU), (torch.ones(4, device=GPU),))
    )


def make_model(precision: str) -> NeuralForecaster:
    context = make_run_context(accelerator="gpu", precision=precision)
    return NeuralForecaster(**arguments_of(LSTM), context=context)


def train_steps(module: ResidualTrainingModule, batches: list[Batch]) -> list[float]:
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
def test_steps_on_a_gpu_learn_what_those_on_a_cpu_do(training_curves: Curves) -> None:
    """Captured steps, and the smaller last one of an epoch that is not, and steps after it."""
    here, there = module_on(torch.device("cpu"), training_curves), module_on(GPU, training_curves)
    plan = EpochPlan(TRAINING["tasks"], TRAINING["batch_size"], TRAINING["unseen"])
    draws = EpochSampler(
        cohort_tensors=here.cohort_tensors, plan=plan, seed=0, shard=ProcessShard(0, 1)
    )
    batches = [batch for block in draws for batch in here.normalized_batches(block)] * 2
    assert len({len(batch.cohort_index) for batch in batches}) == 2
    moved = [copy_to(batch, GPU) for batch in batches]
    cpu_losses, gpu_losses = train_steps(here, batches), train_steps(there, moved)
    assert there.captured_graph is not None and here.captured_graph is None
    np.testing.assert_allclose(gpu_losses, cpu_losses, rtol=1e-4)
    for gpu_weight, cpu_weight in zip(there.net.parameters(), here.net.parameters(), strict=True):
        torch.testing.assert_close(gpu_weight.cpu(), cpu_weight, rtol=1e-3, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "tf32", "bf16-mixed"])
def test_a_fit_on_a_gpu_is_repeatable_and_forecasts_anywhere(
    training_curves: Curves, precision: str
) -> None:
    first = make_model(precision=precision).fit(training_curves)
    second = make_model(precision=precision).fit(training_curves)
    here = first.predict(training_curves).final.mean
    np.testing.assert_allclose(second.predict(training_curves).final.mean, here, rtol=1e-4)
    first.to("cuda")
    np.testing.assert_allclose(first.predict(training_curves).final.mean, here, rtol=1e-4)
    values, arrays = first.state()
    again = NeuralForecaster.from_state(values, arrays)
    np.testing.assert_allclose(again.predict(training_curves).final.mean, here, rtol=1e-6)
