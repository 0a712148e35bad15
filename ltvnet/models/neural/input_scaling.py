"""Constants of the training data that tensors of cohorts are made with.

Shapes: N cohorts, C attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.evidence import frequent_categories
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.models.neural.covariates import CovariateConfig, CovariateScaling
from ltvnet.models.neural.nets.heads import InputSizes
from ltvnet.models.neural.task_inputs import CURVE_FEATURES, CURVE_SCALARS


@dataclass(frozen=True)
class InputScaling:
    """Constants of the training data that tensors are made with.

    `unit_revenue` revenue (currency) of a median cohort to D7, `median_users` of a median cohort,
    `categories` attribute -> values that have a category of their own, in order, from 1;
    all others share category 0, the unseen bucket; `covariates` what stood beside the curves.
    """

    unit_revenue: float
    median_users: float
    categories: Mapping[str, Sequence[str]]
    covariates: CovariateScaling

    @classmethod
    def fit(cls, curves: Curves, unit: float, config: CovariateConfig) -> Self:
        """Measure as of the origin of `curves`, with the covariates of `config`.

        `unit` revenue (currency) of a median cohort to D7.
        """
        curves = curves.take(curves.observed_age >= 0)
        return cls(
            unit_revenue=unit,
            median_users=float(np.median(curves.users)),
            categories=frequent_categories(curves, config.min_category),
            covariates=CovariateScaling.fit(curves, config),
        )

    @property
    def input_sizes(self) -> InputSizes:
        """Widths of the inputs of a net."""
        return InputSizes(
            nodes=len(NODES),
            features=CURVE_FEATURES + self.covariates.node_feature_count,
            scalars=CURVE_SCALARS + self.covariates.scalar_count,
            categories=tuple(len(values) + 1 for values in self.categories.values()),
        )

    def encode_categories(self, curves: Curves) -> Tensor:
        """Category of each attribute: (N, C), int64."""
        if not self.categories:
            return torch.from_numpy(np.zeros((len(curves), 0), dtype=np.int64))

        columns = []
        for name, values in self.categories.items():
            attribute = curves.attribute_codes.get(name)
            if attribute is None:
                columns.append(np.zeros(len(curves), dtype=np.int64))
                continue
            columns.append(attribute.positions_in(values) + 1)
        return torch.from_numpy(np.stack(columns, axis=1))

    def state(self) -> State:
        """JSON values and arrays."""
        covariates, arrays = self.covariates.state()
        values = {
            "unit": self.unit_revenue,
            "users": self.median_users,
            "categories": self.categories,
            "context": covariates,
        }
        return values, arrays

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the scaling that `state()` described."""
        covariates = CovariateScaling.from_state(values["context"], arrays)
        return cls(values["unit"], values["users"], values["categories"], covariates)
