"""The forecaster that users get: a model, and the blend, correction and intervals of its past.

The past is walked forward once: at each origin the stages are learned from forecasts that had
come true by then, each stage on rows to which the earlier ones were applied as they stood at that
row's origin, and are applied there.

Shapes: E entries, J nodes, I intervals, N cohorts, H ages.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.backtest import replay
from ltvnet.calibration import Growing, Intervals, Issued, Totals
from ltvnet.correction import (
    KAPPAS,
    Blend,
    Correction,
    Past,
    best,
    between,
    increments,
)
from ltvnet.curves import NODES, Curves, Floats, History, Ints, day
from ltvnet.development import Segments
from ltvnet.explanation import parts, told
from ltvnet.forecasting import (
    QUANTITIES,
    Band,
    Forecast,
    Parts,
    Predictor,
    State,
    below,
    checked_ages,
    create,
    resolve,
)
from ltvnet.identity import MIXTURE, bases, identity, names
from ltvnet.ledger import STAGES, Entries, Ledger
from ltvnet.origins import Plan, past_origins
from ltvnet.pattern import Pattern, followed
from ltvnet.stages import Stages, found, growing

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Which stages may be learned."""

    blend: bool
    correction: bool
    intervals: bool


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


def walked(
    config: Mapping[str, Any],
    history: History,
    origins: Sequence[np.datetime64],
    plan: Plan,
    learning: Learning,
    ledger: Ledger,
) -> Walk:
    """Both passes: forecasts of past origins, raw as the ledger has or gets them, then corrected.

    Each model of a mixture has forecasts of its own in the ledger. Writes the corrected columns
    into the ledger. Raises ValueError when there is no origin.
    """
    models = []
    for base in bases(config):
        for done, origin in enumerate(replay(base, history, origins, plan, ledger), start=1):
            log.info("past origin %s forecast (%d of %d)", origin, done, len(origins))
        own = identity(base, history, plan, origins[0])
        models.append(ledger.read(own, origins, history.hierarchy))
    name = identity(config, history, plan, origins[0])
    walk = Walk(models, history, learning)
    entries = walk.run()
    for origin, trained in zip(origins, plan.fitted_at(origins), strict=True):
        ledger.append(name, entries.take(entries.origin == origin), name, trained)
    return walk


def averaged(bands: Sequence[Band]) -> Band:
    """The mean of several bands."""
    if len(bands) == 1:
        return bands[0]
    return Band(*(np.mean([getattr(band, name) for band in bands], axis=0) for name in QUANTITIES))


class Corrected:
    """A forecaster with what its own past taught it.

    `base` the config of the model, or of a mixture of several, whose weights by observed age are
    learned too; `every_weeks` between the past origins that are replayed and `origins` how many at
    most (0: none, nothing is learned); `plan` the arguments of origins.Plan; `learning` those of
    Learning; `ledger` the folder of past forecasts (None: they are not kept). After `fit`, `past`
    are the forecasts of the past as they would have been issued (None: there were none).
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
        _ = bases(base)
        self.plan, self.learning = Plan(**plan), Learning(**learning)
        self.ledger = None if ledger is None else Path(ledger)

    def fit(self, history: History, date: object) -> Self:
        """Replay the past of `date`, learn from it, and fit the model as of `date`."""
        origin = day(date)
        known = history.until(origin)
        last = min(origin, known.last_day)
        if last < origin:
            log.warning("nothing is known of %s: the data end on %s", origin, last)
        past = past_origins(known, last, self.every_weeks, self.origins)
        self.stages, self.past = Stages.none(len(bases(self.config))), None
        with tempfile.TemporaryDirectory() as folder:
            if past:
                ledger = Ledger(self.ledger or Path(folder))
                walk = walked(self.config, known, past, self.plan, self.learning, ledger)
                self.past, (self.stages, _) = walk.entries, walk.learned(origin)
        seen = self.plan.seen(known.as_of(origin))
        self.models: list[Predictor] = [create(config).fit(seen) for config in bases(self.config)]
        return self

    @property
    def names(self) -> list[str]:
        """The name of each of `models`, as the weights of the blend are sorted."""
        return names(self.config)

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`, corrected and calibrated."""
        asked = checked_ages(ages)
        every = np.union1d(asked, NODES).tolist()
        said = [model.predict(curves, every) for model in self.models]
        mean = averaged([one.raw for one in said])
        raw = replace(said[0], raw=mean, final=mean)
        nodes = raw.at(NODES)
        middle = Band(nodes.raw.mean, *[nodes.raw.p50] * 3)  # bounds are those of the intervals
        observed, value = curves.observed_age, curves.observed_value
        alone = np.stack([increments(one.at(NODES).raw.mean, observed, value) for one in said])
        start = Growing(
            curves.observed_age, curves.observed_value, curves.users, nodes.pattern, middle
        )
        reach = np.full(len(curves), raw.reach)
        bands, borrowed = self.stages.apply(start, alone, curves, reach)
        right = np.searchsorted(np.array(NODES), raw.ages)
        issued = replace(
            raw,
            final=between(raw, nodes, bands["final"]),
            calibrated=self.stages.calibrated,
            borrowed=borrowed[:, right],
            totals=self.stages.totals,
        )
        return issued.at(asked.tolist())

    def followed(self) -> Pattern | None:
        """The pattern that all models follow between nodes, as what is corrected does then."""
        return followed(self.models)

    def parts(self, curves: Curves, age: int) -> Parts:
        """What a forecast is made of before its correction: the mean over models, on one pattern.

        Where one of the models cannot tell its growth from attributes, none of them does.
        """
        each = [parts(model, curves, age) for model in self.models]
        if any(one.whole for one in each):
            return each[0]._replace(shape=told(self, curves, age), whole=True)
        return each[0]._replace(shape=np.mean([one.shape for one in each], axis=0))

    def state(self) -> State:
        """The models' states and the stages."""
        learned, tables = self.stages.state()
        stored = {f"stages/{name}": array for name, array in tables.items()}
        described = []
        for m, (config, model) in enumerate(zip(bases(self.config), self.models, strict=True)):
            values, arrays = model.state()
            described.append({"base": self.names[m], "name": config["name"], "state": values})
            stored |= {f"models/{m}/{name}": array for name, array in arrays.items()}
        return {"models": described, "stages": learned}, stored

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described; it predicts, and fits no more."""
        made = cls.__new__(cls)
        described = values["models"]
        made.config = {"name": described[0]["name"]}
        if len(described) > 1:
            alone = {model["base"]: {"name": model["name"]} for model in described}
            made.config = {"name": MIXTURE, "bases": alone}
        made.models = [
            resolve(model["name"]).from_state(model["state"], below(arrays, f"models/{m}/"))
            for m, model in enumerate(described)
        ]
        made.stages = Stages.from_state(values["stages"], below(arrays, "stages/"))
        return made
