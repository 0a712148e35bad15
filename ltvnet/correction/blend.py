"""Blend: weights of models and the pattern, learned from past forecasts.

Shapes: E entries, I intervals, B buckets of observed age, M models, W trial weights.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Self

import numpy as np

from ltvnet.correction.activation import clearest_gain_by_bucket
from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.forecasting.forecast import AGE_BUCKETS, age_bucket

WEIGHT_PARTS = 4
"""Parts into which a blend divides its weight between the models and the pattern."""


@dataclass(frozen=True)
class Blend:
    """Weights of M models by bucket of observed age: (B, M). The pattern has what is left of 1."""

    weight: Floats

    @classmethod
    def equal(cls, models: int = 1) -> Self:
        """Give each model the same weight, the pattern nothing."""
        return cls(np.full((len(AGE_BUCKETS), models), 1.0 / models))

    @classmethod
    def fit(cls, past: MaturedForecasts, models: Floats, pattern: Floats) -> Self:
        """Find the weights of the least absolute error, equal where none were significantly better.

        `past.forecast_growth` of the models' mean, `models` (M, E, I) of each, `pattern` (E, I) of
        the pattern. Bias is left to correction.
        """
        trial_weights = weight_grid(len(models))  # (W, M)
        loss_of_mean = past.loss(past.forecast_growth)  # (E,)
        gain = [
            loss_of_mean - past.loss(_weighted_sum(trial, models, pattern))
            for trial in trial_weights
        ]

        best_trial = clearest_gain_by_bucket(past, np.stack(gain))  # (B,)
        is_better = best_trial[:, None] >= 0
        weight = np.where(is_better, trial_weights[best_trial], 1.0 / len(models))
        return cls(weight)

    @property
    def pattern_weight(self) -> Floats:
        """Weight of the pattern: (B,)."""
        weight: Floats = 1.0 - self.weight.sum(axis=1)
        return weight

    @property
    def is_on(self) -> Bools:
        """Whether weights are other than those of `equal`: (B,)."""
        models = self.weight.shape[1]
        differs = ~np.isclose(self.weight, self.equal(models).weight)
        return np.asarray(differs.any(axis=1))

    def apply(self, models: Floats, pattern: Floats, observed_age: Ints) -> Floats:
        """Blend the increments of each model (M, E, I) with those of the pattern: (E, I)."""
        weight = self.weight[age_bucket(observed_age)].T  # (M, E)
        return _weighted_sum(weight[:, :, None], models, pattern)


def weight_grid(models: int) -> Floats:
    """All ways (W, M) to share WEIGHT_PARTS equal parts of 1 between models and the pattern."""
    owners_of_parts = combinations_with_replacement(range(models + 1), WEIGHT_PARTS)  # 0: pattern
    part_counts = [np.bincount(owners, minlength=models + 1)[1:] for owners in owners_of_parts]
    weights: Floats = np.unique(part_counts, axis=0) / WEIGHT_PARTS
    return weights


def _weighted_sum(weight: Floats, models: Floats, pattern: Floats) -> Floats:
    """Weighted sum of models (M, E, I) and the pattern (E, I), by weights (M, ...) of models."""
    model_weight = weight.reshape(len(models), -1, 1)
    pattern_weight = 1.0 - model_weight.sum(axis=0)
    total: Floats = (model_weight * models).sum(axis=0) + pattern_weight * pattern
    return total
