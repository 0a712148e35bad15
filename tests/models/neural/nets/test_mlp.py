"""The MLP checks its sizes; what all nets have in common is in test_nets."""

import pytest
from factories.neural import FIVE_NODES

from ltvnet.models.neural.nets.mlp import MLP


@pytest.mark.parametrize("hidden", [[], [8, 0]])
def test_bad_sizes_are_refused(hidden: list[int]) -> None:
    with pytest.raises(ValueError, match=r"list of hidden >= 1.*got hidden=\["):
        MLP(sizes=FIVE_NODES, hidden=hidden, embedding=2, dropout=0.1)
