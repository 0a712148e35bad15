"""The leaderboard: models over the same forecasts, ours held against the best single baseline.

Errors are kept as sums by acquisition week, whose cohorts err alike: scores, bias, coverage and
intervals follow from them, of one backtest or of several together, its `part`s.

Shapes: E entries, J nodes, C cells of one observed age and horizon, R rows of sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from ltvnet import metrics
from ltvnet.backtesting.replay import FitCost
from ltvnet.backtesting.scores import (
    BOOTSTRAP_DRAWS,
    HORIZONS,
    SCORED_AGES,
    SCORED_HORIZONS,
    BacktestRecord,
    ScoreCells,
    cells_at_age,
)
from ltvnet.forecasting.model_spec import MIXTURE, ModelSpec
from ltvnet.storage import atomic_write

TABLE_AGES = (3, 7, 14, 30, 60)
"""Observed ages of the tables of errors, prefixes cut, those of them that were replayed."""

OWN_MODELS = ("neural", "corrected", MIXTURE)
"""Names in the registry of what is ltvnet's own, with the pattern and with departures from it."""

CHAIN_LADDER = "chain_ladder"
"""The model whose error above the oracle's is the unit of the excess."""

EXCESS_AGE, EXCESS_HORIZONS = 7, (180, 360)

_KEYS = ["model", "part", "observed_age", "horizon"]
_SUMS = ["loss", "off", "scale", "oracle", "inside", "banded"]


@dataclass(frozen=True)
class Entrant:
    """A model of a leaderboard: its `record`, whether it is a `baseline`, what its fits took."""

    record: BacktestRecord
    is_baseline: bool
    fit_cost: FitCost | None


def is_baseline(spec: ModelSpec) -> bool:
    """Whether a model is one that ltvnet is held against.

    Everything is but the pattern, models that learn the departure from it, and mixtures of these;
    chain ladder is the pattern without segments and levels, and a baseline.
    """
    if spec.name == "pattern":
        return bool(spec.arguments["levels"] == 0 and spec.arguments["kappa"] == 0)
    return spec.name not in OWN_MODELS and spec.arguments.get("target") != "departure"


def restrict_to_common_cells(records: Sequence[BacktestRecord]) -> list[BacktestRecord]:
    """Records with only the cells (E, J) that have matured and that all of them forecast."""
    first = records[0].entries
    for record in records:
        for name in ("origin", "cohort_index", "observed_age", "natural_age"):
            assert np.array_equal(getattr(record.entries, name), getattr(first, name)), record.name
    common = np.logical_and.reduce(
        [r.is_scorable & np.isfinite(r.entries.bands["final"].mean) for r in records]
    )
    return [replace(r, actual=np.where(common, records[0].actual, np.nan)) for r in records]


@dataclass(frozen=True)
class Leaderboard:
    """Errors of models over the same cells.

    `weeks` sums by model, part, observed age, horizon and acquisition week, in currency: `loss`
    of |error|, `off` of errors, `scale` of outcomes, `oracle` of the errors of one who knows the
    truth (NaN: unknown); `inside` cells of the `banded` ones, those with an interval. `models` by
    model and part: `baseline`, `gini`, `seconds` of a fit, `parameters`.
    """

    weekly_sums: pd.DataFrame
    model_facts: pd.DataFrame

    @classmethod
    def from_entrants(cls, entrants: Sequence[Entrant], ages: Sequence[int]) -> Self:
        """Of models that were asked for the same cohorts on the same days.

        `ages` observed ages that were replayed besides the cohorts' own.
        """
        shown = [age for age in TABLE_AGES if age in ages]
        weeks, models = [], []
        records = restrict_to_common_cells([entrant.record for entrant in entrants])
        for entrant, record in zip(entrants, records, strict=True):
            weeks.append(_sums(record, shown))
            cost = entrant.fit_cost or FitCost(np.nan, np.nan)
            fixed = {"baseline": entrant.is_baseline, "gini": _gini(record, shown)}
            models.append({"model": record.name, "part": 0} | fixed | vars(cost))
        return cls(pd.concat(weeks, ignore_index=True), pd.DataFrame(models))

    @classmethod
    def pool(cls, boards: Sequence["Leaderboard"]) -> Self:
        """Several as one, each a part of the same weight whose weeks are its own."""
        weeks = [board.weekly_sums.assign(part=part) for part, board in enumerate(boards)]
        models = [board.model_facts.assign(part=part) for part, board in enumerate(boards)]
        return cls(*(pd.concat(frames, ignore_index=True) for frames in (weeks, models)))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The leaderboard that was written into a folder."""
        weeks, table = (pd.read_csv(folder / name) for name in (_WEEKS, _TABLE))
        names = {"model": "model", "baseline": "baseline", "gini_d180": "gini"}
        names |= {"fit_seconds": "seconds", "parameters": "parameters"}
        return cls(weeks, table[list(names)].rename(columns=names).assign(part=0))

    def write(self, folder: Path) -> None:
        """Write `leaderboard.csv` and the sums behind it, from which `read` makes it again."""
        frames = {_TABLE: self.ranking.reset_index(), _WEEKS: self.weekly_sums}
        for name, frame in frames.items():
            with atomic_write(folder / name) as path:
                frame.to_csv(path, index=False)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Sums by model, part, observed age and horizon, with `wape` and `least`, the oracle's."""
        cells = self.weekly_sums.groupby(_KEYS)[_SUMS].sum(skipna=False)
        scale = cells["scale"].where(cells["scale"] > 0)
        return cells.assign(wape=cells["loss"] / scale, least=cells["oracle"] / scale)

    @cached_property
    def scores(self) -> pd.Series:
        """Mean WAPE at SCORED_AGES and SCORED_HORIZONS by model, the best first."""
        found = self._scored("wape").reindex(self.model_facts["model"].unique())
        return found.sort_values(kind="stable")

    @property
    def oracle_score(self) -> float:
        """The score of one who knows the truth; NaN where nobody does."""
        return float(self._scored("least").mean())

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the best score; None: there is none that has one."""
        return next((name for name in self.scores.dropna().index if self.is_baseline[name]), None)

    @property
    def champion(self) -> str | None:
        """`best` where it was run, chosen beforehand, or else the best of ltvnet's own.

        None: there is none that has a score.
        """
        own = [name for name in self.scores.dropna().index if not self.is_baseline[name]]
        return MIXTURE if MIXTURE in own else next(iter(own), None)

    @cached_property
    def is_baseline(self) -> pd.Series:
        """Whether each model is a baseline."""
        return self.model_facts.groupby("model")["baseline"].all()

    def _scored(self, column: str) -> pd.Series:
        cells = _only(self.cells, SCORED_AGES, SCORED_HORIZONS)
        return cells.groupby(["model", "part"])[column].mean().groupby("model").mean()

    def compare_scores(self, model: str, reference: str) -> metrics.Comparison:
        """The score of a model against that of another, acquisition weeks resampled."""
        scale = _only(self.cells, SCORED_AGES, SCORED_HORIZONS).loc[model]["scale"]
        scale = scale[scale > 0]
        each = scale.groupby("part").transform("size")  # cells weigh alike, and so do parts
        weight = 1 / (scale * each * len(scale.index.unique("part")))
        rows, other = self._weeks_of(model), self._weeks_of(reference)
        weights = weight.reindex(rows.reset_index("week").index).to_numpy()
        loss, beside, size = (
            column.to_numpy() * weights for column in (rows["loss"], other["loss"], rows["scale"])
        )
        week = rows.groupby(["part", "week"]).ngroup().to_numpy()
        return metrics.compare_wape(loss, beside, size, week, draws=BOOTSTRAP_DRAWS, seed=0)

    def _weeks_of(self, model: str) -> pd.DataFrame:
        """Sums of a model by part, observed age, horizon and week, of the cells that are scored."""
        rows = (
            self.weekly_sums[self.weekly_sums["model"] == model]
            .set_index([*_KEYS[1:], "week"])
            .sort_index()
        )
        return _only(rows, SCORED_AGES, SCORED_HORIZONS)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """A row a model, the best first: score, skill, bias, coverage, ranking, excess, cost, WAPE.

        `skill` is against `best_baseline`, in [`skill_low`, `skill_high`] at 95 %. Bias, coverage
        and Gini are those of forecasts at SCORED_AGES, the excess (WAPE - oracle's) over
        (chain ladder's - oracle's) those at EXCESS_AGE.
        """
        table = pd.DataFrame({"baseline": self.is_baseline, "score": self.scores})
        table = table.loc[self.scores.index].rename_axis("model")
        skills = [self._skill(str(name)) for name in table.index]
        table[["skill", "skill_low", "skill_high"]] = np.array(skills).reshape(-1, 3)
        scored = _only(self.cells, SCORED_AGES, SCORED_HORIZONS).groupby("model")[_SUMS].sum()
        for horizon in EXCESS_HORIZONS:
            table[f"bias_d{horizon}"] = self._bias(horizon)
        table["coverage"] = scored["inside"] / scored["banded"].where(scored["banded"] > 0)
        mean = self.model_facts.groupby("model")[["gini", "seconds", "parameters"]].mean()
        table["gini_d180"] = mean["gini"]
        for horizon in EXCESS_HORIZONS:
            table[f"excess_d{horizon}"] = self._excess(horizon)
        table[["fit_seconds", "parameters"]] = mean[["seconds", "parameters"]]
        wape = self.cells.groupby(["model", "observed_age", "horizon"])["wape"].mean()
        columns = {f"wape_{age}_d{h}": cells.droplevel([1, 2])
                   for (age, h), cells in wape.groupby(["observed_age", "horizon"])}  # fmt: skip
        return table.join(pd.DataFrame(columns, index=table.index))

    def _skill(self, model: str) -> tuple[float, float, float]:
        if self.best_baseline is None or not np.isfinite(self.scores[model]):
            return np.nan, np.nan, np.nan
        found = self.compare_scores(model, self.best_baseline)
        return found.skill, found.skill_low, found.skill_high

    def _bias(self, horizon: int) -> pd.Series:
        cells = _only(self.cells, SCORED_AGES, [horizon])
        sums = cells.groupby(["model", "part"])[["off", "scale"]].sum()
        return (sums["off"] / sums["scale"].where(sums["scale"] > 0)).groupby("model").mean()

    def _excess(self, horizon: int) -> pd.Series:
        cells = _only(self.cells, [EXCESS_AGE], [horizon])
        mean = cells.groupby("model")[["wape", "least"]].mean()
        above = mean["wape"] - mean["least"]
        return above / (above[CHAIN_LADDER] if CHAIN_LADDER in above.index else np.nan)


def _sums(record: BacktestRecord, ages: Sequence[int]) -> pd.DataFrame:
    """Sums of a model by observed age, horizon and acquisition week: R rows."""
    frames = [pd.DataFrame(columns=[*_KEYS, "week", *_SUMS])]
    for age, horizon in product(ages, HORIZONS):
        if len(cells := cells_at_age(record, "final", age, horizon)):
            weekly = _errors(cells).groupby("week", as_index=False).sum(skipna=False)
            frames.append(
                weekly.assign(model=record.name, part=0, observed_age=age, horizon=horizon)
            )
    return pd.concat(frames[len(frames) > 1 :])


def _errors(cells: ScoreCells) -> pd.DataFrame:
    """What is summed, of each cell: (C, columns)."""
    w, a, band = cells.users, cells.actual, cells.band
    inside = metrics.inside_interval(a, band.p10, band.p90)
    return pd.DataFrame(
        {
            "week": cells.acquisition_week,
            "loss": w * np.abs(band.mean - a),
            "off": w * (band.mean - a),
            "scale": w * np.abs(a),
            "oracle": np.nan
            if cells.oracle_forecast is None
            else w * np.abs(cells.oracle_forecast - a),
            "inside": np.nan_to_num(inside),
            "banded": np.isfinite(inside).astype(float),
        }
    )


def _gini(record: BacktestRecord, ages: Sequence[int]) -> float:
    """Ranking of cohorts by D180 at SCORED_AGES, on average."""
    asked = [cells_at_age(record, "final", age, 180) for age in SCORED_AGES if age in ages]
    found = [metrics.gini(c.actual, c.band.mean, c.users) for c in asked]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _only(frame: pd.DataFrame, ages: Sequence[int], horizons: Sequence[int]) -> pd.DataFrame:
    """Rows of some observed ages and horizons, levels of the index."""
    index = frame.index
    age, horizon = (index.get_level_values(name) for name in ("observed_age", "horizon"))
    return frame[age.isin(ages) & horizon.isin(horizons)]


_TABLE, _WEEKS = "leaderboard.csv", "errors_by_week.csv"
