"""Dense layers over all nodes at once.

Shapes: B tasks, I intervals, Q quantities.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ltvnet.models.neural.nets.heads import AttributeEmbeddings, Head, InputSizes, TaskInputs


class MLP(nn.Module):
    """Dense layers over the prefix, which of it is observed, scalars and attributes; the head.

    `hidden` units of each layer, `embedding` of each attribute, `dropout` after each layer.
    Raises ValueError for no layer, sizes below 1 or a dropout outside [0, 1).
    """

    def __init__(
        self, *, sizes: InputSizes, hidden: Sequence[int], embedding: int, dropout: float
    ) -> None:
        """Build the layers."""
        super().__init__()
        if not hidden or min(*hidden, embedding) < 1 or not 0.0 <= dropout < 1.0:
            raise ValueError(
                "expected a list of hidden >= 1, embedding >= 1 and dropout in [0, 1), got "
                f"hidden={list(hidden)}, embedding={embedding} and dropout={dropout}"
            )

        self.attributes = AttributeEmbeddings(categories=sizes.categories, width=embedding)
        prefix_width = sizes.nodes * (sizes.features + 1)
        widths = [prefix_width + sizes.scalars + self.attributes.width, *hidden]
        self.layers = nn.Sequential()
        for input_width, output_width in zip(widths[:-1], widths[1:], strict=True):
            self.layers.extend(
                (nn.Linear(input_width, output_width), nn.GELU(), nn.Dropout(dropout))
            )
        self.head = Head(width=widths[-1], intervals=sizes.nodes - 1)

    def forward(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q)."""
        prefix = inputs.node_features.flatten(1)
        is_observed = inputs.is_observed.to(inputs.node_features.dtype)
        attributes = self.attributes(inputs.codes)
        joined = torch.cat((prefix, is_observed, inputs.scalars, attributes), dim=1)
        raw: Tensor = self.head(self.layers(joined))
        return raw
