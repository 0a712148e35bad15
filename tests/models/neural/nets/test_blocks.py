"""A residual block, written out."""

import pytest
import torch

from ltvnet.models.neural.nets.blocks import ResidualBlock


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


def test_a_dropout_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dropout in \[0, 1\), got before=2.*dropout=1.0"):
        ResidualBlock(input_width=2, hidden=2, output_width=2, dropout=1.0, norm=False)
