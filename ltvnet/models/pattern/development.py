"""How cohorts developed from age to age: sums of revenue, daily growth, the proportion earned.

Every ratio is a ratio of sums over users, so zeros are data.

Shapes: N cohorts, A ages, J intervals between nodes, S segments, R rows, D past days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.arrays import Floats, Ints, block_slices
from ltvnet.data.curves import AGES, NODES, Curves
from ltvnet.data.segments import Segments

STEP_END_AGES = np.arange(1, AGES)
"""Age at which each daily step of development ends: (A - 1,)."""

INTERVAL_DAYS = np.diff(NODES)
"""Daily steps of each interval between nodes: (J,)."""

INTERVAL_OF_STEP = np.repeat(np.arange(len(NODES) - 1), INTERVAL_DAYS)
"""Interval j, (node_j, node_j+1], that holds each daily step: (A - 1,)."""

MIN_TAIL_STEPS = 3
"""Steps that must have grown for a tail to be fitted to them."""


@dataclass(frozen=True)
class Development:
    """Sums of users x value over the cohorts that completed each daily step.

    `base` at the age where the step begins and `gain` during it, each (R, A - 1).
    """

    base: Floats
    gain: Floats

    def __sub__(self, other: "Development") -> "Development":
        """Return the sums without some of the cohorts."""
        return Development(self.base - other.base, self.gain - other.gain)

    def __getitem__(self, rows: NDArray[np.generic]) -> "Development":
        """Return the sums of some of the rows."""
        return Development(self.base[rows], self.gain[rows])

    def steps(self, begin: int, end: int) -> "Development":
        """Return some of the daily steps."""
        return Development(self.base[:, begin:end], self.gain[:, begin:end])

    def steps_up_to(self, begin: int, end: int, last_age: Ints) -> "Development":
        """Return some of the daily steps, with 0 beyond the last age of each row (R,)."""
        is_complete = STEP_END_AGES[begin:end] <= last_age[:, None]
        steps = self.steps(begin, end)
        return Development(steps.base * is_complete, steps.gain * is_complete)


def cohort_development(
    curves: Curves, last_age: int, half_life: float | None, rows: Ints | slice = slice(None)
) -> Development:
    """Return each cohort's own development up to age `last_age`: (N, A - 1).

    Of all cohorts or of some `rows`, in any order. A step that ended `half_life` days earlier
    weighs half (None: all weigh the same).
    """
    is_observed = curves.observed_age[rows, None] >= np.arange(AGES)
    is_counted = is_observed[:, 1:] & (last_age >= STEP_END_AGES)
    weight = np.where(is_counted, curves.users[rows, None], 0.0)
    if half_life is not None:
        days_since_end = (curves.origin - curves.end[rows]).astype(np.int64)
        days_since_step = days_since_end[:, None] - STEP_END_AGES
        weight = weight * 0.5 ** (days_since_step / half_life)

    values = np.where(is_observed, curves.values[rows], 0.0)
    gain = values[:, 1:] - values[:, :-1]
    base = np.multiply(weight, values[:, :-1], out=values[:, :-1])
    return Development(base, gain * weight)


@dataclass(frozen=True)
class PastKnowledge:
    """Development that was known at the end of a past day.

    `age` (N,) last complete age, -1 where there was none; `last_supported_age` the last that
    enough cohorts had reached, `first_revenue_age` the first with revenue; `sums` (S, A - 1) of
    segments up to `last_supported_age`.
    """

    age: Ints
    last_supported_age: int
    first_revenue_age: int
    sums: Development


@dataclass(frozen=True)
class Triangle:
    """Development triangle: cohorts in their deepest `segment` (N,), older steps weighing less."""

    curves: Curves
    segments: Segments
    segment: Ints
    half_life: float | None

    def past_knowledge(self, days_ago: Sequence[int], min_cohorts: int) -> list[PastKnowledge]:
        """Return what was known so many days ago (D,), increasing.

        An age is supported by `min_cohorts` cohorts that had reached it.
        """
        ages = self.curves.observed_ages_before(days_ago)  # (D, N)
        development, revenue = self._sums_by_day(ages)

        knowledge = []
        for day, age in enumerate(ages):
            has_enough = len(age) >= min_cohorts
            last_supported_age = int(np.sort(age)[-min_cohorts]) if has_enough else -1
            weight = self.weight_of_day(days_ago[day])
            step_weight = np.where(last_supported_age >= STEP_END_AGES, weight, 0.0)
            sums = Development(
                development.base[:, day] * step_weight, development.gain[:, day] * step_weight
            )
            first_revenue_age = int(np.argmax(revenue[day] > 0))
            knowledge.append(PastKnowledge(age, last_supported_age, first_revenue_age, sums))
        return knowledge

    def weight_of_day(self, days_ago: int) -> float:
        """Weight as of a past day of a step that weighs 1 today."""
        return 1.0 if self.half_life is None else 2.0 ** (days_ago / self.half_life)

    def _sums_by_day(self, ages: Ints) -> tuple[Development, Floats]:
        """Add up the cells known on days at which cohorts had `ages` (D, N), the latest day first.

        Returns the development of segments (S, D, A - 1), and the revenue of all by age (D, A). A
        cell is added up once, among those that as many of the days had seen; those of a day are
        the cells that so many days or more had seen. Nothing is taken away, so that no rounding
        is left where there was no revenue.
        """
        counts = len(ages) + 1  # a cell is known on 0 to D of the days
        sums = np.zeros((2, len(self.segments.keys), counts, AGES - 1))
        revenue = np.zeros((counts, AGES))

        order = np.argsort(self.segment, kind="stable")
        present, present_index = np.unique(self.segment[order], return_inverse=True)
        for block in block_slices(len(order)):
            rows = order[block]
            days_known = _count_days_known(ages[:, rows])  # (R, A)

            first = present_index[block.start]
            local_segment = present_index[block] - first
            block_segments = present[first : first + local_segment[-1] + 1]
            shape = (len(block_segments), counts, AGES)
            cell = (local_segment[:, None] * counts + days_known) * AGES + np.arange(AGES)
            step_cell = cell[:, 1:].ravel()
            development = cohort_development(self.curves, AGES - 1, self.half_life, rows)
            for total, steps in zip(sums, (development.base, development.gain), strict=True):
                block_sums = np.bincount(step_cell, steps.ravel(), prod(shape))
                total[block_segments] += block_sums.reshape(shape)[:, :, 1:]

            earned = self.curves.users[rows, None] * np.nan_to_num(self.curves.values[rows])
            age_cell = (days_known * AGES + np.arange(AGES)).ravel()
            block_revenue = np.bincount(age_cell, earned.ravel(), revenue.size)
            revenue += block_revenue.reshape(-1, AGES)

        for count in range(len(ages), 0, -1):
            revenue[count - 1] += revenue[count]
            sums[:, :, count - 1] += sums[:, :, count]

        base, gain = (self.segments.add_descendants(total) for total in sums)
        return Development(base[:, 1:], gain[:, 1:]), revenue[1:]


def _count_days_known(ages: Ints) -> Ints:
    """Number of days, at which cohorts had `ages` (D, R), by which each age was known: (R, A)."""
    count = np.zeros((ages.shape[1], AGES), dtype=np.uint8)
    for age in ages.astype(np.int16):
        count += age[:, None] >= np.arange(AGES, dtype=np.int16)
    return count.astype(np.int64)


def ratio_of_sums(sums: Development) -> Floats:
    """Return daily growth, the chain ladder's factors less one; 0 without revenue to grow."""
    return np.divide(sums.gain, sums.base, out=np.zeros_like(sums.base), where=sums.base > 0)


def sum_by_interval(daily: Floats) -> Floats:
    """Add up daily steps (R, A - 1) over the intervals between nodes: (R, J)."""
    first_step = np.searchsorted(INTERVAL_OF_STEP, np.arange(len(NODES) - 1))
    sums: Floats = np.add.reduceat(daily, first_step, axis=1)
    return sums


def share_earned(growth: Floats, first_revenue_age: int) -> Floats:
    """Return the proportion beta(a) of the last age's value that is earned by age a: (R, A).

    `growth` (R, A - 1) of each daily step. Where refunds made sums fall, the share stays at its
    highest so far.
    """
    value = np.empty((len(growth), AGES))  # over that at the first revenue
    value[:, : first_revenue_age + 1] = 1.0
    np.add(growth[:, first_revenue_age:], 1.0, out=value[:, first_revenue_age + 1 :])
    earning = value[:, first_revenue_age:]
    np.cumprod(earning, axis=1, out=earning)

    if growth.min(initial=0.0) < 0:
        np.maximum.accumulate(value, axis=1, out=value)
    value[:, :first_revenue_age] = 0.0
    value /= value[:, -1:].copy()
    return value


def extend_by_inverse_power(growth: Floats, last_age: int) -> Floats:
    """Continue growth (R, A - 1) beyond age `last_age` along b x age^-c.

    Ordinary least squares of log growth on log age over the steps that grew: the inverse-power
    tail of reserving practice. Rows with fewer than MIN_TAIL_STEPS such steps stay flat.
    """
    extended = growth.copy()
    is_tail = last_age < STEP_END_AGES
    for row in extended:
        grew = (row > 0) & ~is_tail
        if grew.sum() >= MIN_TAIL_STEPS:
            log_age = np.log(STEP_END_AGES[grew])
            slope, intercept = np.polyfit(log_age, np.log(row[grew]), 1)
            row[is_tail] = np.exp(intercept + slope * np.log(STEP_END_AGES[is_tail]))
    return extended
