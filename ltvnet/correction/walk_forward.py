"""Walk forward over past origins: learn from what had matured, correct, go on.

Legend: E entries, I intervals, M models.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

import numpy as np
import pandas as pd

from ltvnet.backtesting.ledger import STAGES, Entries
from ltvnet.backtesting.origins import Plan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import KAPPAS, Correction
from ltvnet.correction.intervals import Intervals, Issued, Totals
from ltvnet.correction.past_errors import Past, best
from ltvnet.correction.stages import Stages, found, growing
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, History
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import QUANTITIES, Band
from ltvnet.forecasting.interpolation import increments

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Which stages may be learned."""

    blend: bool
    correction: bool
    intervals: bool


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The past that a model is tried on before it is issued: a choice of configs/validation.

    At most `origins` past days, `every_weeks` apart (0: none, nothing is learned), replayed by
    `plan`; `learning` the stages that may be learned from them. Raises ValueError for counts out
    of their range.
    """

    origins: int
    every_weeks: int
    plan: Plan
    learning: Learning

    def __post_init__(self) -> None:
        """Check counts."""
        if self.every_weeks < 1 or self.origins < 0:
            raise ValueError(
                f"expected every_weeks >= 1 and origins >= 0, got {self.every_weeks} and "
                f"{self.origins}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a config of `configs/validation`."""
        return cls(
            origins=config["origins"],
            every_weeks=config["every_weeks"],
            plan=Plan(**config["plan"]),
            learning=Learning(**config["learning"]),
        )


class Walk:
    """Walks forward over past forecasts, learning the stages before each origin.

    `models` raw forecasts of each model, all of the same rows sorted by origin, `history` what
    came true of them, `learning` which stages may be learned.
    """

    def __init__(self, models: Sequence[Entries], history: History, learning: Learning) -> None:
        """Copy the mean of the raw bands into every stage, to be filled as the walk goes."""
        for rows, name in product(models, ("origin", "cohort", "observed", "natural")):
            assert np.array_equal(getattr(rows, name), getattr(models[0], name)), name
        assert all(rows.keys.equals(models[0].keys) for rows in models)
        self.history, self.learning = history, learning
        raws = [entries.bands["raw"] for entries in models]
        entries = replace(models[0], bands=dict.fromkeys(STAGES, averaged(raws)))
        self.means = np.stack([band.mean for band in raws])
        """The mean (M, E, J) as each model issued it."""
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
                growing(part, "raw"), self._grown(rows), part, part.reach
            )
            for stage, name in product(STAGES, QUANTITIES):
                getattr(self.entries.bands[stage], name)[rows] = getattr(bands[stage], name)
            mixed = increments(bands["blended"].mean, part.observed, part.value)
            for trial, correction in zip(self.trials, corrections, strict=True):
                segment = found(correction.segments, part)
                trial[rows] = correction.apply(mixed, part.observed, segment, trial=True)
        return self.entries

    def _grown(self, rows: Ints) -> Floats:
        """Increments of each model in some rows: (M, R, I)."""
        observed, value = self.entries.observed[rows], self.entries.value[rows]
        return np.stack([increments(mean[rows], observed, value) for mean in self.means])

    def learned(self, date: np.datetime64) -> tuple[Stages, list[Correction]]:
        """The stages as of a day, from forecasts that had come true by it.

        Rows that were cut teach nothing, nor do cells beyond the ages that data supported. Also
        returns the correction of every kappa, for trial.
        """
        own = self.entries.natural == self.entries.observed
        rows = np.flatnonzero((self.entries.origin < date) & own)
        past = self.entries.take(rows)
        if not len(past):
            return Stages.none(len(self.means)), [Correction.off() for _ in KAPPAS]
        known = self.history.as_of(date)
        supported = np.array(NODES) <= past.reach[:, None]
        actual = np.where(supported, past.actual(known), np.nan)
        segments = Segments.of(known.take(known.observed_age >= 0), None)
        came = _past(past, actual, segments, "raw", date)
        pattern = increments(past.pattern, past.observed, past.value)
        blend = Blend.off(len(self.means))
        if self.learning.blend:
            blend = Blend.learned(came, self._grown(rows), pattern)
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


def walked(replay: Replay, learning: Learning) -> Walk:
    """Both passes: forecasts of past origins, raw as the ledger has or gets them, then corrected.

    Each model of a mixture has forecasts of its own in the ledger. Writes the corrected columns
    into the ledger.
    """
    models = []
    for member in replay.members:
        for done, origin in enumerate(member.run(), start=1):
            log.info("past origin %s forecast (%d of %d)", origin, done, len(member.origins))
        models.append(member.read())

    walk = Walk(models, replay.history, learning)
    entries = walk.run()
    name = replay.identity
    for origin, fit_day in zip(replay.origins, replay.fit_days, strict=True):
        replay.ledger.append(name, entries.take(entries.origin == origin), name, fit_day)
    return walk


def averaged(bands: Sequence[Band]) -> Band:
    """The mean of several bands."""
    if len(bands) == 1:
        return bands[0]
    return Band(*(np.mean([getattr(band, name) for band in bands], axis=0) for name in QUANTITIES))
