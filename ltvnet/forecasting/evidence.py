"""How much curves can teach: enough cohorts, enough mature ones, categories seen, clear losses.

Shapes: N cohorts, C candidates, W clusters of cohorts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import Curves

MATURE_AGE = 30
"""Age from which on a cohort is mature."""

MIN_COHORTS_TO_LEARN = 30
MIN_MATURE_COHORTS = 2
"""Below so many cohorts, or so many mature ones, the pattern stands alone."""

COHORTS_OF_HALF_CONFIDENCE = 40
"""Number of mature cohorts at which what is learned beside the pattern is halved."""


def count_mature_cohorts(curves: Curves) -> int:
    """Count the cohorts observed to MATURE_AGE."""
    return int((curves.observed_age >= MATURE_AGE).sum())


def confidence(curves: Curves) -> float:
    """Return the factor in 0..1 of a departure from the pattern that these curves taught."""
    count = count_mature_cohorts(curves)
    return count / (count + COHORTS_OF_HALF_CONFIDENCE)


def why_insufficient(curves: Curves, median_revenue_d7: float) -> str:
    """Say why data are too few to learn a departure from the pattern; "" where they are enough.

    `median_revenue_d7` revenue (currency) of a median cohort to D7.
    """
    mature = count_mature_cohorts(curves)
    if len(curves) < MIN_COHORTS_TO_LEARN or mature < MIN_MATURE_COHORTS:
        return f"{len(curves)} cohorts, {mature} of them observed to D{MATURE_AGE}"
    return "" if median_revenue_d7 > 0 else "no revenue by D7"


def within_one_standard_error(loss: Floats) -> Bools:
    """Return which candidates (C,) are not worse than the best by more than one standard error.

    `loss` (C, W) of each candidate in each cluster. The standard error is that of the difference
    to the best, over clusters; of a single cluster it is infinite.
    """
    best = np.argmin(loss.sum(axis=1))
    excess = loss - loss[best]
    clusters = loss.shape[1]
    if clusters > 1:
        standard_error = excess.std(axis=1, ddof=1) * np.sqrt(clusters)
    else:
        standard_error = np.full(len(loss), np.inf)
    return np.asarray(excess.sum(axis=1) <= standard_error)


def frequent_categories(curves: Curves, min_cohorts: int) -> dict[str, list[str]]:
    """Return the values of each attribute that at least so many cohorts have, both in order."""
    counts = {name: pd.Series(text).value_counts() for name, text in curves.attributes.items()}
    return {
        name: sorted(count.index[count >= min_cohorts]) for name, count in sorted(counts.items())
    }


def has_unseen_category(curves: Curves, vocabulary: Mapping[str, Sequence[str]]) -> Bools:
    """Return which cohorts (N,) have an attribute value that training never saw."""
    is_unseen = np.zeros(len(curves), dtype=bool)
    for name, values in vocabulary.items():
        if name not in curves.attribute_codes:
            is_unseen[:] = True
            continue
        codes, categories = curves.attribute_codes[name]
        seen = set(values)
        is_new_category = np.array([category not in seen for category in categories], dtype=bool)
        is_unseen |= is_new_category[codes]
    return is_unseen
