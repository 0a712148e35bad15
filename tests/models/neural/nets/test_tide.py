"""TiDE's encoder, decoders and skip, apart from cohorts."""

import pytest
import torch
from factories.configs import TIDE_LAYERS
from factories.neural import FIVE_NODES
from torch import Tensor, nn

from ltvnet.models.neural.nets.blocks import ResidualBlock
from ltvnet.models.neural.nets.tide import CohortTiDE, TiDE, TiDELayers, TiDEShape, node_positions


def make_tide(*, encoder: int = 1, decoder: int = 1, norm: bool = False, outputs: int = 1) -> TiDE:
    torch.manual_seed(0)
    shape = TiDEShape(lookback=7, steps=10, horizon=3, covariates=2, attributes=1, outputs=outputs)
    layers = TiDELayers(**TIDE_LAYERS | {"encoder": encoder, "decoder": decoder})
    return TiDE(shape=shape, layers=layers, dropout=0.0, norm=norm)


def random_inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 7), torch.randn(6, 10, 2), torch.randn(6, 1)


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 1), (1, 3), (2, 1)])
def test_encoder_and_decoder_have_depths_of_their_own_and_none_is_linear(
    encoder: int, decoder: int
) -> None:
    net = make_tide(encoder=encoder, decoder=decoder)
    blocks = list(net.dense)
    assert len(blocks) == encoder + decoder and len(set(map(id, blocks))) == len(blocks)
    assert blocks[encoder - 1].out.out_features == TIDE_LAYERS["hidden"]
    for block in blocks:
        x = torch.randn(20, block.skip.in_features)
        bent = block(x) + block(-x) - 2 * block(torch.zeros_like(x))
        assert bent.abs().max() > 1e-3  # zero for every affine map
        assert (block(x) - block.skip(x)).std() > 1e-3


def test_the_temporal_decoder_has_no_norm() -> None:
    """A norm over its single output would be a constant, and the encoder would learn nothing."""
    net = make_tide(norm=True)
    assert isinstance(net.temporal.norm, nn.Identity)
    assert isinstance(net.dense[0].norm, nn.LayerNorm)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(*random_inputs()) - 1.0).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    with pytest.raises(ValueError, match="expected after > 1 with norm=True"):
        ResidualBlock(input_width=2, hidden=2, output_width=1, dropout=0.0, norm=True)


def test_a_linear_map_of_the_lookback_is_learned_by_the_skip_alone() -> None:
    net = make_tide(outputs=2)
    weight = torch.randn(6, 7)
    net.skip.weight.data = weight
    lookback, *other_inputs = random_inputs()
    expected = (lookback @ weight.T).reshape(6, 3, 2)
    torch.testing.assert_close(net(lookback, *other_inputs), expected)


def test_covariates_of_the_horizon_are_the_last() -> None:
    """The temporal decoder reads each step's own: the last step's move the last step alone."""
    net = make_tide()
    torch.nn.init.normal_(net.temporal.skip.weight)
    lookback, covariates, attributes = random_inputs()
    net.dense = nn.Sequential(nn.Flatten(), Constant(3 * TIDE_LAYERS["decoded"]))  # type: ignore[assignment]
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
    position, lead, is_seen = node_positions(observed)[0].T
    assert position.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert lead.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert is_seen.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="embedding >= 1, got 0"):
        CohortTiDE(sizes=FIVE_NODES, layers=TIDE_LAYERS, embedding=0, dropout=0.1, norm=False)

    without_decoder = TIDE_LAYERS | {"decoder": 0}
    with pytest.raises(ValueError, match=r"sizes >= 1 and horizon <= steps.*decoder=0"):
        CohortTiDE(sizes=FIVE_NODES, layers=without_decoder, embedding=2, dropout=0.1, norm=False)
