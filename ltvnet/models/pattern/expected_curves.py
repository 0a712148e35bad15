"""Expected curves of cohorts: a shape of growth, the level of the segment and the cohort's own.

Shapes: N cohorts, A ages, H ages asked for, P distinct shapes.
"""

from dataclasses import dataclass

from ltvnet.data.arrays import Floats, Ints


@dataclass(frozen=True)
class ExpectedCurves:
    """Expected curve of each cohort: `pattern(h) = y(k) + A_n (beta(h) - beta(k))`.

    `beta` (N, A) proportion earned by age, on the cohort's own dates; `segment_level` = A_s and
    `cohort_level` = A_n in value per user at the last age: both (N, 1) at the observed age, or
    (N, A) for every age k at which the cohort could stand.
    """

    beta: Floats
    segment_level: Floats
    cohort_level: Floats


@dataclass(frozen=True)
class CurrentExpectation:
    """Expected curves of cohorts at their observed age, with a shape per segment and dates.

    `shape` (P, A) proportions earned by age, `shape_index` (N,) of each cohort's; `segment_level`
    (N,) of its segment and `cohort_level` (N,) its own, in value per user at the last age.
    """

    shape: Floats
    shape_index: Ints
    segment_level: Floats
    cohort_level: Floats

    def proportion_earned(self, ages: Ints) -> Floats:
        """Return the proportion earned by ages (H,) or (N, H): (N, H)."""
        earned: Floats = self.shape[self.shape_index[:, None], ages]
        return earned

    def by_cohort(self) -> ExpectedCurves:
        """Return expected curves with a row a cohort."""
        return ExpectedCurves(
            self.shape[self.shape_index], self.segment_level[:, None], self.cohort_level[:, None]
        )
