"""Gradients of a batch, with and without a captured graph."""

from dataclasses import replace

import pytest
import torch
from factories.configs import LSTM, arguments_of
from factories.models import make_run_context
from factories.neural import module_on

from ltvnet.data.curves import Curves
from ltvnet.models.neural.forecaster import NeuralForecaster
from ltvnet.models.neural.task_sampling import Batch, EpochSampler, ProcessShard


class OtherShapes:
    """Stands for a graph that was captured for a batch of another size."""

    def matches_shapes(self, _: Batch) -> bool:
        return False


def test_gradients_beside_recorded_ones_stay_in_place_and_do_not_add_up(
    training_curves: Curves,
) -> None:
    module = module_on(torch.device("cpu"), training_curves)
    draws = EpochSampler(
        cohort_tensors=module.cohort_tensors, plan=module.plan, seed=0, shard=ProcessShard(0, 1)
    )
    first, second = list(module.normalized_batches(next(iter(draws))))[:2]
    size = len(first.cohort_index)
    module.compute_gradient(second, size)
    expected = [weight.grad.clone() for weight in module.net_parameters if weight.grad is not None]
    module.captured_graph = OtherShapes()  # type: ignore[assignment]
    module.compute_gradient(first, size)
    addresses = [
        weight.grad.data_ptr() for weight in module.net_parameters if weight.grad is not None
    ]
    module.compute_gradient(second, size)
    for weight, address, gradient in zip(module.net_parameters, addresses, expected, strict=True):
        assert weight.grad is not None and weight.grad.data_ptr() == address
        torch.testing.assert_close(weight.grad, gradient)


def test_a_batch_in_which_nothing_counts_teaches_nothing(training_curves: Curves) -> None:
    """Cohorts without users: no loss, no slope but that of the penalty, and no NaN."""
    module = module_on(torch.device("cpu"), training_curves)
    module.cohort_tensors = replace(
        module.cohort_tensors, relative_users=torch.zeros_like(module.cohort_tensors.relative_users)
    )
    draws = EpochSampler(
        cohort_tensors=module.cohort_tensors, plan=module.plan, seed=0, shard=ProcessShard(0, 1)
    )
    batch = next(module.normalized_batches(next(iter(draws))))
    assert float(module.compute_gradient(batch, len(batch.cohort_index))) == 0.0
    assert all(x.grad is not None and x.grad.eq(0).all() for x in module.net_parameters)


def test_rounded_weights_are_of_the_step_that_reads_them(
    training_curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of a block are steps of their own in bfloat16 too, whatever is kept of casts."""
    states = []
    for block in (4096, 1):
        monkeypatch.setattr("ltvnet.models.neural.task_sampling.TASKS_PER_GROUP", block)
        model = NeuralForecaster(
            **arguments_of(LSTM), context=make_run_context(precision="bf16-mixed")
        )
        net = model.fit(training_curves).fitted_net.net
        assert net is not None
        states.append(net.state_dict())
    for weights_of_group, weights_of_batch in zip(
        *(state.values() for state in states), strict=True
    ):
        assert torch.equal(weights_of_group, weights_of_batch)
