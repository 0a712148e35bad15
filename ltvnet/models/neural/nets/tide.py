"""TiDE, the time-series dense encoder (arXiv 2304.08424), and what it sees of a cohort.

Shapes: B tasks, L values of the lookback, T steps whose covariates are known, H <= T steps of the
horizon, C covariates a step, S attributes, P projected covariates, Q outputs a step; J nodes and
I = J - 1 intervals.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltvnet.models.neural.nets.blocks import ResidualBlock, start_at_zero
from ltvnet.models.neural.nets.heads import (
    QUANTITY_COUNT,
    AttributeEmbeddings,
    InputSizes,
    TaskInputs,
)

POSITION_COVARIATES = 3
"""Numbers of `node_positions`."""


class TiDEShape(NamedTuple):
    """Sizes of what goes in and comes out: L, T, H, C, S and Q of the legend."""

    lookback: int
    steps: int
    horizon: int
    covariates: int
    attributes: int
    outputs: int


class TiDELayers(NamedTuple):
    """Sizes of the layers between input and output.

    `hidden` units of the blocks of encoder and decoder, `encoder` and `decoder` how many there
    are; `projection_hidden` and `projection` (P) of the covariates; `decoded` numbers that the
    decoder gives each step, `temporal_hidden` units of the block that reads them.
    """

    hidden: int
    encoder: int
    decoder: int
    projection_hidden: int
    projection: int
    decoded: int
    temporal_hidden: int


class TiDE(nn.Module):
    """A dense encoder and decoder of residual blocks beside a linear map of the lookback.

    All blocks are true residual blocks, at depth one too, and the temporal decoder, whose output
    is the forecast, has no norm. What it adds and the linear map both start at zero, and so does
    the forecast. Raises ValueError for a horizon beyond the steps or sizes below 1.
    """

    def __init__(self, *, shape: TiDEShape, layers: TiDELayers, dropout: float, norm: bool) -> None:
        """`dropout` and layer `norm` in the blocks."""
        super().__init__()
        if min(*shape[:4], shape.outputs, *layers) < 1 or shape.horizon > shape.steps:
            raise ValueError(f"expected sizes >= 1 and horizon <= steps, got {shape} and {layers}")
        self.shape = shape

        def block(
            input_width: int, hidden: int, output_width: int, *, norm: bool = norm
        ) -> ResidualBlock:
            return ResidualBlock(
                input_width=input_width,
                hidden=hidden,
                output_width=output_width,
                dropout=dropout,
                norm=norm,
            )

        self.projection = block(shape.covariates, layers.projection_hidden, layers.projection)

        # encoder and decoder are one stack: only its first and last widths differ
        hidden_widths = [layers.hidden] * (layers.encoder + layers.decoder - 1)
        encoded = shape.lookback + shape.steps * layers.projection + shape.attributes
        widths = [encoded, *hidden_widths, shape.horizon * layers.decoded]
        self.dense = nn.Sequential(
            *(
                block(input_width, layers.hidden, output_width)
                for input_width, output_width in zip(widths[:-1], widths[1:], strict=True)
            )
        )

        temporal_width = layers.decoded + layers.projection
        self.temporal = block(temporal_width, layers.temporal_hidden, shape.outputs, norm=False)
        self.skip = nn.Linear(shape.lookback, shape.horizon * shape.outputs)
        start_at_zero(self.temporal.out, self.temporal.skip, self.skip)

    def forward(self, lookback: Tensor, covariates: Tensor, attributes: Tensor) -> Tensor:
        """Forecast (B, H, Q) from `lookback` (B, L), `covariates` (B, T, C), `attributes` (B, S).

        The last H of the T steps are those of the horizon.
        """
        horizon = self.shape.horizon
        projected = self.projection(covariates)  # (B, T, P)
        encoded = torch.cat((lookback, projected.flatten(1), attributes), dim=1)
        decoded = self.dense(encoded).unflatten(1, (horizon, -1))  # (B, H, decoded)

        future_covariates = projected[:, -horizon:]  # (B, H, P)
        linear = self.skip(lookback).unflatten(1, (horizon, -1))  # (B, H, Q)
        forecast: Tensor = linear + self.temporal(torch.cat((decoded, future_covariates), dim=2))
        return forecast


class CohortTiDE(nn.Module):
    """TiDE over the nodes of a curve: the prefix is the lookback, the intervals the horizon.

    Known of every node, ahead too: where it stands, how far from the last observed, and whether
    it is observed. `layers` the fields of TiDELayers, `embedding` of each attribute, `dropout` and
    `norm` those of TiDE. Raises ValueError for sizes below 1 or a dropout outside [0, 1).
    """

    def __init__(
        self,
        *,
        sizes: InputSizes,
        layers: Mapping[str, int],
        embedding: int,
        dropout: float,
        norm: bool,
    ) -> None:
        """Build the layers."""
        super().__init__()
        if set(layers) != set(TiDELayers._fields):
            names = ", ".join(TiDELayers._fields)
            raise ValueError(f"expected layers with sizes of {names}, got {dict(layers)}")
        if embedding < 1:
            raise ValueError(f"expected embedding >= 1, got {embedding}")

        self.attributes = AttributeEmbeddings(categories=sizes.categories, width=embedding)
        shape = TiDEShape(
            lookback=sizes.nodes * sizes.features,
            steps=sizes.nodes,
            horizon=sizes.nodes - 1,
            covariates=POSITION_COVARIATES,
            attributes=sizes.scalars + self.attributes.width,
            outputs=QUANTITY_COUNT,
        )
        self.tide = TiDE(shape=shape, layers=TiDELayers(**layers), dropout=dropout, norm=norm)

    def forward(self, inputs: TaskInputs) -> Tensor:
        """Raw z (B, I, Q)."""
        attributes = torch.cat((inputs.scalars, self.attributes(inputs.codes)), dim=1)
        lookback = inputs.node_features.flatten(1)
        raw: Tensor = self.tide(lookback, node_positions(inputs.is_observed), attributes)
        return raw


def node_positions(is_observed: Tensor) -> Tensor:
    """Position of every node, its distance from the last observed, and whether it is observed.

    `is_observed` (B, J) -> (B, J, 3), positions from -1 to 1 in the order of nodes.
    """
    position = torch.linspace(-1.0, 1.0, is_observed.shape[1], device=is_observed.device)
    last_observed = position[is_observed.sum(dim=1) - 1].unsqueeze(1)  # (B, 1)
    columns = (
        position.expand_as(is_observed),
        position - last_observed,
        is_observed.to(position.dtype),
    )
    return torch.stack(columns, dim=2)
