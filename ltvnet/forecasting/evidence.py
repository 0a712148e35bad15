"""How much curves can teach: enough cohorts, enough matured, categories seen in training."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools
from ltvnet.data.curves import Curves

MIN_COHORTS, MIN_MATURED, MATURE_AGE = 30, 2, 30
"""Below so many cohorts, or so many observed to MATURE_AGE, the pattern stands alone."""

CAUTION = 40
"""Number of matured cohorts at which what is learned beside the pattern is halved."""


def matured(curves: Curves) -> int:
    """Number of cohorts observed to MATURE_AGE."""
    return int((curves.observed_age >= MATURE_AGE).sum())


def confidence(curves: Curves) -> float:
    """Factor in 0..1 of a departure from the pattern that was learned from these curves."""
    count = matured(curves)
    return count / (count + CAUTION)


def too_little(curves: Curves, unit: float) -> str:
    """What these curves lack for a departure to be learned from them; "" if they lack nothing.

    `unit` revenue (currency) of a median cohort to D7.
    """
    if len(curves) < MIN_COHORTS or matured(curves) < MIN_MATURED:
        return f"{len(curves)} cohorts, {matured(curves)} of them observed to D{MATURE_AGE}"
    return "" if unit > 0 else "no revenue by D7"


def categories(curves: Curves, least: int) -> dict[str, list[str]]:
    """The values of each attribute that at least so many cohorts have, both in order."""
    counts = {name: pd.Series(text).value_counts() for name, text in curves.attributes.items()}
    return {name: sorted(count.index[count >= least]) for name, count in sorted(counts.items())}


def unseen(curves: Curves, vocabulary: Mapping[str, Sequence[str]]) -> Bools:
    """Which cohorts (N,) have an attribute value that training never saw."""
    rows = np.zeros(len(curves), dtype=bool)
    for name, values in vocabulary.items():
        if name in curves.words:
            codes, words = curves.words[name]
            known = set(values)
            rows |= np.array([word not in known for word in words], dtype=bool)[codes]
        else:
            rows[:] = True
    return rows
