"""What the past taught by some day: blend, correction and intervals, applied one after the other.

Shapes: E entries, J nodes, I intervals, M models, N cohorts.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.backtesting.ledger import Entries
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Growing, Intervals, Totals
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.data.curves import NODES, Curves
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Band, bucket
from ltvnet.forecasting.forecaster import State, below
from ltvnet.forecasting.interpolation import increments, scaled


@dataclass(frozen=True)
class Stages:
    """What the past taught by some day."""

    blend: Blend
    correction: Correction
    intervals: Intervals
    totals: Totals

    @classmethod
    def none(cls, models: int = 1) -> Self:
        """Nothing: the mean of the models stays as it is, and its intervals blank."""
        return cls(Blend.off(models), Correction.off(), Intervals.none(), Totals.none())

    @property
    def calibrated(self) -> bool:
        """Whether any interval was checked on the past."""
        return bool(np.isfinite(self.intervals.lower).any())

    def apply(
        self, raw: Growing, models: Floats, cohorts: Curves | Entries, reach: Ints
    ) -> tuple[dict[str, Band], Bools]:
        """The band of every stage, and the cells whose interval is borrowed: (E, J).

        `raw` the mean of the models, `models` (M, E, I) the increments of each. Beyond `reach`
        (E,), the last age that data supported, there is no interval.
        """
        observed, value = raw.observed, raw.value
        blended, now = raw.band, bucket(observed)
        if self.blend.on[now].any():
            expected = increments(raw.pattern, observed, value)
            mixed = self.blend.apply(models, expected, observed)
            blended = scaled(raw.band, mixed, observed, value)
        corrected = blended
        if self.correction.on[now].any():
            grown = increments(blended.mean, observed, value)
            segment = found(self.correction.segments, cohorts)
            fixed = self.correction.apply(grown, observed, segment)
            corrected = scaled(blended, fixed, observed, value)
        final, borrowed = self.intervals.apply(
            replace(raw, band=corrected), found(self.intervals.segments, cohorts)
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
            "rows": c.rows,
            "on": c.on,
            "kappa": c.kappa,
            "lower": i.lower,
            "upper": i.upper,
            "borrowed": i.borrowed,
            "noise": i.noise,
            **{
                f"totals/{field.name}": getattr(self.totals, field.name) for field in fields(Totals)
            },
        }
        return values, arrays

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The stages that `state()` described."""

        def segments(name: str) -> Segments:
            described = values[name]
            return Segments.named(tuple(described["names"]), [tuple(k) for k in described["keys"]])

        a = arrays
        corrected = segments("correction")
        return cls(
            Blend(a["blend"]),
            Correction(corrected, a["factor"], a["rows"], a["on"], a["kappa"]),
            Intervals(segments("intervals"), a["lower"], a["upper"], a["borrowed"], a["noise"]),
            Totals(**below(arrays, "totals/")),
        )


def found(segments: Segments, cohorts: Curves | Entries) -> Ints:
    """The deepest known segment of each cohort, or of each entry's: (N,) or (E,)."""
    if isinstance(cohorts, Entries):
        return segments.find(cohorts.cohorts)[cohorts.cohort]
    return segments.find(cohorts)


def growing(entries: Entries, stage: str) -> Growing:
    """Entries as a stage left them."""
    band = entries.bands[stage]
    return Growing(entries.observed, entries.value, entries.users, entries.pattern, band)
