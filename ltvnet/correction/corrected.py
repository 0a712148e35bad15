"""The forecaster that users get: a model, and the blend, correction and intervals of its past.

The past is walked forward once: at each origin the stages are learned from forecasts that had
come true by then, each stage on rows to which the earlier ones were applied as they stood at that
row's origin, and are applied there.

Shapes: E entries, J nodes, I intervals, N cohorts, H ages.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.origins import Plan, past_origins
from ltvnet.correction.intervals import Growing
from ltvnet.correction.stages import Stages
from ltvnet.correction.walk_forward import Learning, averaged, walked
from ltvnet.data.curves import NODES, Curves, History, checked_ages, day
from ltvnet.forecasting.explanation import parts, told
from ltvnet.forecasting.forecast import Band, Forecast, Parts
from ltvnet.forecasting.forecaster import Predictor, State, below, create, resolve
from ltvnet.forecasting.interpolation import between, increments
from ltvnet.forecasting.model_config import MIXTURE, bases, names
from ltvnet.models.pattern.pattern import Pattern, followed

log = logging.getLogger(__name__)


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
