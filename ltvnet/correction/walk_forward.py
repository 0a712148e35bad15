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

from ltvnet.backtesting.ledger import STAGES, LedgerEntries
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import CORRECTION_KAPPAS, Correction
from ltvnet.correction.intervals import CalibrationSample, Intervals, TotalsUncertainty
from ltvnet.correction.past_errors import MaturedForecasts, best_trial_by_bucket
from ltvnet.correction.stages import LearnedStages, deepest_known_segment, forecasts_at_stage
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, History
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import QUANTITIES, Band
from ltvnet.forecasting.interpolation import interval_growth

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StageSwitches:
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
    plan: ReplayPlan
    learning: StageSwitches

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
            plan=ReplayPlan(**config["plan"]),
            learning=StageSwitches(**config["learning"]),
        )


class WalkForward:
    """Walks forward over past forecasts, learning the stages before each origin.

    `models` raw forecasts of each model, all of the same rows sorted by origin, `history` what
    came true of them, `learning` which stages may be learned.
    """

    def __init__(
        self, models: Sequence[LedgerEntries], history: History, learning: StageSwitches
    ) -> None:
        """Copy the mean of the raw bands into every stage, to be filled as the walk goes."""
        for rows, name in product(
            models, ("origin", "cohort_index", "observed_age", "natural_age")
        ):
            assert np.array_equal(getattr(rows, name), getattr(models[0], name)), name
        assert all(rows.keys.equals(models[0].keys) for rows in models)
        self.history, self.learning = history, learning
        raws = [entries.bands["raw"] for entries in models]
        entries = replace(models[0], bands=dict.fromkeys(STAGES, mean_band(raws)))
        self.model_means = np.stack([band.mean for band in raws])
        """The mean (M, E, J) as each model issued it."""
        bands = {
            stage: Band(*(getattr(entries.bands["raw"], name).copy() for name in QUANTITIES))
            for stage in STAGES
        }
        self.entries = replace(entries, bands=bands, is_borrowed=np.ones_like(entries.is_borrowed))
        shape = (len(CORRECTION_KAPPAS), len(entries), len(NODES) - 1)
        self.trial_growth = np.zeros(shape)
        """Increments (kappas, E, I) as each kappa would have corrected them at their origin."""
        self.stages_by_origin: dict[np.datetime64, LearnedStages] = {}
        """What was learned by each origin."""

    def run(self) -> LedgerEntries:
        """Fill the bands of every origin, from what had come true by then."""
        for origin in np.unique(self.entries.origin):
            stages, corrections = self.learn_stages(origin)
            self.stages_by_origin[origin] = stages
            rows = np.flatnonzero(self.entries.origin == origin)
            part = self.entries.take(rows)
            bands, self.entries.is_borrowed[rows] = stages.apply(
                forecasts_at_stage(part, "raw"), self._grown(rows), part, part.last_supported_age
            )
            for stage, name in product(STAGES, QUANTITIES):
                getattr(self.entries.bands[stage], name)[rows] = getattr(bands[stage], name)
            mixed = interval_growth(bands["blended"].mean, part.observed_age, part.observed_value)
            for trial, correction in zip(self.trial_growth, corrections, strict=True):
                segment = deepest_known_segment(correction.segments, part)
                trial[rows] = correction.apply(mixed, part.observed_age, segment, trial=True)
        return self.entries

    def _grown(self, rows: Ints) -> Floats:
        """Increments of each model in some rows: (M, R, I)."""
        observed, value = self.entries.observed_age[rows], self.entries.observed_value[rows]
        return np.stack([interval_growth(mean[rows], observed, value) for mean in self.model_means])

    def learn_stages(self, date: np.datetime64) -> tuple[LearnedStages, list[Correction]]:
        """The stages as of a day, from forecasts that had come true by it.

        Rows that were cut teach nothing, nor do cells beyond the ages that data supported. Also
        returns the correction of every kappa, for trial.
        """
        own = self.entries.natural_age == self.entries.observed_age
        rows = np.flatnonzero((self.entries.origin < date) & own)
        past = self.entries.take(rows)
        if not len(past):
            return LearnedStages.neutral(len(self.model_means)), [
                Correction.neutral() for _ in CORRECTION_KAPPAS
            ]
        known = self.history.as_of(date)
        supported = np.array(NODES) <= past.last_supported_age[:, None]
        actual = np.where(supported, past.look_up_actuals(known), np.nan)
        segments = Segments.from_curves(known.take(known.observed_age >= 0), None)
        came = _past(past, actual, segments, "raw", date)
        pattern = interval_growth(past.pattern, past.observed_age, past.observed_value)
        blend = Blend.equal(len(self.model_means))
        if self.learning.blend:
            blend = Blend.fit(came, self._grown(rows), pattern)
        came = _past(past, actual, segments, "blended", date)
        corrections = [Correction.fit(came, kappa) for kappa in CORRECTION_KAPPAS]
        correction = self._chosen(came, corrections, rows)
        intervals, totals = Intervals.blank(), TotalsUncertainty.blank()
        if self.learning.intervals:
            issued = _issued(past, actual, segments)
            intervals, totals = Intervals.fit(issued, segments), TotalsUncertainty.fit(issued)
        return LearnedStages(blend, correction, intervals, totals), corrections

    def _chosen(
        self, came: MaturedForecasts, corrections: list[Correction], rows: Ints
    ) -> Correction:
        """By bucket the kappa that was best on forecasts issued before it was learned, or none."""
        if not self.learning.correction:
            return Correction.neutral()
        chosen = best_trial_by_bucket(came, [trial[rows] for trial in self.trial_growth])
        which = np.maximum(chosen, 0)
        factor = np.stack([correction.factor for correction in corrections])
        return replace(
            corrections[0],
            factor=factor[which, np.arange(len(chosen))],
            kappa=np.array(CORRECTION_KAPPAS)[which],
            is_on=chosen >= 0,
        )


def _past(
    entries: LedgerEntries, actual: Floats, segments: Segments, stage: str, date: np.datetime64
) -> MaturedForecasts:
    observed, value = entries.observed_age, entries.observed_value
    ahead = np.array(NODES) > observed[:, None]
    return MaturedForecasts(
        segments=segments,
        segment=deepest_known_segment(segments, entries),
        observed_age=observed,
        users=entries.users,
        week_index=pd.factorize(entries.acquisition_week)[0],
        origin_index=np.unique(entries.origin, return_inverse=True)[1],
        days_ago=((date - entries.origin) / np.timedelta64(1, "D")).astype(np.float64),
        forecast_growth=interval_growth(entries.bands[stage].mean, observed, value),
        actual_growth=np.diff(np.where(ahead, actual, value[:, None]), axis=1),
    )


def _issued(entries: LedgerEntries, actual: Floats, segments: Segments) -> CalibrationSample:
    return CalibrationSample(
        forecast=forecasts_at_stage(entries, "corrected"),
        actual=actual,
        cohort_index=entries.cohort_index,
        origin=entries.origin,
        segment=deepest_known_segment(segments, entries),
    )


def replay_and_correct(replay: Replay, learning: StageSwitches) -> WalkForward:
    """Both passes: forecasts of past origins, raw as the ledger has or gets them, then corrected.

    Each model of a mixture has forecasts of its own in the ledger. Writes the corrected columns
    into the ledger.
    """
    models = []
    for member in replay.members:
        for done, origin in enumerate(member.run(), start=1):
            log.info("past origin %s forecast (%d of %d)", origin, done, len(member.origins))
        models.append(member.read())

    walk = WalkForward(models, replay.history, learning)
    entries = walk.run()
    name = replay.identity
    for origin, fit_day in zip(replay.origins, replay.fit_days, strict=True):
        replay.ledger.write(name, entries.take(entries.origin == origin), name, fit_day)
    return walk


def mean_band(bands: Sequence[Band]) -> Band:
    """The mean of several bands."""
    if len(bands) == 1:
        return bands[0]
    return Band(*(np.mean([getattr(band, name) for band in bands], axis=0) for name in QUANTITIES))
