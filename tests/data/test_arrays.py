"""Blocks of rows, text columns as codes, and ranks of keys."""

import numpy as np
import pytest

from ltvnet.data.arrays import BLOCK, Categorical, block_slices, factorize, key_ranks


@pytest.mark.parametrize("count", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_blocks_cover_all_rows_in_order(count: int) -> None:
    blocks = [np.arange(count)[block] for block in block_slices(count)]
    assert np.concatenate([np.empty(0, int), *blocks]).tolist() == list(range(count))
    assert all(len(block) == BLOCK for block in blocks[:-1])


def test_a_column_is_codes_of_its_sorted_values() -> None:
    column = factorize(np.array(["b", "a", "c", "a"], dtype=object))
    assert column.codes.tolist() == [1, 0, 2, 0]
    assert column.values.tolist() == ["a", "b", "c"]
    assert column.positions_in(["a", "c"]).tolist() == [-1, 0, 1, 0]
    assert column.positions_in([]).tolist() == [-1] * 4


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a value in a key, got none in row 1: '' is an"):
        factorize(np.array(["a", None], dtype=object))


def test_keys_are_ranked_column_by_column() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 4, 50) for _ in range(3)]
    ranks = key_ranks([factorize(column) for column in columns])
    rank_of = dict(zip(zip(*columns, strict=True), ranks.tolist(), strict=True))
    assert len(set(rank_of.values())) == len(rank_of)  # equal keys share a rank, others do not
    assert [rank_of[key] for key in sorted(rank_of)] == sorted(rank_of.values())


def test_ranks_of_many_combinations_do_not_overflow() -> None:
    """Nine columns of 2000 values have 2000^9 > 2^63 combinations."""
    values = np.arange(2000)
    codes = np.array([1999, 0, 1999])
    columns = [Categorical(codes, values)] * 9
    first, second, third = key_ranks(columns).tolist()
    assert second < first == third
