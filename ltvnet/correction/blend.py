"""Blend: weights of models and the pattern, learned from past forecasts.

Legend: E entries, I intervals, B buckets of observed age, M models.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Self

import numpy as np

from ltvnet.correction.past_errors import MaturedForecasts, clearest_gain_by_bucket
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
        """Each model the same, the pattern nothing."""
        return cls(np.full((len(AGE_BUCKETS), models), 1.0 / models))

    @classmethod
    def fit(cls, past: MaturedForecasts, models: Floats, pattern: Floats) -> Self:
        """The weights of the least absolute error, equal where none were significantly better.

        `past.forecast` of the models' mean, `models` (M, E, I) of each, `pattern` (E, I) of the
        pattern. Bias is left to correction.
        """
        trials = weight_grid(len(models))  # (W, M)
        equal = past.loss(past.forecast_growth)
        gain = [equal - past.loss(_mixed(trial, models, pattern)) for trial in trials]
        chosen = clearest_gain_by_bucket(past, np.stack(gain))
        weight = np.where(chosen[:, None] >= 0, trials[chosen], 1.0 / len(models))
        return cls(weight)

    @property
    def pattern_weight(self) -> Floats:
        """Weight of the pattern: (B,)."""
        rest: Floats = 1.0 - self.weight.sum(axis=1)
        return rest

    @property
    def is_on(self) -> Bools:
        """Where weights are other than those of `off`: (B,)."""
        other = ~np.isclose(self.weight, self.equal(self.weight.shape[1]).weight)
        return np.asarray(other.any(axis=1))

    def apply(self, models: Floats, pattern: Floats, observed: Ints) -> Floats:
        """Blended increments (E, I) of those of each model (M, E, I) and of the pattern."""
        return _mixed(self.weight[age_bucket(observed)].T[:, :, None], models, pattern)


def weight_grid(models: int) -> Floats:
    """All ways (W, M) to give models some of PARTS equal parts of 1, the pattern the rest."""
    given = combinations_with_replacement(range(models + 1), WEIGHT_PARTS)  # who has each part
    counts = [np.bincount(parts, minlength=models + 1)[1:] for parts in given]
    ordered: Floats = np.unique(counts, axis=0) / WEIGHT_PARTS
    return ordered


def _mixed(weight: Floats, models: Floats, pattern: Floats) -> Floats:
    """Weighted sum of models (M, E, I) and the pattern (E, I), by weights (M, ...)."""
    own = weight.reshape(len(models), -1, 1)
    mixed: Floats = (own * models).sum(axis=0) + (1.0 - own.sum(axis=0)) * pattern
    return mixed
