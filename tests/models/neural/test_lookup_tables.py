"""Cells are chosen by masks of bits."""

import torch

from ltvnet.models.neural.lookup_tables import bit_mask, copy_masked


def test_bits_choose_values_exactly() -> None:
    values = torch.tensor([1.5, float("nan"), float("-inf"), -2.0])
    target = torch.full((4,), 7.0)
    copy_masked(
        values, bit_mask(torch.tensor([True, False, False, True])), target.view(torch.int32)
    )
    assert target.tolist() == [1.5, 0.0, 0.0, -2.0]
