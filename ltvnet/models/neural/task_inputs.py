"""Inputs of a net from the look-up tables: what is known of tasks at their observed ages.

Shapes: B tasks, J nodes, F features a node, S scalars, C attributes; of covariates E features a
node, H of nodes to come, P that do not change with age.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ltvnet.data.curves import NODES
from ltvnet.models.neural.lookup_tables import (
    AgeInputTable,
    CohortRows,
    TaskValues,
    copy_masked,
    node_ages,
    scaled_log_age,
)
from ltvnet.models.neural.nets.heads import TaskInputs

CURVE_FEATURES, CURVE_SCALARS = 3, 6
"""Features a node, and scalars, that every net has, without covariates."""

INPUT_GAIN = 8.0
"""Log ratios at nodes are of the order of 0.1; nets want inputs of the order of one."""


@dataclass(frozen=True)
class TaskInputBuilder:
    """Makes the inputs of tasks, on one device.

    Inputs at nodes: log of revenue so far, and since the node before, over what the segment's
    pattern expects, log age, and covariates. Scalars: the first at the observed age, the
    credible level over the segment's, users, log age, expected volume, the share earned, and
    covariates of all ages and of nodes to come.

    `by_age` inputs that depend on the observed age alone, `scaled_log_nodes` (J,), and the widths
    E and H of covariates.
    """

    by_age: AgeInputTable
    scaled_log_nodes: Tensor
    node_covariate_width: int
    future_calendar_width: int

    @classmethod
    def on_device(
        cls, device: torch.device, *, node_covariate_width: int, future_calendar_width: int
    ) -> Self:
        """Make the tables by age on a device."""
        return cls(
            by_age=AgeInputTable.on_device(device),
            scaled_log_nodes=scaled_log_age(node_ages(device)),
            node_covariate_width=node_covariate_width,
            future_calendar_width=future_calendar_width,
        )

    def build(self, observed_age: Tensor, rows: CohortRows, values: TaskValues) -> TaskInputs:
        """Make the inputs of tasks at ages (B,), of the rows of their cohorts."""
        volume = rows.volume_factor.squeeze(1)
        segment_volume = volume * values.prior  # (B,), what the segment earns in all
        bits = self.by_age.bits.index_select(0, observed_age)  # (B, J)

        scalars = self._curve_scalars(observed_age, rows, values, segment_volume)
        scalars.append(rows.static_covariates)
        if self.future_calendar_width:
            scalars.append(self._future_calendar(rows, bits))

        return TaskInputs(
            node_features=self._node_features(rows, segment_volume, bits),
            is_observed=self.by_age.is_observed.index_select(0, observed_age),
            scalars=torch.cat(scalars, dim=1),
            codes=rows.codes.long(),
        )

    def _curve_scalars(
        self, observed_age: Tensor, rows: CohortRows, values: TaskValues, segment_volume: Tensor
    ) -> list[Tensor]:
        """Scalars of curves, (B, 1) each; most are worked out in place."""
        volume = rows.volume_factor.squeeze(1)
        log_expected = segment_volume.mul(values.beta).clamp_(min=0.0).log1p_()
        log_revenue = volume.mul(values.value).clamp_(min=-0.5).log1p_()
        log_ratio = log_revenue.sub_(log_expected)
        level_ratio = values.level.div(values.prior).nan_to_num_(1.0)
        log_level_ratio = level_ratio.clamp_(min=1e-3).log_()
        log_age = self.by_age.scaled_log_age.index_select(0, observed_age)

        # log_expected is scaled in place, now that the ratio has been taken
        return [
            log_ratio.unsqueeze(1),
            log_level_ratio.unsqueeze(1),
            rows.log_users,
            log_age.unsqueeze(1),
            log_expected.div_(3.0).sub_(1.0).unsqueeze(1),
            values.beta.mul(2.0).sub_(1.0).unsqueeze(1),
        ]

    def _future_calendar(self, rows: CohortRows, bits: Tensor) -> Tensor:
        """Calendar of nodes to come (B, J x H), 0 at the nodes of `bits` (B, J)."""
        calendar = rows.future_calendar.view(-1, len(NODES), self.future_calendar_width).clone()
        copy_masked(calendar, ~bits.unsqueeze(2), calendar.view(torch.int32))
        return calendar.flatten(1)

    def _node_features(self, rows: CohortRows, segment_volume: Tensor, bits: Tensor) -> Tensor:
        """Features (B, J, F) at the nodes of `bits` (B, J), 0 at others."""
        node_count = len(NODES)
        shares = rows.expected_shares[:, : 2 * node_count]
        log_expected = shares.mul(segment_volume.unsqueeze(1)).log1p_()  # (B, 2 x J)
        log_ratio = torch.sub(rows.log_revenue, log_expected, alpha=INPUT_GAIN, out=log_expected)

        width = CURVE_FEATURES + self.node_covariate_width
        features = log_ratio.new_empty(len(bits), node_count, width)  # (B, J, F)
        revenue_so_far, revenue_since_node, log_age, *_ = features.view(torch.int32).unbind(2)
        copy_masked(log_ratio[:, node_count:], bits, revenue_so_far)
        copy_masked(log_ratio[:, :node_count], bits, revenue_since_node)
        copy_masked(self.scaled_log_nodes, bits, log_age)

        if self.node_covariate_width:
            covariates = rows.node_covariates.view(-1, node_count, self.node_covariate_width)
            covariate_bits = features[..., CURVE_FEATURES:].view(torch.int32)
            copy_masked(covariates, bits.unsqueeze(2), covariate_bits)
        return features
