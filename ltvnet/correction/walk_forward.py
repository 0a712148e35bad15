"""Walk forward over past origins: learn from what had matured, correct, go on.

Shapes: E entries, R of them, J nodes, I intervals, M models.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
import pandas as pd

from ltvnet.backtesting.ledger import STAGES, LedgerEntries, Stage
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.activation import best_trial_by_bucket
from ltvnet.correction.blend import Blend
from ltvnet.correction.correction import CORRECTION_KAPPAS, Correction
from ltvnet.correction.intervals import CalibrationSample, Intervals, TotalsUncertainty
from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.correction.stages import LearnedStages, deepest_known_segment, forecasts_at_stage
from ltvnet.data.arrays import ONE_DAY, Floats, Ints
from ltvnet.data.curves import NODE_AGES, NODES, History
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import QUANTITIES, Band
from ltvnet.forecasting.interpolation import interval_growth
from ltvnet.forecasting.model_spec import Config
from ltvnet.forecasting.typed_config import settings_from

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
    def from_config(cls, config: Config) -> Self:
        """Read a config of `configs/validation`. Raises ValueError for keys that it has not."""
        sections = {
            "plan": settings_from(ReplayPlan, config.get("plan"), "validation.plan"),
            "learning": settings_from(StageSwitches, config.get("learning"), "validation.learning"),
        }
        return settings_from(cls, {**config, **sections}, "validation")


class WalkForward:
    """A walk over past forecasts that learns the stages before each origin.

    `models` raw forecasts of each model, all of the same rows sorted by origin, `history` what
    came true of them, `learning` which stages may be learned.
    """

    def __init__(
        self, models: Sequence[LedgerEntries], history: History, learning: StageSwitches
    ) -> None:
        """Copy the mean of the raw bands into every stage, to be filled as the walk goes."""
        first = models[0]
        for entries, name in product(
            models, ("origin", "cohort_index", "observed_age", "natural_age")
        ):
            assert np.array_equal(getattr(entries, name), getattr(first, name)), name
        assert all(entries.keys.equals(first.keys) for entries in models)
        self.history = history
        self.learning = learning

        raw_bands = [entries.bands["raw"] for entries in models]
        raw = mean_band(raw_bands)
        bands: dict[str, Band] = {stage: raw.map(lambda cells: cells.copy()) for stage in STAGES}
        is_borrowed = np.ones_like(first.is_borrowed)
        self.entries = replace(first, bands=bands, is_borrowed=is_borrowed)
        """The forecasts of all origins; the bands of those that the walk has passed are filled."""
        self.model_means = np.stack([band.mean for band in raw_bands])
        """The mean (M, E, J) as each model issued it."""
        self.trial_growth = np.zeros((len(CORRECTION_KAPPAS), len(first), len(NODES) - 1))
        """Increments (kappas, E, I) as each kappa would have corrected them at their origin."""
        self.stages_by_origin: dict[np.datetime64, LearnedStages] = {}
        """The stages that were learned by each origin."""

    def run(self) -> LedgerEntries:
        """Fill the bands of every origin, from what had come true by then."""
        for origin in np.unique(self.entries.origin):
            stages, corrections = self.learn_stages(origin)
            self.stages_by_origin[origin] = stages
            rows = np.flatnonzero(self.entries.origin == origin)
            entries = self.entries.take(rows)
            blended = self._fill_bands(rows, entries, stages)
            self._fill_trials(rows, entries, corrections, blended)
        return self.entries

    def _fill_bands(self, rows: Ints, entries: LedgerEntries, stages: LearnedStages) -> Band:
        """Fill the bands of `entries`, at `rows` (R,), by the stages; return the blended one."""
        raw = forecasts_at_stage(entries, "raw")
        model_growth = self._model_growth(rows)
        bands, is_borrowed = stages.apply(raw, model_growth, entries, entries.last_supported_age)

        self.entries.is_borrowed[rows] = is_borrowed
        for stage, quantity in product(STAGES, QUANTITIES):
            getattr(self.entries.bands[stage], quantity)[rows] = getattr(bands[stage], quantity)
        return bands["blended"]

    def _fill_trials(
        self,
        rows: Ints,
        entries: LedgerEntries,
        corrections: Sequence[Correction],
        blended: Band,
    ) -> None:
        """Fill the increments of `entries`, at `rows` (R,), as each kappa would correct them."""
        growth = interval_growth(blended.mean, entries.observed_age, entries.observed_value)
        for trial_growth, correction in zip(self.trial_growth, corrections, strict=True):
            segment = deepest_known_segment(correction.segments, entries)
            trial_growth[rows] = correction.apply(growth, entries.observed_age, segment, trial=True)

    def _model_growth(self, rows: Ints) -> Floats:
        """Increments of each model in some rows: (M, R, I)."""
        age = self.entries.observed_age[rows]
        value = self.entries.observed_value[rows]
        return np.stack([interval_growth(mean[rows], age, value) for mean in self.model_means])

    def learn_stages(self, date: np.datetime64) -> tuple[LearnedStages, list[Correction]]:
        """Learn the stages as of a day, from forecasts that had come true by it.

        Rows that were cut teach nothing, nor do cells beyond the ages that data supported. Also
        returns the correction of every kappa, for trial.
        """
        is_past = self.entries.origin < date
        rows = np.flatnonzero(is_past & self.entries.at_own_age)
        entries = self.entries.take(rows)
        if not len(entries):
            stages = LearnedStages.neutral(len(self.model_means))
            return stages, [Correction.neutral() for _ in CORRECTION_KAPPAS]

        curves = self.history.as_of(date)
        is_supported = entries.last_supported_age[:, None] >= NODE_AGES
        actual = np.where(is_supported, entries.look_up_actuals(curves), np.nan)
        segments = Segments.from_curves(curves.take(curves.observed_age >= 0), None)
        past = _Past(entries, actual, segments, date)

        blend = self._learn_blend(past, rows)
        blended = past.matured_forecasts("blended")
        corrections = [Correction.fit(blended, kappa) for kappa in CORRECTION_KAPPAS]
        correction = self._choose_correction(blended, corrections, rows)
        intervals, totals = self._learn_intervals(past)
        return LearnedStages(blend, correction, intervals, totals), corrections

    def _learn_blend(self, past: "_Past", rows: Ints) -> Blend:
        """Learn the weights of the models in past rows (R,); equal ones where switched off."""
        if not self.learning.blend:
            return Blend.equal(len(self.model_means))
        entries = past.entries
        pattern = interval_growth(entries.pattern, entries.observed_age, entries.observed_value)
        return Blend.fit(past.matured_forecasts("raw"), self._model_growth(rows), pattern)

    def _choose_correction(
        self, past: MaturedForecasts, corrections: list[Correction], rows: Ints
    ) -> Correction:
        """By bucket the kappa that was best on forecasts issued before it was learned, or none."""
        if not self.learning.correction:
            return Correction.neutral()
        best_trial = best_trial_by_bucket(past, [trial[rows] for trial in self.trial_growth])
        kappa_index = np.maximum(best_trial, 0)
        factor_by_kappa = np.stack([correction.factor for correction in corrections])
        return replace(
            corrections[0],
            factor=factor_by_kappa[kappa_index, np.arange(len(best_trial))],
            kappa=np.array(CORRECTION_KAPPAS)[kappa_index],
            is_on=best_trial >= 0,
        )

    def _learn_intervals(self, past: "_Past") -> tuple[Intervals, TotalsUncertainty]:
        """Learn intervals of cohorts and of totals; blank ones where switched off."""
        if not self.learning.intervals:
            return Intervals.blank(), TotalsUncertainty.blank()
        sample = past.calibration_sample()
        return Intervals.fit(sample, past.segments), TotalsUncertainty.fit(sample)


@dataclass(frozen=True)
class _Past:
    """Past entries (E), what came true of them by a `date`, `actual` (E, J), and its segments."""

    entries: LedgerEntries
    actual: Floats
    segments: Segments
    date: np.datetime64

    def matured_forecasts(self, stage: Stage) -> MaturedForecasts:
        """Growth that a stage forecast in each interval, beside what came true."""
        entries = self.entries
        observed_age = entries.observed_age
        observed_value = entries.observed_value
        is_ahead = observed_age[:, None] < NODE_AGES
        values = np.where(is_ahead, self.actual, observed_value[:, None])
        return MaturedForecasts(
            segments=self.segments,
            segment=deepest_known_segment(self.segments, entries),
            observed_age=observed_age,
            users=entries.users,
            week_index=pd.factorize(entries.acquisition_week)[0],
            origin_index=np.unique(entries.origin, return_inverse=True)[1],
            days_ago=((self.date - entries.origin) / ONE_DAY).astype(np.float64),
            forecast_growth=interval_growth(
                entries.bands[stage].mean, observed_age, observed_value
            ),
            actual_growth=np.diff(values, axis=1),
        )

    def calibration_sample(self) -> CalibrationSample:
        """Corrected forecasts beside what came true, to learn intervals from."""
        return CalibrationSample(
            forecast=forecasts_at_stage(self.entries, "corrected"),
            actual=self.actual,
            cohort_index=self.entries.cohort_index,
            origin=self.entries.origin,
            segment=deepest_known_segment(self.segments, self.entries),
        )


def replay_and_correct(replay: Replay, learning: StageSwitches) -> WalkForward:
    """Forecast past origins, raw as the ledger has or gets them, then walk on and correct them.

    Each model of a mixture has forecasts of its own in the ledger. Writes the corrected columns
    into the ledger.
    """
    models = []
    for member in replay.members:
        for count, origin in enumerate(member.run(), start=1):
            log.info("past origin %s forecast (%d of %d)", origin, count, len(member.origins))
        models.append(member.read())

    walk = WalkForward(models, replay.history, learning)
    entries = walk.run()
    name = replay.identity
    for origin, fit_day in zip(replay.origins, replay.fit_days, strict=True):
        replay.ledger.write(name, entries.take(entries.origin == origin), name, fit_day)
    return walk


def mean_band(bands: Sequence[Band]) -> Band:
    """Average several bands; one alone is returned as it is."""
    if len(bands) == 1:
        return bands[0]
    return Band(*(np.mean([getattr(band, name) for band in bands], axis=0) for name in QUANTITIES))
