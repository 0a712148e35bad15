"""Credibility: how far what was seen moves growth and levels away from what was expected.

Buhlmann and Straub (1970): a ratio of actual to expected weighs by its volume against a prior.

Shapes: A ages, J intervals between nodes, R rows.
"""

import numpy as np

from ltvnet.data.arrays import Floats, Ints
from ltvnet.models.pattern.decay_tilt import decay_sensitivity, estimate_decay_tilt
from ltvnet.models.pattern.development import INTERVAL_DAYS, Development, sum_by_interval


def credible_ratio(
    actual: Floats, expected: Floats, constant: float | Floats, prior: float | Floats = 1.0
) -> Floats:
    """Move a prior ratio to actual over expected, by volume, and not below 0.

    (K x prior + actual) / (K + expected), with `constant` = K in the unit of actual and expected;
    all broadcast. Where nothing was expected and K = 0 the prior stays.
    """
    volume = constant + expected
    has_volume = True if volume.min(initial=1.0) > 0 else volume > 0
    ratio: Floats = np.full(volume.shape, prior)
    np.divide(constant * prior + actual, volume, out=ratio, where=has_volume)
    return np.maximum(ratio, 0.0, out=ratio)


def credible_level(prior: Floats, earned: Floats, own: Floats, constant: float | Floats) -> Floats:
    """Move a level to what was seen, by volume: prior x (K + own) / (K + prior x earned).

    `prior` value at the last age; `earned` = users x beta(k); `own` = users x y(k); `constant`
    = K in currency; all broadcast. K = 0 is the chain ladder; where nothing was expected and
    nothing seen the prior stays.
    """
    level: Floats = prior * credible_ratio(own, prior * earned, constant)
    return level


def credible_growth(
    parent_growth: Floats,
    development: Development,
    credibility: float,
    tilt_constant: float = np.inf,
    parent_index: Ints | slice = slice(None),
) -> Floats:
    """Shrink a segment's daily growth (R, A - 1) to its parent's.

    `parent_growth` (P, A - 1) of distinct parents, `parent_index` (R,) of each segment's. The
    parent's growth is first tilted as the segment's is over all ages (`tilt_constant` of
    `estimate_decay_tilt`; infinite: not at all): late growth of a young segment is told by its
    early growth. Then each interval's actual over expected growth counts against the parent's
    daily factors, with `credibility` (currency) of revenue that grew as the tilted parent did:
    Buhlmann-Straub with a constant volume. Curves proportional to the parent's are left as they
    are.
    """
    growth: Floats = parent_growth[parent_index]
    expected = sum_by_interval(development.base * growth)
    actual = sum_by_interval(development.gain)

    tilted = np.ones_like(expected)
    if np.isfinite(tilt_constant):
        sensitivity = decay_sensitivity(parent_growth)[parent_index]
        tilt = estimate_decay_tilt(actual, expected, sensitivity, tilt_constant)
        tilted = np.exp(tilt * sensitivity)

    constant = credibility * sum_by_interval(parent_growth)[parent_index]
    ratio = credible_ratio(actual, expected, constant, tilted)
    credible: Floats = np.repeat(ratio, INTERVAL_DAYS, axis=1)
    credible *= growth
    return credible
