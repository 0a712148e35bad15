"""Two recurrent layers over the observed nodes.

Shapes: B tasks, J nodes, F features a node, I intervals, Q quantities.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.models.neural.nets.heads import AttributeEmbeddings, Head, InputSizes, TaskInputs

TASKS_PER_CHUNK, MAX_CHUNKS = 128, 8
"""Tasks that are worth a chunk of their own on a CPU, and the most chunks of a batch."""


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
            nn.LSTM(input_width, output_width, batch_first=True)
            for input_width, output_width in zip(widths[:-1], widths[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.attributes = AttributeEmbeddings(categories=sizes.categories, width=embedding)
        self.dense = nn.Linear(units[-1] + sizes.scalars + self.attributes.width, dense)
        self.head = Head(width=dense, intervals=sizes.nodes - 1)

    def forward(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q). A state depends on earlier nodes only, so the last observed is taken."""
        last_node = inputs.is_observed.sum(dim=1) - 1  # (B,)
        state = self.dropout(self._last_states(inputs.node_features, last_node))
        joined = torch.cat((state, inputs.scalars, self.attributes(inputs.codes)), dim=1)
        hidden = self.dropout(functional.gelu(self.dense(joined)))
        raw: Tensor = self.head(hidden)
        return raw

    def _last_states(self, prefix: Tensor, last_node: Tensor) -> Tensor:
        """States (B, units) after the last node observed, the `last_node`-th (B,), from 0.

        On a CPU in chunks, from short prefixes to long, none of which goes on after its longest: a
        usual prefix has half of the nodes.
        """
        chunk_count = 1
        if last_node.device.type == "cpu":
            chunk_count = min(len(last_node) // TASKS_PER_CHUNK, MAX_CHUNKS)
        if chunk_count < 2:
            return self._run_layers(prefix, last_node)

        order = last_node.argsort()
        row_chunks = order.chunk(chunk_count)
        node_chunks = last_node[order].chunk(chunk_count)
        states = []
        for rows, last_nodes in zip(row_chunks, node_chunks, strict=True):
            longest = int(last_nodes[-1]) + 1
            chunk = prefix[:, :longest].index_select(0, rows)
            states.append(self._run_layers(chunk, last_nodes))
        return torch.cat(states).index_select(0, order.argsort())

    def _run_layers(self, prefix: Tensor, last_node: Tensor) -> Tensor:
        """Run the recurrent layers over a prefix (B, J, F): states (B, units) at `last_node`."""
        hidden = prefix
        for i, layer in enumerate(self.layers):
            layer_input = self.dropout(hidden) if i > 0 else hidden
            hidden, _ = layer(layer_input)  # (B, J, units)
        rows = torch.arange(len(last_node), device=last_node.device)
        return hidden[rows, last_node]
