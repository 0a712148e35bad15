"""Two recurrent layers over the observed nodes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.nets.heads import Attributes, Head, Inputs, Sizes


class LSTM(nn.Module):
    """Stacked LSTM over the prefix, a dense layer with scalars and attributes, the head.

    `units` of the recurrent layers, `dense` of the hidden layer, `embedding` of each attribute,
    `dropout` after each of these layers. Raises ValueError for no units, sizes below 1 or a
    dropout outside [0, 1).
    """

    def __init__(
        self, *, sizes: Sizes, units: Sequence[int], dense: int, embedding: int, dropout: float
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
        self.attributes = Attributes(categories=sizes.categories, width=embedding)
        self.dense = nn.Linear(units[-1] + sizes.scalars + self.attributes.width, dense)
        self.head = Head(width=dense, intervals=sizes.nodes - 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Raw z (B, I, Q). A state depends on earlier nodes only, so the last observed is taken."""
        hidden = inputs.prefix  # (B, J, F)
        for layer in self.layers:
            hidden = self.dropout(layer(hidden)[0])  # (B, J, units)
        last = inputs.observed.sum(dim=1) - 1  # (B,)
        state = hidden[torch.arange(len(last), device=last.device), last]
        joined = torch.cat((state, inputs.scalars, self.attributes(inputs.codes)), dim=1)
        raw: Tensor = self.head(self.dropout(functional.gelu(self.dense(joined))))
        return raw
