"""What tasks are gathered from: the formulas written out, and nothing of what is not observed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cohorts import weekly
from test_ddp import neural

from ltvnet.data.curves import NODES
from ltvnet.models.neural.cohort_tensors import DAMPING_VOLUME, CohortTensors, Tasks
from ltvnet.models.neural.lookup_tables import bit_mask, copy_masked
from ltvnet.models.neural.task_inputs import INPUT_GAIN
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard


@pytest.fixture(scope="module")
def windows() -> CohortTensors:
    known = weekly(60).as_of("2024-02-29")
    curves = known.take(known.observed_age >= 0)
    fitted = neural("lstm").prepare(curves)
    return CohortTensors.from_curves(
        curves, fitted.pattern.leave_one_out_curves(curves), fitted.scaling
    )


def test_inputs_are_the_formulas_written_out(windows: CohortTensors) -> None:
    row, age = 30, 18
    inputs = windows.inputs_and_targets(Tasks(torch.tensor([row]), torch.tensor([age])))[0]
    volume = float(windows.relative_users[row]) / (DAMPING_VOLUME * windows.unit_per_user)
    values, beta = windows.values[row].double().numpy(), windows.beta[row].double().numpy()
    prior, level = float(windows.prior[row, age]), float(windows.level[row, age])
    nodes = [node for node in NODES if node <= age]
    seen, expected = volume * values[nodes], volume * prior * beta[nodes]
    for column, (one, other) in enumerate(
        ((seen, expected), (np.diff(seen, prepend=0), np.diff(expected, prepend=0)))
    ):
        ratio = INPUT_GAIN * (np.log1p(np.maximum(one, -0.5)) - np.log1p(other))
        found = inputs.node_features[0, : len(nodes), column].numpy()
        np.testing.assert_allclose(found, ratio, rtol=1e-4, atol=1e-4)
    assert inputs.node_features[0, len(nodes) :].eq(0).all()
    assert inputs.is_observed[0].tolist() == [node <= age for node in NODES]
    now = np.log1p(volume * values[age]) - np.log1p(volume * prior * beta[age])
    scalars = [
        now,
        np.log(level / prior),
        np.log(float(windows.relative_users[row])),
        np.log1p(age) / 3 - 1,
        np.log1p(volume * prior * beta[age]) / 3 - 1,
        2 * beta[age] - 1,
    ]
    np.testing.assert_allclose(inputs.scalars[0].numpy(), scalars, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_what_is_not_observed_is_not_seen_whatever_it_is(
    windows: CohortTensors, garbage: float
) -> None:
    tasks = Tasks(torch.arange(5), torch.full((5,), 18))
    values = windows.values.clone()
    values[:, 19:] = garbage
    spoiled = replace(windows, values=values).inputs_and_targets(tasks)[0]
    for one, other in zip(windows.inputs_and_targets(tasks)[0], spoiled, strict=True):
        assert torch.equal(one, other)


def test_bits_choose_values_exactly() -> None:
    values = torch.tensor([1.5, float("nan"), float("-inf"), -2.0])
    chosen = torch.full((4,), 7.0)
    copy_masked(
        values, bit_mask(torch.tensor([True, False, False, True])), chosen.view(torch.int32)
    )
    assert chosen.tolist() == [1.5, 0.0, 0.0, -2.0]


def test_both_are_inputs_and_targets(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(2, torch.Generator().manual_seed(0))
    inputs, targets = windows.inputs_and_targets(tasks)
    for one, other in zip(inputs, windows.inputs_and_targets(tasks)[0], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(targets, windows.targets(tasks), strict=True):
        assert torch.equal(one, other)


def test_the_patterns_growth_adds_up(windows: CohortTensors) -> None:
    """Steps to the node before the last age, and the part of the interval up to it."""
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(1))
    targets = windows.targets(tasks)
    assert (targets.interval_growth >= 0).all() and (targets.last_interval_growth >= 0).all()
    last = windows.last_age[tasks.cohort_index]
    level = windows.level[tasks.cohort_index, tasks.observed_age]
    whole = level * (
        windows.beta[tasks.cohort_index, last]
        - windows.beta[tasks.cohort_index, tasks.observed_age]
    )
    torch.testing.assert_close(targets.pattern_growth[:, -1], whole, rtol=1e-5, atol=1e-6)
    before = torch.arange(len(NODES) - 1) < targets.last_interval.unsqueeze(1)
    added = (targets.interval_growth * before).sum(dim=1) + targets.last_interval_growth
    torch.testing.assert_close(added, whole, rtol=1e-4, atol=1e-5)


def test_more_batches_are_made_together_where_launches_cost(windows: CohortTensors) -> None:
    draws = EpochSampler(
        windows=windows, plan=EpochPlan(1, 256, 0.1), seed=0, share=ProcessShard(0, 1)
    )
    assert draws.batches_per_group == 16
    draws.is_hidden = draws.is_hidden.to("meta")
    assert draws.batches_per_group == 512


def test_what_is_hidden_is_the_unseen_category(windows: CohortTensors) -> None:
    draws = EpochSampler(
        windows=windows, plan=EpochPlan(2, 16, 0.5), seed=0, share=ProcessShard(0, 1)
    )
    codes = torch.cat([block.batch.inputs.codes for block in draws])
    drawn = windows.codes[draws.tasks.cohort_index]
    assert codes[draws.is_hidden].eq(0).all() and draws.is_hidden.any()
    assert codes[~draws.is_hidden].equal(drawn[~draws.is_hidden])
