"""Residual blocks.

Shapes: ... any leading dimensions, D width before, E width after.
"""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """One hidden layer with ReLU beside a linear skip: (..., D) -> (..., E).

    The residual block of TiDE (arXiv 2304.08424): dropout on the hidden path before
    both are added, `norm` a layer norm after. Of a single number a layer norm leaves nothing but
    its bias, so a block that ends in one takes norm=False. Raises ValueError for `input_width`,
    `hidden` or `output_width` below 1, for a norm of one number, or a dropout outside [0, 1).
    """

    def __init__(
        self, *, input_width: int, hidden: int, output_width: int, dropout: float, norm: bool
    ) -> None:
        """`input_width` D, `hidden` units, `output_width` E."""
        super().__init__()
        if min(input_width, hidden, output_width) < 1 or not 0.0 <= dropout < 1.0:
            raise ValueError(
                "expected widths >= 1 and dropout in [0, 1), got "
                f"before={input_width}, hidden={hidden}, after={output_width} and dropout={dropout}"
            )
        if norm and output_width == 1:
            raise ValueError("expected after > 1 with norm=True, got 1: its norm is a constant")

        self.hidden = nn.Sequential(nn.Linear(input_width, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, output_width)
        self.skip = nn.Linear(input_width, output_width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(output_width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add both paths: (..., D) -> (..., E)."""
        hidden_path = self.dropout(self.out(self.hidden(x)))
        y: Tensor = self.norm(hidden_path + self.skip(x))
        return y


def start_at_zero(*layers: nn.Linear) -> None:
    """Set weights and biases to zero, so that what the layers add is learned from nothing."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
