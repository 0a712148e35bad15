"""What tasks are gathered from: the formulas written out, and nothing of what is not observed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cohorts import weekly
from test_ddp import neural

from ltvnet.data.curves import NODES
from ltvnet.models.neural.lookup_tables import keep, mask
from ltvnet.models.neural.task_sampling import Draws, Plan, Share
from ltvnet.models.neural.windows import GAIN, NOISE, Tasks, Windows


@pytest.fixture(scope="module")
def windows() -> Windows:
    known = weekly(60).as_of("2024-02-29")
    curves = known.take(known.observed_age >= 0)
    fitted = neural("lstm")._untrained(curves)
    return Windows.of(curves, fitted.pattern.held_out(curves), fitted.scaling)


def test_inputs_are_the_formulas_written_out(windows: Windows) -> None:
    row, age = 30, 18
    inputs = windows.both(Tasks(torch.tensor([row]), torch.tensor([age])))[0]
    volume = float(windows.users[row]) / (NOISE * windows.unit)
    values, beta = windows.values[row].double().numpy(), windows.beta[row].double().numpy()
    prior, level = float(windows.prior[row, age]), float(windows.level[row, age])
    nodes = [node for node in NODES if node <= age]
    seen, expected = volume * values[nodes], volume * prior * beta[nodes]
    for column, (one, other) in enumerate(
        ((seen, expected), (np.diff(seen, prepend=0), np.diff(expected, prepend=0)))
    ):
        ratio = GAIN * (np.log1p(np.maximum(one, -0.5)) - np.log1p(other))
        found = inputs.prefix[0, : len(nodes), column].numpy()
        np.testing.assert_allclose(found, ratio, rtol=1e-4, atol=1e-4)
    assert inputs.prefix[0, len(nodes) :].eq(0).all()
    assert inputs.observed[0].tolist() == [node <= age for node in NODES]
    now = np.log1p(volume * values[age]) - np.log1p(volume * prior * beta[age])
    scalars = [
        now,
        np.log(level / prior),
        np.log(float(windows.users[row])),
        np.log1p(age) / 3 - 1,
        np.log1p(volume * prior * beta[age]) / 3 - 1,
        2 * beta[age] - 1,
    ]
    np.testing.assert_allclose(inputs.scalars[0].numpy(), scalars, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_what_is_not_observed_is_not_seen_whatever_it_is(windows: Windows, garbage: float) -> None:
    tasks = Tasks(torch.arange(5), torch.full((5,), 18))
    values = windows.values.clone()
    values[:, 19:] = garbage
    spoiled = replace(windows, values=values).both(tasks)[0]
    for one, other in zip(windows.both(tasks)[0], spoiled, strict=True):
        assert torch.equal(one, other)


def test_bits_choose_values_exactly() -> None:
    values = torch.tensor([1.5, float("nan"), float("-inf"), -2.0])
    chosen = torch.full((4,), 7.0)
    keep(values, mask(torch.tensor([True, False, False, True])), chosen.view(torch.int32))
    assert chosen.tolist() == [1.5, 0.0, 0.0, -2.0]


def test_both_are_inputs_and_targets(windows: Windows) -> None:
    tasks = windows.draw(2, torch.Generator().manual_seed(0))
    inputs, targets = windows.both(tasks)
    for one, other in zip(inputs, windows.both(tasks)[0], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(targets, windows.targets(tasks), strict=True):
        assert torch.equal(one, other)


def test_the_patterns_growth_adds_up(windows: Windows) -> None:
    """Steps to the node before the last age, and the part of the interval up to it."""
    tasks = windows.draw(3, torch.Generator().manual_seed(1))
    targets = windows.targets(tasks)
    assert (targets.steps >= 0).all() and (targets.part >= 0).all()
    last = windows.last[tasks.cohort]
    level = windows.level[tasks.cohort, tasks.age]
    whole = level * (windows.beta[tasks.cohort, last] - windows.beta[tasks.cohort, tasks.age])
    torch.testing.assert_close(targets.pattern[:, -1], whole, rtol=1e-5, atol=1e-6)
    before = torch.arange(len(NODES) - 1) < targets.interval.unsqueeze(1)
    added = (targets.steps * before).sum(dim=1) + targets.part
    torch.testing.assert_close(added, whole, rtol=1e-4, atol=1e-5)


def test_more_batches_are_made_together_where_launches_cost(windows: Windows) -> None:
    draws = Draws(windows=windows, plan=Plan(1, 256, 0.1), seed=0, share=Share(0, 1))
    assert draws.together == 16
    draws.hidden = draws.hidden.to("meta")
    assert draws.together == 512


def test_what_is_hidden_is_the_unseen_category(windows: Windows) -> None:
    draws = Draws(windows=windows, plan=Plan(2, 16, 0.5), seed=0, share=Share(0, 1))
    codes = torch.cat([block.batch.inputs.codes for block in draws])
    drawn = windows.codes[draws.tasks.cohort]
    assert codes[draws.hidden].eq(0).all() and draws.hidden.any()
    assert codes[~draws.hidden].equal(drawn[~draws.hidden])
