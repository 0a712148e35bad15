"""How much curves can teach: enough cohorts, enough matured, categories seen in training."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools
from ltvnet.data.curves import Curves

MIN_COHORTS_TO_LEARN, MIN_MATURE_COHORTS, MATURE_AGE = 30, 2, 30
"""Below so many cohorts, or so many observed to MATURE_AGE, the pattern stands alone."""

COHORTS_OF_HALF_CONFIDENCE = 40
"""Number of matured cohorts at which what is learned beside the pattern is halved."""


def count_mature_cohorts(curves: Curves) -> int:
    """Number of cohorts observed to MATURE_AGE."""
    return int((curves.observed_age >= MATURE_AGE).sum())


def confidence(curves: Curves) -> float:
    """Factor in 0..1 of a departure from the pattern that was learned from these curves."""
    count = count_mature_cohorts(curves)
    return count / (count + COHORTS_OF_HALF_CONFIDENCE)


def why_insufficient(curves: Curves, unit: float) -> str:
    """What these curves lack for a departure to be learned from them; "" if they lack nothing.

    `unit` revenue (currency) of a median cohort to D7.
    """
    if len(curves) < MIN_COHORTS_TO_LEARN or count_mature_cohorts(curves) < MIN_MATURE_COHORTS:
        return f"{len(curves)} cohorts, {count_mature_cohorts(curves)} of them observed to D{MATURE_AGE}"
    return "" if unit > 0 else "no revenue by D7"


def frequent_categories(curves: Curves, least: int) -> dict[str, list[str]]:
    """The values of each attribute that at least so many cohorts have, both in order."""
    counts = {name: pd.Series(text).value_counts() for name, text in curves.attributes.items()}
    return {name: sorted(count.index[count >= least]) for name, count in sorted(counts.items())}


def has_unseen_category(curves: Curves, vocabulary: Mapping[str, Sequence[str]]) -> Bools:
    """Which cohorts (N,) have an attribute value that training never saw."""
    rows = np.zeros(len(curves), dtype=bool)
    for name, values in vocabulary.items():
        if name in curves.attribute_codes:
            codes, words = curves.attribute_codes[name]
            known = set(values)
            rows |= np.array([word not in known for word in words], dtype=bool)[codes]
        else:
            rows[:] = True
    return rows
