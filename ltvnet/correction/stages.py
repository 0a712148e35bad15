"""What the past taught by some day: blend, correction and intervals, applied one after the other.

Shapes: E entries, J nodes, I intervals, M models, N cohorts.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.backtesting.ledger import LedgerEntries
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Intervals, NodeForecasts, TotalsUncertainty
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Band, age_bucket
from ltvnet.forecasting.forecaster import State, strip_prefix
from ltvnet.forecasting.interpolation import interval_growth, rescale_growth


@dataclass(frozen=True)
class LearnedStages:
    """What the past taught by some day."""

    blend: Blend
    correction: Correction
    intervals: Intervals
    totals: TotalsUncertainty

    @classmethod
    def neutral(cls, models: int = 1) -> Self:
        """Nothing: the mean of the models stays as it is, and its intervals blank."""
        return cls(
            Blend.equal(models), Correction.neutral(), Intervals.blank(), TotalsUncertainty.blank()
        )

    @property
    def has_intervals(self) -> bool:
        """Whether any interval was checked on the past."""
        return bool(np.isfinite(self.intervals.lower).any())

    def apply(
        self, raw: NodeForecasts, models: Floats, cohorts: Curves | LedgerEntries, reach: Ints
    ) -> tuple[dict[str, Band], Bools]:
        """The band of every stage, and the cells whose interval is borrowed: (E, J).

        `raw` the mean of the models, `models` (M, E, I) the increments of each. Beyond `reach`
        (E,), the last age that data supported, there is no interval.
        """
        observed, value = raw.observed_age, raw.observed_value
        blended, now = raw.band, age_bucket(observed)
        if self.blend.is_on[now].any():
            expected = interval_growth(raw.pattern, observed, value)
            mixed = self.blend.apply(models, expected, observed)
            blended = rescale_growth(raw.band, mixed, observed, value)
        corrected = blended
        if self.correction.is_on[now].any():
            grown = interval_growth(blended.mean, observed, value)
            segment = deepest_known_segment(self.correction.segments, cohorts)
            fixed = self.correction.apply(grown, observed, segment)
            corrected = rescale_growth(blended, fixed, observed, value)
        final, borrowed = self.intervals.apply(
            replace(raw, band=corrected), deepest_known_segment(self.intervals.segments, cohorts)
        )
        told = np.where(np.array(NODES) > reach[:, None], np.nan, 1.0)
        final = replace(final, p10=final.p10 * told, p90=final.p90 * told)
        bands = {"raw": raw.band, "blended": blended, "corrected": corrected, "final": final}
        return bands, borrowed

    def state(self) -> State:
        """JSON values and arrays."""
        c, i = self.correction, self.intervals
        values = {
            name: {"names": list(s.names), "keys": [list(key) for key in s.keys]}
            for name, s in (("correction", c.segments), ("intervals", i.segments))
        }
        arrays = {
            "blend": self.blend.weight,
            "factor": c.factor,
            "rows": c.increment_count,
            "on": c.is_on,
            "kappa": c.kappa,
            "lower": i.lower,
            "upper": i.upper,
            "borrowed": i.is_borrowed,
            "noise": i.noise,
            **{
                f"totals/{field.name}": getattr(self.totals, field.name)
                for field in fields(TotalsUncertainty)
            },
        }
        return values, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The stages that `state()` described."""

        def segments(name: str) -> Segments:
            described = values[name]
            return Segments.from_keys(
                tuple(described["names"]), [tuple(k) for k in described["keys"]]
            )

        a = arrays
        corrected = segments("correction")
        return cls(
            Blend(a["blend"]),
            Correction(corrected, a["factor"], a["rows"], a["on"], a["kappa"]),
            Intervals(segments("intervals"), a["lower"], a["upper"], a["borrowed"], a["noise"]),
            TotalsUncertainty(**strip_prefix(arrays, "totals/")),
        )


def deepest_known_segment(segments: Segments, cohorts: Curves | LedgerEntries) -> Ints:
    """The deepest known segment of each cohort, or of each entry's: (N,) or (E,)."""
    if isinstance(cohorts, LedgerEntries):
        return segments.find_deepest(cohorts.cohorts)[cohorts.cohort_index]
    return segments.find_deepest(cohorts)


def forecasts_at_stage(entries: LedgerEntries, stage: str) -> NodeForecasts:
    """Entries as a stage left them."""
    band = entries.bands[stage]
    return NodeForecasts(
        entries.observed_age, entries.observed_value, entries.users, entries.pattern, band
    )
