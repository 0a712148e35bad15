"""The leaderboard: models over the same forecasts, ours held against the best single baseline.

Errors are kept as sums by acquisition week, whose cohorts err alike: scores, bias, coverage and
intervals follow from them, of one backtest or of several together, its `part`s.

Shapes: E entries, J nodes, C cells of one observed age and horizon, R rows of sums.
"""

from collections.abc import Mapping, Sequence
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
    SCORED_AGES,
    SCORED_HORIZONS,
    BacktestRecord,
    ScoreCells,
    cells_at_age,
)
from ltvnet.data.curves import HORIZONS
from ltvnet.forecasting.model_spec import MIXTURE, ModelSpec
from ltvnet.storage import atomic_write

TABLE_AGES = (3, 7, 14, 30, 60)
"""Observed ages of the tables of errors, prefixes cut, those of them that were replayed."""

OWN_MODELS = ("neural", "corrected", MIXTURE)
"""Names in the registry of what is ltvnet's own, with the pattern and with departures from it."""

CHAIN_LADDER = "chain_ladder"
"""The model whose error above the oracle's is the unit of the excess."""

EXCESS_AGE = 7
EXCESS_HORIZONS = (180, 360)
"""Observed age and horizons of the excess."""

_TABLE_FILE = "leaderboard.csv"
_SUMS_FILE = "errors_by_week.csv"
_KEYS = ["model", "part", "observed_age", "horizon"]
_SUMS = ["loss", "off", "scale", "oracle", "inside", "banded"]


@dataclass(frozen=True)
class Entrant:
    """A model of a leaderboard: its `record`, whether `is_baseline`, what its fits took."""

    record: BacktestRecord
    is_baseline: bool
    fit_cost: FitCost | None


def is_baseline(spec: ModelSpec) -> bool:
    """Return whether a model is one that ltvnet is held against.

    Everything is but the pattern, models that learn the departure from it, and mixtures of these;
    chain ladder is the pattern without segments and levels, and a baseline.
    """
    if spec.name == "pattern":
        return bool(spec.arguments["levels"] == 0 and spec.arguments["kappa"] == 0)
    return spec.name not in OWN_MODELS and spec.arguments.get("target") != "departure"


def restrict_to_common_cells(records: Sequence[BacktestRecord]) -> list[BacktestRecord]:
    """Blank the outcomes of cells (E, J) that have not matured or that not all records forecast."""
    first = records[0]
    for record in records:
        for name in ("origin", "cohort_index", "observed_age", "natural_age"):
            values = getattr(record.entries, name)
            assert np.array_equal(values, getattr(first.entries, name)), record.name

    is_common = np.logical_and.reduce(
        [record.is_scorable & np.isfinite(record.entries.bands["final"].mean) for record in records]
    )
    common_actual = np.where(is_common, first.actual, np.nan)
    return [replace(record, actual=common_actual) for record in records]


@dataclass(frozen=True)
class Leaderboard:
    """Errors of models over the same cells.

    `weekly_sums` by model, part, observed age, horizon and acquisition week, in currency: `loss`
    of |error|, `off` of errors, `scale` of outcomes, `oracle` of the errors of one who knows the
    truth (NaN: unknown); `inside` cells of the `banded` ones, those with an interval.
    `model_facts` by model and part: `baseline`, `gini`, `seconds` of a fit, `parameters`.
    """

    weekly_sums: pd.DataFrame
    model_facts: pd.DataFrame

    @classmethod
    def from_entrants(cls, entrants: Sequence[Entrant], ages: Sequence[int]) -> Self:
        """Compare models that were asked for the same cohorts on the same days.

        `ages` observed ages that were replayed besides the cohorts' own.
        """
        table_ages = [age for age in TABLE_AGES if age in ages]
        records = restrict_to_common_cells([entrant.record for entrant in entrants])
        sums = []
        facts = []
        for entrant, record in zip(entrants, records, strict=True):
            sums.append(_sum_by_week(record, table_ages))
            cost = entrant.fit_cost or FitCost(np.nan, np.nan)
            fact = {"model": record.name, "part": 0, "baseline": entrant.is_baseline}
            facts.append(fact | {"gini": _mean_gini(record, table_ages)} | vars(cost))
        return cls(pd.concat(sums, ignore_index=True), pd.DataFrame(facts))

    @classmethod
    def pool(cls, boards: Sequence["Leaderboard"]) -> Self:
        """Join several to one, each a part of the same weight whose weeks are its own."""
        sums = [board.weekly_sums.assign(part=part) for part, board in enumerate(boards)]
        facts = [board.model_facts.assign(part=part) for part, board in enumerate(boards)]
        return cls(pd.concat(sums, ignore_index=True), pd.concat(facts, ignore_index=True))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the leaderboard that was written into a folder."""
        sums = pd.read_csv(folder / _SUMS_FILE)
        table = pd.read_csv(folder / _TABLE_FILE)
        fact_by_column = {
            "model": "model",
            "baseline": "baseline",
            "gini_d180": "gini",
            "fit_seconds": "seconds",
            "parameters": "parameters",
        }
        facts = table[list(fact_by_column)].rename(columns=fact_by_column)
        return cls(sums, facts.assign(part=0))

    def write(self, folder: Path) -> None:
        """Write `leaderboard.csv` and the sums behind it, from which `read` makes it again."""
        frame_by_file = {_TABLE_FILE: self.ranking.reset_index(), _SUMS_FILE: self.weekly_sums}
        for name, frame in frame_by_file.items():
            with atomic_write(folder / name) as path:
                frame.to_csv(path, index=False)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Sums by model, part, observed age and horizon, with `wape`, and `least` by the oracle."""
        cells = self.weekly_sums.groupby(_KEYS)[_SUMS].sum(skipna=False)
        scale = cells["scale"].where(cells["scale"] > 0)
        return cells.assign(wape=cells["loss"] / scale, least=cells["oracle"] / scale)

    @cached_property
    def scores(self) -> pd.Series:
        """Mean WAPE at SCORED_AGES and SCORED_HORIZONS by model, the best first."""
        models = self.model_facts["model"].unique()
        return self._mean_over_cells("wape").reindex(models).sort_values(kind="stable")

    @property
    def oracle_score(self) -> float:
        """Score of one who knows the truth; NaN where nobody does."""
        return float(self._mean_over_cells("least").mean())

    @property
    def best_baseline(self) -> str | None:
        """Name of the baseline with the best score; None: there is none that has one."""
        ranked_models = self.scores.dropna().index
        return next((name for name in ranked_models if self.is_baseline[name]), None)

    @property
    def champion(self) -> str | None:
        """Name of `best` where it was run, chosen beforehand, or else the best of ltvnet's own.

        None: there is none that has a score.
        """
        ranked_models = self.scores.dropna().index
        own_models = [name for name in ranked_models if not self.is_baseline[name]]
        if MIXTURE in own_models:
            return MIXTURE
        return next(iter(own_models), None)

    @cached_property
    def is_baseline(self) -> pd.Series:
        """Whether each model, the index, is a baseline."""
        return self.model_facts.groupby("model")["baseline"].all()

    def _mean_over_cells(self, column: str) -> pd.Series:
        """Mean of a column of the scored cells by model: within each part, then over parts."""
        cells = _select(self.cells, SCORED_AGES, SCORED_HORIZONS)
        return cells.groupby(["model", "part"])[column].mean().groupby("model").mean()

    def compare_scores(self, model: str, reference: str) -> metrics.Comparison:
        """Compare the score of a model with that of another, acquisition weeks resampled."""
        scale = _select(self.cells, SCORED_AGES, SCORED_HORIZONS).loc[model]["scale"]
        scale = scale[scale > 0]
        cells_of_part = scale.groupby("part").transform("size")
        parts = len(scale.index.unique("part"))
        weight_by_cell = 1 / (scale * cells_of_part * parts)  # cells weigh alike, and so do parts

        model_sums = self._scored_weeks(model)
        reference_sums = self._scored_weeks(reference)
        weight = weight_by_cell.reindex(model_sums.reset_index("week").index).to_numpy()
        week = model_sums.groupby(["part", "week"]).ngroup().to_numpy()
        return metrics.compare_wape(
            model_sums["loss"].to_numpy() * weight,
            reference_sums["loss"].to_numpy() * weight,
            model_sums["scale"].to_numpy() * weight,
            week,
            draws=BOOTSTRAP_DRAWS,
            seed=0,
        )

    def _scored_weeks(self, model: str) -> pd.DataFrame:
        """Sums of a model by part, observed age, horizon and week, of the cells that are scored."""
        rows = self.weekly_sums[self.weekly_sums["model"] == model]
        rows = rows.set_index([*_KEYS[1:], "week"]).sort_index()
        return _select(rows, SCORED_AGES, SCORED_HORIZONS)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Table of models, the best first: score, skill, bias, coverage, Gini, excess, cost, WAPE.

        `skill` is against `best_baseline`, in [`skill_low`, `skill_high`] at 95 %. Bias, coverage
        and Gini are those of forecasts at SCORED_AGES, the excess (WAPE - oracle's) over
        (chain ladder's - oracle's) those at EXCESS_AGE.
        """
        table = pd.DataFrame({"baseline": self.is_baseline, "score": self.scores})
        table = table.loc[self.scores.index].rename_axis("model")
        skills = [self._skill(str(name)) for name in table.index]
        table[["skill", "skill_low", "skill_high"]] = np.array(skills).reshape(-1, 3)

        for horizon in EXCESS_HORIZONS:
            table[f"bias_d{horizon}"] = self._bias(horizon)
        sums = _select(self.cells, SCORED_AGES, SCORED_HORIZONS).groupby("model")[_SUMS].sum()
        table["coverage"] = sums["inside"] / sums["banded"].where(sums["banded"] > 0)

        facts = self.model_facts.groupby("model")[["gini", "seconds", "parameters"]].mean()
        table["gini_d180"] = facts["gini"]
        for horizon in EXCESS_HORIZONS:
            table[f"excess_d{horizon}"] = self._excess(horizon)
        table[["fit_seconds", "parameters"]] = facts[["seconds", "parameters"]]
        return table.join(pd.DataFrame(self._wape_columns(), index=table.index))

    @property
    def wape_by_age(self) -> Mapping[int, pd.DataFrame]:
        """WAPE by observed age: tables with a row a model, the best first, and a column a horizon.

        NaN where nothing has matured.
        """
        wape = self.cells.groupby(["model", "observed_age", "horizon"])["wape"].mean()
        return {
            age: wape.xs(age, level="observed_age").unstack("horizon").loc[self.ranking.index]
            for age in wape.index.unique("observed_age")
        }

    @cached_property
    def champion_comparison(self) -> metrics.Comparison | None:
        """Score of the champion against that of the best baseline; None: one of them is missing."""
        champion = self.champion
        baseline = self.best_baseline
        if champion is None or baseline is None:
            return None
        return self.compare_scores(champion, baseline)

    def _skill(self, model: str) -> tuple[float, float, float]:
        """Skill of a model against the best baseline, and its interval; NaN where unknown."""
        if self.best_baseline is None or not np.isfinite(self.scores[model]):
            return np.nan, np.nan, np.nan
        comparison = self.compare_scores(model, self.best_baseline)
        return comparison.skill, comparison.skill_low, comparison.skill_high

    def _bias(self, horizon: int) -> pd.Series:
        """Bias of each model at a horizon: within each part, then over parts."""
        cells = _select(self.cells, SCORED_AGES, [horizon])
        sums = cells.groupby(["model", "part"])[["off", "scale"]].sum()
        bias = sums["off"] / sums["scale"].where(sums["scale"] > 0)
        return bias.groupby("model").mean()

    def _excess(self, horizon: int) -> pd.Series:
        """Error of each model above the oracle's, over that of chain ladder."""
        cells = _select(self.cells, [EXCESS_AGE], [horizon])
        mean = cells.groupby("model")[["wape", "least"]].mean()
        above_oracle = mean["wape"] - mean["least"]
        unit = above_oracle[CHAIN_LADDER] if CHAIN_LADDER in above_oracle.index else np.nan
        return above_oracle / unit

    def _wape_columns(self) -> dict[str, pd.Series]:
        """WAPE of each model by observed age and horizon, as columns of the ranking."""
        wape = self.cells.groupby(["model", "observed_age", "horizon"])["wape"].mean()
        by_cell = wape.groupby(["observed_age", "horizon"])
        return {
            f"wape_{age}_d{horizon}": values.droplevel(["observed_age", "horizon"])
            for (age, horizon), values in by_cell
        }


def _sum_by_week(record: BacktestRecord, ages: Sequence[int]) -> pd.DataFrame:
    """Sums of a model by observed age, horizon and acquisition week: R rows."""
    empty = pd.DataFrame(columns=[*_KEYS, "week", *_SUMS])
    frames = []
    for age, horizon in product(ages, HORIZONS):
        cells = cells_at_age(record, "final", age, horizon)
        if len(cells):
            sums = _cell_errors(cells).groupby("week", as_index=False).sum(skipna=False)
            frames.append(sums.assign(model=record.name, part=0, observed_age=age, horizon=horizon))
    return pd.concat(frames or [empty])


def _cell_errors(cells: ScoreCells) -> pd.DataFrame:
    """Week of each cell and the values that are summed over it: (C, columns)."""
    users = cells.users
    actual = cells.actual
    band = cells.band
    is_inside = metrics.inside_interval(actual, band.p10, band.p90)  # NaN without an interval
    columns = {
        "week": cells.acquisition_week,
        "loss": cells.weighted_error(band.mean),
        "off": users * (band.mean - actual),
        "scale": cells.weighted_outcome,
        "oracle": np.nan,
        "inside": np.nan_to_num(is_inside),
        "banded": np.isfinite(is_inside).astype(float),
    }
    if cells.oracle_forecast is not None:
        columns["oracle"] = cells.weighted_error(cells.oracle_forecast)
    return pd.DataFrame(columns)


def _mean_gini(record: BacktestRecord, ages: Sequence[int]) -> float:
    """Ranking of cohorts by D180 at SCORED_AGES, on average; NaN where none has matured."""
    ginis = []
    for age in SCORED_AGES:
        if age in ages:
            cells = cells_at_age(record, "final", age, 180)
            ginis.append(metrics.gini(cells.actual, cells.band.mean, cells.users))

    finite_ginis = [gini for gini in ginis if np.isfinite(gini)]
    return float(np.mean(finite_ginis)) if finite_ginis else float("nan")


def _select(frame: pd.DataFrame, ages: Sequence[int], horizons: Sequence[int]) -> pd.DataFrame:
    """Rows of some observed ages and horizons, levels of the index."""
    age = frame.index.get_level_values("observed_age")
    horizon = frame.index.get_level_values("horizon")
    return frame[age.isin(ages) & horizon.isin(horizons)]
