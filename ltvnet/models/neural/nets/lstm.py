"""Two recurrent layers over the observed nodes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.models.neural.nets.heads import AttributeEmbeddings, Head, InputSizes, TaskInputs

TASKS_PER_CHUNK, MAX_CHUNKS = 128, 8
"""Tasks that are worth a part of their own on a CPU, and the most parts of a batch."""


class LSTM(nn.Module):
    """Stacked LSTM over the prefix, a dense layer with scalars and attributes, the head.

    `units` of the recurrent layers, `dense` of the hidden layer, `embedding` of each attribute,
    `dropout` after each of these layers. Raises ValueError for no units, sizes below 1 or a
    dropout outside [0, 1).
    """

    def __init__(
        self, *, sizes: InputSizes, units: Sequence[int], dense: int, embedding: int, dropout: float
    ) -> None:
        """Build the layers."""
        super().__init__()
        if not units or min(*units, dense, embedding) < 1 or not 0.0 <= dropout < 1.0:
            raise ValueError(
                "expected units, dense and embedding >= 1, units of a layer or more, and dropout "
                f"in [0, 1), got {list(units)}, {dense}, {embedding} and {dropout}"
            )
        widths = [sizes.features, *units]
        self.layers = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True)
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.attributes = AttributeEmbeddings(categories=sizes.categories, width=embedding)
        self.dense = nn.Linear(units[-1] + sizes.scalars + self.attributes.width, dense)
        self.head = Head(width=dense, intervals=sizes.nodes - 1)

    def forward(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q). A state depends on earlier nodes only, so the last observed is taken."""
        last = inputs.is_observed.sum(dim=1) - 1  # (B,)
        state = self.dropout(self._states(inputs.node_features, last))
        joined = torch.cat((state, inputs.scalars, self.attributes(inputs.codes)), dim=1)
        raw: Tensor = self.head(self.dropout(functional.gelu(self.dense(joined))))
        return raw

    def _states(self, prefix: Tensor, last: Tensor) -> Tensor:
        """States (B, units) after the last node observed, at place `last` (B,).

        On a CPU in parts, from short prefixes to long, none of which goes on after its longest: a
        usual prefix has half of the nodes.
        """
        parts = min(len(last) // TASKS_PER_CHUNK, MAX_CHUNKS) if last.device.type == "cpu" else 1
        if parts < 2:
            return self._run(prefix, last)
        order = last.argsort()
        ends = last[order]
        states = [
            self._run(prefix[:, : int(end[-1]) + 1].index_select(0, rows), end)
            for rows, end in zip(order.chunk(parts), ends.chunk(parts), strict=True)
        ]
        return torch.cat(states).index_select(0, order.argsort())

    def _run(self, prefix: Tensor, last: Tensor) -> Tensor:
        hidden = prefix  # (B, J, F)
        for i, layer in enumerate(self.layers):
            hidden = layer(self.dropout(hidden) if i else hidden)[0]  # (B, J, units)
        return hidden[torch.arange(len(last), device=last.device), last]
