"""Every net: the untrained net is the pattern, all of it learns, it sees nothing unobserved."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from cohorts import weekly
from test_forecaster import NET, neural
from torch import Tensor, nn

from ltvnet.data.curves import NODES
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.forecaster import build_net
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.blocks import ResidualBlock
from ltvnet.models.neural.nets.heads import InputSizes, TaskInputs
from ltvnet.models.neural.nets.losses import LossConfig, loss_and_gradient
from ltvnet.models.neural.nets.lstm import LSTM
from ltvnet.models.neural.nets.mlp import MLP
from ltvnet.models.neural.nets.tide import CohortTiDE, TiDE, TiDELayers, TiDEShape, node_positions

LAYERS = {
    "hidden": 8,
    "encoder": 1,
    "decoder": 1,
    "projection_hidden": 6,
    "projection": 3,
    "decoded": 4,
    "temporal_hidden": 5,
}
TIDE = {"kind": "tide", "layers": LAYERS, "embedding": 2, "dropout": 0.1, "norm": False}
NETS: dict[str, dict[str, Any]] = {
    "lstm": NET,
    "mlp": {"kind": "mlp", "hidden": [8, 6], "embedding": 2, "dropout": 0.1},
    "tide": TIDE,
    "tide with norms": TIDE | {"norm": True, "layers": LAYERS | {"encoder": 2, "decoder": 2}},
}
SIZES = InputSizes(nodes=5, features=2, scalars=3, categories=(3, 2))


@pytest.fixture(scope="module")
def prepared() -> tuple[CohortTensors, InputScaling]:
    known = weekly(60).as_of("2024-02-29")
    curves = known.take(known.observed_age >= 0)
    fitted = neural().prepare(curves)
    windows = CohortTensors.from_curves(
        curves, fitted.pattern.leave_one_out_curves(curves), fitted.scaling
    )
    return windows, fitted.scaling


@pytest.fixture(scope="module")
def tasks(prepared: tuple[CohortTensors, InputScaling]) -> Tasks:
    return prepared[0].draw_tasks(2, torch.Generator().manual_seed(0))


@pytest.fixture(params=NETS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NETS[request.param]


def made(config: dict[str, Any], sizes: InputSizes) -> nn.Module:
    torch.manual_seed(0)
    return build_net(config, sizes)


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


def stepped(net: nn.Module, windows: CohortTensors, tasks: Tasks, kind: str) -> nn.Module:
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
    raw = made(config, scaling.input_sizes)(windows.inputs_and_targets(tasks)[0])
    assert raw.shape == (len(tasks.observed_age), len(NODES) - 1, 4)
    assert torch.equal(raw, torch.zeros_like(raw))


@pytest.mark.parametrize("kind", ["deviance", "huber"])
def test_every_parameter_has_a_gradient_after_one_step(
    config: dict[str, Any], kind: str, prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    """What stands before a last layer of zeros learns from the second step on."""
    windows, scaling = prepared
    net = stepped(made(config, scaling.input_sizes), windows, tasks, kind)
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
    net = stepped(made(config, scaling.input_sizes), windows, tasks, "huber")
    net.zero_grad()
    net(windows.inputs_and_targets(tasks)[0])[..., quantity].square().sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_the_size_of_a_batch_changes_nothing(
    config: dict[str, Any], prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    windows, scaling = prepared
    net = stepped(made(config, scaling.input_sizes), windows, tasks, "huber").eval()
    whole = net(windows.inputs_and_targets(tasks)[0])
    for rows in (slice(3, 4), slice(10, 27)):
        part = net(
            windows.inputs_and_targets(Tasks(tasks.cohort_index[rows], tasks.observed_age[rows]))[0]
        )
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-7)


def test_what_is_not_observed_moves_no_bit(
    config: dict[str, Any], prepared: tuple[CohortTensors, InputScaling], tasks: Tasks
) -> None:
    windows, scaling = prepared
    net = stepped(made(config, scaling.input_sizes), windows, tasks, "huber").eval()
    age = tasks.observed_age.new_full((len(windows),), 18)
    chosen = Tasks(torch.arange(len(windows)), age)

    def changed(first: int) -> Tensor:
        values = windows.values.clone()
        values[:, first:] = 1e9
        raw: Tensor = net(replace(windows, values=values).inputs_and_targets(chosen)[0])
        return raw

    assert torch.equal(changed(19), net(windows.inputs_and_targets(chosen)[0]))
    assert not torch.equal(changed(18), net(windows.inputs_and_targets(chosen)[0]))


def test_sizes_are_read_from_the_inputs(config: dict[str, Any]) -> None:
    """Nets know no constant of the windows: other numbers of nodes and features work as well."""
    batch = TaskInputs(
        node_features=torch.randn(6, 5, 2),
        is_observed=torch.arange(5) <= torch.randint(0, 5, (6, 1)),
        scalars=torch.randn(6, 3),
        codes=torch.zeros(6, 2, dtype=torch.long),
    )
    assert made(config, SIZES)(batch).shape == (6, 4, 4)
    bare = SIZES._replace(categories=())
    assert made(config, bare)(batch._replace(codes=batch.codes[:, :0])).shape == (6, 4, 4)


def test_bad_sizes_are_refused() -> None:
    for units in ([], [0]):
        with pytest.raises(ValueError, match=r"expected units, dense and embedding >= 1.*got \["):
            LSTM(sizes=SIZES, units=units, dense=4, embedding=2, dropout=0.1)
    for hidden in ([], [8, 0]):
        with pytest.raises(ValueError, match=r"expected a list of hidden >= 1.*got hidden=\["):
            MLP(sizes=SIZES, hidden=hidden, embedding=2, dropout=0.1)
    with pytest.raises(ValueError, match="expected embedding >= 1, got 0"):
        CohortTiDE(sizes=SIZES, layers=LAYERS, embedding=0, dropout=0.1, norm=False)
    with pytest.raises(ValueError, match=r"expected sizes >= 1 and horizon <= steps.*decoder=0"):
        CohortTiDE(
            sizes=SIZES, layers=LAYERS | {"decoder": 0}, embedding=2, dropout=0.1, norm=False
        )
    with pytest.raises(ValueError, match=r"dropout in \[0, 1\), got before=2.*dropout=1.0"):
        ResidualBlock(input_width=2, hidden=2, output_width=2, dropout=1.0, norm=False)


def core(*, encoder: int = 1, decoder: int = 1, norm: bool = False, outputs: int = 1) -> TiDE:
    torch.manual_seed(0)
    shape = TiDEShape(lookback=7, steps=10, horizon=3, covariates=2, attributes=1, outputs=outputs)
    layers = TiDELayers(**LAYERS | {"encoder": encoder, "decoder": decoder})
    return TiDE(shape=shape, layers=layers, dropout=0.0, norm=norm)


def seen() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 7), torch.randn(6, 10, 2), torch.randn(6, 1)


def test_a_residual_block_is_its_skip_and_a_hidden_layer() -> None:
    """Written out for two numbers: max(0, x W1' + b1) W2' + b2 + x W3'."""
    block = ResidualBlock(input_width=2, hidden=2, output_width=1, dropout=0.0, norm=False)
    for layer, weight, bias in (
        (block.hidden[0], [[1.0, 0.0], [0.0, 1.0]], [0.0, -1.0]),
        (block.out, [[2.0, 3.0]], [0.5]),
    ):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    block.skip.weight.data = torch.tensor([[10.0, 100.0]])
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    assert block(x).flatten().tolist() == [2.0 + 3.0 + 0.5 + 210.0, 0.5 - 10.0]


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 1), (1, 3), (2, 1)])
def test_encoder_and_decoder_have_depths_of_their_own_and_none_is_linear(
    encoder: int, decoder: int
) -> None:
    net = core(encoder=encoder, decoder=decoder)
    blocks = list(net.dense)
    assert len(blocks) == encoder + decoder and len(set(map(id, blocks))) == len(blocks)
    assert blocks[encoder - 1].out.out_features == LAYERS["hidden"]
    for block in blocks:
        x = torch.randn(20, block.skip.in_features)
        bent = block(x) + block(-x) - 2 * block(torch.zeros_like(x))
        assert bent.abs().max() > 1e-3  # zero for every affine map
        assert (block(x) - block.skip(x)).std() > 1e-3


def test_the_temporal_decoder_has_no_norm() -> None:
    """A norm over its single output would be a constant, and the encoder would learn nothing."""
    net = core(norm=True)
    assert isinstance(net.temporal.norm, nn.Identity)
    assert isinstance(net.dense[0].norm, nn.LayerNorm)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(*seen()) - 1.0).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    with pytest.raises(ValueError, match="expected after > 1 with norm=True"):
        ResidualBlock(input_width=2, hidden=2, output_width=1, dropout=0.0, norm=True)


def test_a_linear_map_of_the_lookback_is_learned_by_the_skip_alone() -> None:
    net = core(outputs=2)
    weight = torch.randn(6, 7)
    net.skip.weight.data = weight
    lookback, *others = seen()
    expected = (lookback @ weight.T).reshape(6, 3, 2)
    torch.testing.assert_close(net(lookback, *others), expected)


def test_covariates_of_the_horizon_are_the_last() -> None:
    """The temporal decoder reads each step's own: the last step's move the last step alone."""
    net = core()
    torch.nn.init.normal_(net.temporal.skip.weight)
    lookback, covariates, attributes = seen()
    net.dense = nn.Sequential(nn.Flatten(), Constant(3 * LAYERS["decoded"]))  # type: ignore[assignment]
    later = covariates.clone()
    later[:, -1] += 1.0
    moved = net(lookback, later, attributes) != net(lookback, covariates, attributes)
    assert moved[:, -1].all() and not moved[:, :-1].any()


class Constant(nn.Module):
    """A decoder that says nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.width)


def test_places_count_from_the_last_observed_node() -> None:
    observed = torch.tensor([[True, True, False, False, False]])
    place, lead, seen_ = node_positions(observed)[0].T
    assert place.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert lead.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert seen_.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_lstm_in_parts_is_the_same_lstm(
    prepared: tuple[CohortTensors, InputScaling], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a batch stop at their longest prefix: states and gradients are those of all."""
    windows, scaling = prepared
    net = made(NETS["lstm"], scaling.input_sizes).eval()
    nn.init.normal_(net.head.linear.weight)  # it starts at zero
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(2))
    inputs, found = windows.inputs_and_targets(tasks)[0], []
    for part in (10**9, 16):
        monkeypatch.setattr("ltvnet.models.neural.nets.lstm.TASKS_PER_CHUNK", part)
        raw = net(inputs)
        gradients = torch.autograd.grad(raw.square().sum(), list(net.layers.parameters()))
        found.append((raw.detach(), *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(tasks.observed_age) > 2 * 16
