"""The learned stages, as of a day: blend, correction and intervals, applied in this order.

Shapes: E entries, J nodes, I intervals, M models, N cohorts, B buckets of observed age.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ltvnet.backtesting.ledger import LedgerEntries, Stage
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Intervals, NodeForecasts, TotalsUncertainty
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODE_AGES, Curves
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Band, age_bucket
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues
from ltvnet.forecasting.interpolation import interval_growth, rescale_growth


@dataclass(frozen=True)
class LearnedStages:
    """Blend, correction, intervals and uncertainty of totals, learned from the past by some day."""

    blend: Blend
    correction: Correction
    intervals: Intervals
    totals: TotalsUncertainty

    @classmethod
    def neutral(cls, models: int = 1) -> Self:
        """Return stages that learned nothing: the mean of the models, and no intervals."""
        return cls(
            Blend.equal(models), Correction.neutral(), Intervals.blank(), TotalsUncertainty.blank()
        )

    @property
    def has_intervals(self) -> bool:
        """Whether any interval was checked on the past."""
        return bool(self.is_calibrated.any())

    @property
    def is_calibrated(self) -> Bools:
        """Whether there are intervals at each bucket of observed age: (B,)."""
        is_known = np.isfinite(self.intervals.lower)  # (B, S, J)
        has_any: Bools = np.count_nonzero(is_known, axis=(1, 2)) > 0
        return has_any

    def apply(
        self,
        raw: NodeForecasts,
        models: Floats,
        cohorts: Curves | LedgerEntries,
        last_supported_age: Ints,
    ) -> tuple[dict[Stage, Band], Bools]:
        """Return the band of every stage, and the cells whose interval is borrowed: (E, J).

        `raw` the mean of the models, `models` (M, E, I) the increments of each. Beyond
        `last_supported_age` (E,) there is no interval. Every band holds its mean: where all that
        is known of errors lies on one side of it, the other bound is the mean itself.
        """
        observed_age = raw.observed_age
        observed_value = raw.observed_value
        bucket = age_bucket(observed_age)

        blended = raw.band
        if self.blend.is_on[bucket].any():
            pattern_growth = interval_growth(raw.pattern, observed_age, observed_value)
            growth = self.blend.apply(models, pattern_growth, observed_age)
            blended = rescale_growth(raw.band, growth, observed_age, observed_value)
            blended = blended.widen_to_mean()

        corrected = blended
        if self.correction.is_on[bucket].any():
            growth = interval_growth(blended.mean, observed_age, observed_value)
            segment = deepest_known_segment(self.correction.segments, cohorts)
            growth = self.correction.apply(growth, observed_age, segment)
            corrected = rescale_growth(blended, growth, observed_age, observed_value)
            corrected = corrected.widen_to_mean()

        segment = deepest_known_segment(self.intervals.segments, cohorts)
        final, is_borrowed = self.intervals.apply(replace(raw, band=corrected), segment)
        is_unsupported = NODE_AGES > last_supported_age[:, None]
        mask = np.where(is_unsupported, np.nan, 1.0)
        final = replace(final, p10=final.p10 * mask, p90=final.p90 * mask).widen_to_mean()
        bands: dict[Stage, Band] = {
            "raw": raw.band,
            "blended": blended,
            "corrected": corrected,
            "final": final,
        }
        return bands, is_borrowed

    def state(self) -> State:
        """Describe the stages by JSON values and arrays."""
        correction = self.correction
        intervals = self.intervals
        values = {
            "correction": _segments_state(correction.segments),
            "intervals": _segments_state(intervals.segments),
        }
        arrays = {
            "blend": self.blend.weight,
            "factor": correction.factor,
            "rows": correction.increment_count,
            "on": correction.is_on,
            "kappa": correction.kappa,
            "lower": intervals.lower,
            "upper": intervals.upper,
            "borrowed": intervals.is_borrowed,
            "noise": intervals.noise,
        }
        totals = self.totals
        arrays |= {
            "totals/common": totals.common,
            "totals/own": totals.own,
            "totals/origins": totals.origins,
            "totals/borrowed": totals.is_borrowed,
        }
        return values, arrays

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the stages that `state()` described."""
        correction = Correction(
            segments=_segments_from_state(values["correction"]),
            factor=arrays["factor"],
            increment_count=arrays["rows"],
            is_on=arrays["on"],
            kappa=arrays["kappa"],
        )
        intervals = Intervals(
            segments=_segments_from_state(values["intervals"]),
            lower=arrays["lower"],
            upper=arrays["upper"],
            is_borrowed=arrays["borrowed"],
            noise=arrays["noise"],
        )
        totals = TotalsUncertainty(
            common=arrays["totals/common"],
            own=arrays["totals/own"],
            origins=arrays["totals/origins"],
            is_borrowed=arrays["totals/borrowed"],
        )
        return cls(Blend(arrays["blend"]), correction, intervals, totals)


def deepest_known_segment(segments: Segments, cohorts: Curves | LedgerEntries) -> Ints:
    """Find the deepest known segment of each cohort, or of each entry's: (N,) or (E,)."""
    if isinstance(cohorts, LedgerEntries):
        return segments.find_deepest(cohorts.cohorts)[cohorts.cohort_index]
    return segments.find_deepest(cohorts)


def forecasts_at_stage(entries: LedgerEntries, stage: Stage) -> NodeForecasts:
    """Return the forecasts of entries as a stage left them."""
    return NodeForecasts(
        observed_age=entries.observed_age,
        observed_value=entries.observed_value,
        users=entries.users,
        pattern=entries.pattern,
        band=entries.bands[stage],
    )


def _segments_state(segments: Segments) -> dict[str, list[Any]]:
    """Describe segments by JSON values."""
    return {"names": list(segments.names), "keys": [list(key) for key in segments.keys]}


def _segments_from_state(values: dict[str, list[Any]]) -> Segments:
    """Restore the segments that `_segments_state` described."""
    return Segments.from_keys(tuple(values["names"]), [tuple(key) for key in values["keys"]])
