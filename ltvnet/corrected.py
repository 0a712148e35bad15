"""The forecaster that users get: a model, and the blend, correction and intervals of its past.

The past is walked forward once: at each origin the stages are learned from forecasts that had
come true by then, each stage on rows to which the earlier ones were applied as they stood at that
row's origin, and are applied there.

Shapes: E entries, J nodes, I intervals, N cohorts, H ages.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.backtest import Plan, identity, past_origins, replay
from ltvnet.calibration import Growing, Intervals, Issued, Totals
from ltvnet.correction import (
    KAPPAS,
    Blend,
    Correction,
    Past,
    best,
    between,
    increments,
    scaled,
)
from ltvnet.curves import NODES, Bools, Curves, Floats, History, Ints, day
from ltvnet.development import Segments
from ltvnet.forecasting import (
    QUANTITIES,
    Band,
    Forecast,
    Predictor,
    State,
    below,
    checked_ages,
    create,
    resolve,
)
from ltvnet.ledger import STAGES, Entries, Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Which stages may be learned."""

    blend: bool
    correction: bool
    intervals: bool


@dataclass(frozen=True)
class Stages:
    """What the past taught by some day."""

    blend: Blend
    correction: Correction
    intervals: Intervals
    totals: Totals

    @classmethod
    def none(cls) -> Self:
        """Nothing: the forecast stays as it is, and its intervals blank."""
        return cls(Blend.off(), Correction.off(), Intervals.none(), Totals.none())

    @property
    def calibrated(self) -> bool:
        """Whether any interval was checked on the past."""
        return bool(np.isfinite(self.intervals.lower).any())

    def apply(
        self, raw: Growing, cohorts: Curves | Entries, reach: Ints
    ) -> tuple[dict[str, Band], Bools]:
        """The band of every stage, and the cells whose interval is borrowed: (E, J).

        Beyond `reach` (E,), the last age that data supported, there is no interval.
        """
        observed, value = raw.observed, raw.value
        grown = increments(raw.band.mean, observed, value)
        expected = increments(raw.pattern, observed, value)
        mixed = self.blend.apply(grown, expected, observed)
        blended = scaled(raw.band, mixed, observed, value)
        segment = found(self.correction.segments, cohorts)
        fixed = self.correction.apply(mixed, observed, segment)
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


class Walk:
    """Walks forward over past forecasts, learning the stages before each origin.

    `entries` raw forecasts sorted by origin, `history` what came true of them, `learning` which
    stages may be learned.
    """

    def __init__(self, entries: Entries, history: History, learning: Learning) -> None:
        """Copy the raw bands into every stage, to be filled as the walk goes."""
        self.history, self.learning = history, learning
        bands = {
            stage: Band(*(getattr(entries.bands["raw"], name).copy() for name in QUANTITIES))
            for stage in STAGES
        }
        self.entries = replace(entries, bands=bands, borrowed=np.ones_like(entries.borrowed))
        shape = (len(KAPPAS), len(entries), len(NODES) - 1)
        self.trials = np.zeros(shape)
        """Increments (kappas, E, I) as each kappa would have corrected them at their origin."""
        self.stages: dict[np.datetime64, Stages] = {}
        """What was learned by each origin."""

    def run(self) -> Entries:
        """Fill the bands of every origin, from what had come true by then."""
        for origin in np.unique(self.entries.origin):
            stages, corrections = self.learned(origin)
            self.stages[origin] = stages
            rows = np.flatnonzero(self.entries.origin == origin)
            part = self.entries.take(rows)
            bands, self.entries.borrowed[rows] = stages.apply(
                growing(part, "raw"), part, part.reach
            )
            for stage, name in product(STAGES, QUANTITIES):
                getattr(self.entries.bands[stage], name)[rows] = getattr(bands[stage], name)
            mixed = increments(bands["blended"].mean, part.observed, part.value)
            for trial, correction in zip(self.trials, corrections, strict=True):
                segment = found(correction.segments, part)
                trial[rows] = correction.apply(mixed, part.observed, segment, trial=True)
        return self.entries

    def learned(self, date: np.datetime64) -> tuple[Stages, list[Correction]]:
        """The stages as of a day, from forecasts that had come true by it.

        Rows that were cut teach nothing, nor do cells beyond the ages that data supported. Also
        returns the correction of every kappa, for trial.
        """
        own = self.entries.natural == self.entries.observed
        rows = np.flatnonzero((self.entries.origin < date) & own)
        past = self.entries.take(rows)
        if not len(past):
            return Stages.none(), [Correction.off() for _ in KAPPAS]
        known = self.history.as_of(date)
        supported = np.array(NODES) <= past.reach[:, None]
        actual = np.where(supported, past.actual(known), np.nan)
        segments = Segments.of(known.take(known.observed_age >= 0), None)
        came = _past(past, actual, segments, "raw", date)
        pattern = increments(past.pattern, past.observed, past.value)
        blend = Blend.learned(came, pattern) if self.learning.blend else Blend.off()
        came = _past(past, actual, segments, "blended", date)
        corrections = [Correction.learned(came, kappa) for kappa in KAPPAS]
        correction = self._chosen(came, corrections, rows)
        intervals, totals = Intervals.none(), Totals.none()
        if self.learning.intervals:
            issued = _issued(past, actual, segments)
            intervals, totals = Intervals.learned(issued, segments), Totals.learned(issued)
        return Stages(blend, correction, intervals, totals), corrections

    def _chosen(self, came: Past, corrections: list[Correction], rows: Ints) -> Correction:
        """By bucket the kappa that was best on forecasts issued before it was learned, or none."""
        if not self.learning.correction:
            return Correction.off()
        chosen = best(came, [trial[rows] for trial in self.trials])
        which = np.maximum(chosen, 0)
        factor = np.stack([correction.factor for correction in corrections])
        return replace(
            corrections[0],
            factor=factor[which, np.arange(len(chosen))],
            kappa=np.array(KAPPAS)[which],
            on=chosen >= 0,
        )


def _past(
    entries: Entries, actual: Floats, segments: Segments, stage: str, date: np.datetime64
) -> Past:
    observed, value = entries.observed, entries.value
    ahead = np.array(NODES) > observed[:, None]
    return Past(
        segments=segments,
        segment=found(segments, entries),
        observed=observed,
        users=entries.users,
        week=pd.factorize(entries.week)[0],
        origin=np.unique(entries.origin, return_inverse=True)[1],
        ago=((date - entries.origin) / np.timedelta64(1, "D")).astype(np.float64),
        forecast=increments(entries.bands[stage].mean, observed, value),
        actual=np.diff(np.where(ahead, actual, value[:, None]), axis=1),
    )


def _issued(entries: Entries, actual: Floats, segments: Segments) -> Issued:
    return Issued(
        forecast=growing(entries, "corrected"),
        actual=actual,
        cohort=entries.cohort,
        origin=entries.origin,
        segment=found(segments, entries),
    )


def walked(
    config: Mapping[str, Any],
    history: History,
    origins: Sequence[np.datetime64],
    plan: Plan,
    learning: Learning,
    ledger: Ledger,
) -> Walk:
    """Both passes: forecasts of past origins, raw as the ledger has or gets them, then corrected.

    Writes the corrected columns into the ledger. Raises ValueError when there is no origin.
    """
    for done, origin in enumerate(replay(config, history, origins, plan, ledger), start=1):
        log.info("past origin %s forecast (%d of %d)", origin, done, len(origins))
    name = identity(config, history, plan, origins[0])
    walk = Walk(ledger.read(name, origins, history.hierarchy), history, learning)
    entries = walk.run()
    for origin, trained in zip(origins, plan.fitted_at(origins), strict=True):
        ledger.append(name, entries.take(entries.origin == origin), name, trained)
    return walk


class Corrected:
    """A forecaster with what its own past taught it.

    `base` the config of the model; `every_weeks` between the past origins that are replayed and
    `origins` how many at most (0: none, nothing is learned); `plan` the arguments of
    backtest.Plan; `learning` those of Learning; `ledger` the folder of past forecasts (None: they
    are not kept). After `fit`, `past` are the forecasts of the past as they would have been
    issued (None: there were none).
    """

    def __init__(
        self,
        *,
        base: Mapping[str, Any],
        every_weeks: int,
        origins: int,
        plan: Mapping[str, Any],
        learning: Mapping[str, bool],
        ledger: str | None,
    ) -> None:
        """Take the configuration. Raises ValueError for counts out of their range."""
        if every_weeks < 1 or origins < 0:
            raise ValueError(
                f"expected every_weeks >= 1 and origins >= 0, got {every_weeks} and {origins}"
            )
        self.config, self.every_weeks, self.origins = base, every_weeks, origins
        self.plan, self.learning = Plan(**plan), Learning(**learning)
        self.ledger = None if ledger is None else Path(ledger)

    base: Predictor

    def fit(self, history: History, date: object) -> Self:
        """Replay the past of `date`, learn from it, and fit the model as of `date`."""
        origin = day(date)
        known = history.until(origin)
        last = min(origin, known.last_day)
        if last < origin:
            log.warning("nothing is known of %s: the data end on %s", origin, last)
        past = past_origins(known, last, self.every_weeks, self.origins)
        self.stages, self.past = Stages.none(), None
        with tempfile.TemporaryDirectory() as folder:
            if past:
                ledger = Ledger(self.ledger or Path(folder))
                walk = walked(self.config, known, past, self.plan, self.learning, ledger)
                self.past, (self.stages, _) = walk.entries, walk.learned(origin)
        self.base = create(self.config).fit(self.plan.seen(known.as_of(origin)))
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, corrected and calibrated."""
        asked = checked_ages(ages)
        raw = self.base.predict(curves, np.union1d(asked, NODES).tolist())
        nodes = raw.at(NODES)
        start = Growing(
            curves.observed_age, curves.observed_value, curves.users, nodes.pattern, nodes.raw
        )
        bands, borrowed = self.stages.apply(start, curves, np.full(len(curves), raw.reach))
        right = np.searchsorted(np.array(NODES), raw.ages)
        issued = replace(
            raw,
            final=between(raw, nodes, bands["final"]),
            calibrated=self.stages.calibrated,
            borrowed=borrowed[:, right],
            totals=self.stages.totals,
        )
        return issued.at(asked.tolist())

    def state(self) -> State:
        """The model's state and the stages."""
        values, arrays = self.base.state()
        learned, tables = self.stages.state()
        described = {"base": {"name": self.config["name"], "state": values}, "stages": learned}
        stored = {f"base/{name}": array for name, array in arrays.items()}
        return described, stored | {f"stages/{name}": array for name, array in tables.items()}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described; it predicts, and fits no more."""
        made = cls.__new__(cls)
        base = values["base"]
        made.config = {"name": base["name"]}
        made.base = resolve(base["name"]).from_state(base["state"], below(arrays, "base/"))
        made.stages = Stages.from_state(values["stages"], below(arrays, "stages/"))
        return made
