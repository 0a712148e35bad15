"""Every net: the untrained net is the pattern, all of it learns, it sees nothing unobserved."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from factories.neural import FIVE_NODES, NETS, make_net
from torch import Tensor, nn

from ltvnet.data.curves import NODES
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.heads import TaskInputs
from ltvnet.models.neural.nets.losses import LossConfig, loss_and_gradient


@pytest.fixture(scope="module")
def tasks(prepared: tuple[CohortTensors, InputScaling]) -> Tasks:
    return prepared[0].draw_tasks(2, torch.Generator().manual_seed(0))


@pytest.fixture(params=NETS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NETS[request.param]


def backward(net: nn.Module, windows: CohortTensors, tasks: Tasks, kind: str) -> None:
    """Gradients of the loss, as training weighs targets."""
    targets = windows.targets(tasks)
    counts = targets.pattern_growth > 1e-6 * targets.pattern_growth.mean()
    targets = targets._replace(
        pattern_growth=torch.where(counts, targets.pattern_growth, 1.0),
        weight=targets.weight * counts,
    )
    raw = net(windows.inputs_and_targets(tasks)[0])
    rule = LossConfig(kind, 0.8, 1.0, targets.pattern_growth.mean())
    raw.backward(
        loss_and_gradient(raw.detach(), targets, rule, 0.0).gradient / targets.weight.numel()
    )


def train_one_step(net: nn.Module, windows: CohortTensors, tasks: Tasks, kind: str) -> nn.Module:
    """The net after one step of the optimiser, with the gradients of the next."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    backward(net, windows, tasks, kind)
    optimizer.step()
    optimizer.zero_grad()
    backward(net, windows, tasks, kind)
    return net


def test_an_untrained_net_departs_by_exactly_nothing(
    config: dict[str, Any], prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    windows, scaling = prepared
    raw = make_net(config, scaling.input_sizes)(windows.inputs_and_targets(tasks)[0])
    assert raw.shape == (len(tasks.observed_age), len(NODES) - 1, 4)
    assert torch.equal(raw, torch.zeros_like(raw))


@pytest.mark.parametrize("kind", ["deviance", "huber"])
def test_every_parameter_has_a_gradient_after_one_step(
    config: dict[str, Any], kind: str, prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    """Layers before a last layer of zeros learn from the second step on."""
    windows, scaling = prepared
    net = train_one_step(make_net(config, scaling.input_sizes), windows, tasks, kind)
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("quantity", range(4))
def test_every_head_reaches_every_parameter(
    config: dict[str, Any],
    quantity: int,
    prepared: tuple[CohortTensors, InputScaling],
    tasks: Tasks,
) -> None:
    """Each of mean, p50 and the two gaps alone teaches all layers that the heads share."""
    windows, scaling = prepared
    net = train_one_step(make_net(config, scaling.input_sizes), windows, tasks, "huber")
    net.zero_grad()
    net(windows.inputs_and_targets(tasks)[0])[..., quantity].square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_the_size_of_a_batch_changes_nothing(
    config: dict[str, Any], prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    windows, scaling = prepared
    net = train_one_step(make_net(config, scaling.input_sizes), windows, tasks, "huber").eval()
    all_rows = net(windows.inputs_and_targets(tasks)[0])
    for rows in (slice(3, 4), slice(10, 27)):
        some_rows = net(
            windows.inputs_and_targets(Tasks(tasks.cohort_index[rows], tasks.observed_age[rows]))[0]
        )
        torch.testing.assert_close(some_rows, all_rows[rows], rtol=1e-5, atol=1e-7)


def test_what_is_not_observed_moves_no_bit(
    config: dict[str, Any], prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    windows, scaling = prepared
    net = train_one_step(make_net(config, scaling.input_sizes), windows, tasks, "huber").eval()
    age = tasks.observed_age.new_full((len(windows),), 18)
    tasks_at_18 = Tasks(torch.arange(len(windows)), age)

    def raw_with_garbage_from(first: int) -> Tensor:
        values = windows.values.clone()
        values[:, first:] = 1e9
        raw: Tensor = net(replace(windows, values=values).inputs_and_targets(tasks_at_18)[0])
        return raw

    assert torch.equal(raw_with_garbage_from(19), net(windows.inputs_and_targets(tasks_at_18)[0]))
    assert not torch.equal(
        raw_with_garbage_from(18), net(windows.inputs_and_targets(tasks_at_18)[0])
    )


def test_sizes_are_read_from_the_inputs(config: dict[str, Any]) -> None:
    """Nets know no constant of the windows: other numbers of nodes and features work as well."""
    batch = TaskInputs(
        node_features=torch.randn(6, 5, 2),
        is_observed=torch.arange(5) <= torch.randint(0, 5, (6, 1)),
        scalars=torch.randn(6, 3),
        codes=torch.zeros(6, 2, dtype=torch.long),
    )
    assert make_net(config, FIVE_NODES)(batch).shape == (6, 4, 4)
    bare = FIVE_NODES._replace(categories=())
    assert make_net(config, bare)(batch._replace(codes=batch.codes[:, :0])).shape == (6, 4, 4)
