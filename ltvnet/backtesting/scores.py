"""How good past forecasts were: a ledger beside what came true, scored by age, horizon, segment.

Shapes: E entries, J nodes, K cohorts, C cells of one group and horizon.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from ltvnet import metrics
from ltvnet.backtesting.ledger import LedgerEntries, Stage
from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import AGES, HORIZONS, NODE_AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, Band, age_bucket

ScoredStage = Stage | Literal["pattern"]
"""A stage of a forecast, or the historical pattern beside it."""

SCORED_AGES = (7, 30)
SCORED_HORIZONS = (90, 180, 360)
"""The score is the mean WAPE over these observed ages and horizons."""

INTERVAL_SHARE = 0.8
"""Share of outcomes that the interval from P10 to P90 promises to hold."""

BOOTSTRAP_DRAWS = 1000
"""Bootstrap samples of acquisition weeks behind an interval."""


@dataclass(frozen=True)
class BacktestRecord:
    """Past forecasts of a model beside what came true.

    `entries` (E), `actual` (E, J) NaN where not matured, `standard_error` (E, J) of growth, from
    the sampling of users, and `oracle_forecast` (E, J), by one who knows the truth (None: unknown).
    """

    name: str
    entries: LedgerEntries
    actual: Floats
    standard_error: Floats | None = None
    oracle_forecast: Floats | None = None

    @property
    def is_scorable(self) -> Bools:
        """Whether each cell (E, J) has matured and lies within the ages that data supported."""
        is_supported: Bools = NODE_AGES <= self.entries.last_supported_age[:, None]
        return np.isfinite(self.actual) & is_supported

    def _band(self, stage: ScoredStage) -> Band:
        """Band of a stage; that of the pattern is its mean four times."""
        if stage == "pattern":
            return Band.from_mean(self.entries.pattern)
        return self.entries.bands[stage]

    def select_cells(self, stage: ScoredStage, rows: Bools, horizon: int) -> "ScoreCells":
        """Select the scorable forecasts of some entries at a horizon, as a stage left them.

        `stage` one of ledger.STAGES, or "pattern"; `rows` (E,) a mask.
        """
        node = NODES.index(horizon)
        selected = np.flatnonzero(rows & self.is_scorable[:, node])

        def cells(values: Floats) -> Floats:
            column: Floats = values[selected, node]
            return column

        def optional_cells(values: Floats | None) -> Floats | None:
            return None if values is None else cells(values)

        entries = self.entries
        return ScoreCells(
            actual=cells(self.actual),
            band=self._band(stage).map(cells),
            pattern=cells(entries.pattern),
            users=entries.users[selected],
            acquisition_week=entries.acquisition_week[selected],
            origin_count=len(np.unique(entries.origin[selected])),
            standard_error=optional_cells(self.standard_error),
            oracle_forecast=optional_cells(self.oracle_forecast),
        )


@dataclass(frozen=True)
class ScoreCells:
    """Forecasts of one kind at one horizon: what one row of a score table is made of, (C,) each.

    Weights are users; cohorts of an `acquisition_week` err alike.
    """

    actual: Floats
    band: Band
    pattern: Floats
    users: Floats
    acquisition_week: np.ndarray[Any, Any]
    origin_count: int
    standard_error: Floats | None
    oracle_forecast: Floats | None

    def __len__(self) -> int:
        """Number of cells C."""
        return len(self.actual)

    def weighted_error(self, forecast: Floats) -> Floats:
        """Absolute error of a forecast of the cells times users, in currency: (C,)."""
        return self.users * np.abs(forecast - self.actual)

    @property
    def weighted_outcome(self) -> Floats:
        """Absolute revenue that came true times users, in currency: (C,)."""
        return self.users * np.abs(self.actual)

    def compare_with_pattern(self) -> metrics.Comparison:
        """Compare the mean with the historical pattern."""
        return compare_forecasts(self, self.band.mean, self.pattern)

    def compute_metrics(self) -> dict[str, float]:
        """Compute every metric, by name."""
        actual = self.actual
        users = self.users
        band = self.band
        comparison = self.compare_with_pattern()
        coverage = coverage_of_cells(self)

        values = {
            "n": len(actual),
            "weeks": len(np.unique(self.acquisition_week)),
            "origins": self.origin_count,
            "wape": metrics.wape(actual, band.mean, users),
            "bias": metrics.bias(actual, band.mean, users),
            "median_ape": metrics.median_ape(actual, band.mean, users),
            "rmse": metrics.rmse(actual, band.mean, users),
            "pinball_p10": metrics.pinball(actual, band.p10, users, level=0.1),
            "pinball_p90": metrics.pinball(actual, band.p90, users, level=0.9),
            "coverage": coverage.share,
            "coverage_error": coverage.standard_error,
            "width": metrics.interval_width(actual, band.p10, band.p90, users),
            "wape_pattern": metrics.wape(actual, self.pattern, users),
            "bias_pattern": metrics.bias(actual, self.pattern, users),
            "skill": comparison.skill,
            "skill_low": comparison.skill_low,
            "skill_high": comparison.skill_high,
            "gini": metrics.gini(actual, band.mean, users),
            "spearman": metrics.spearman(actual, band.mean),
        }
        if self.standard_error is not None:
            values["noise_floor"] = metrics.noise_floor(actual, self.standard_error, users)
        if self.oracle_forecast is not None:
            values["wape_oracle"] = metrics.wape(actual, self.oracle_forecast, users)
        return values


def build_record(
    name: str,
    entries: LedgerEntries,
    history: History,
    truth: Curves | None = None,
    errors: pd.DataFrame | None = None,
) -> BacktestRecord:
    """Put past forecasts beside what had come true by the last day of a history.

    `truth` expected curves of a simulation and `errors` standard errors of curves, index the
    cohort key, where they are known.
    """
    latest = history.as_of(history.last_day)
    actual = entries.look_up_actuals(latest)
    actual[:, ~latest.is_exported(NODES)] = np.nan  # earlier values stand at ages between
    return BacktestRecord(
        name,
        entries,
        actual=actual,
        standard_error=None if errors is None else growth_standard_error(errors, entries),
        oracle_forecast=None if truth is None else forecast_by_oracle(truth, entries),
    )


def with_pattern_of(record: BacktestRecord, reference: BacktestRecord) -> BacktestRecord:
    """Return a record whose pattern is another model's forecast of the same cohorts and days."""
    entries = record.entries
    for name in ("origin", "cohort_index", "observed_age"):
        assert np.array_equal(getattr(entries, name), getattr(reference.entries, name)), name
    pattern = reference.entries.bands["raw"].mean
    return replace(record, entries=replace(entries, pattern=pattern))


def compare_forecasts(cells: ScoreCells, mean: Floats, reference: Floats) -> metrics.Comparison:
    """Compare a forecast of cells with another one, acquisition weeks resampled."""
    return metrics.compare_wape(
        cells.weighted_error(mean),
        cells.weighted_error(reference),
        cells.weighted_outcome,
        cells.acquisition_week,
        draws=BOOTSTRAP_DRAWS,
        seed=0,
    )


def compare_stage_with_pattern(record: BacktestRecord, stage: ScoredStage) -> metrics.Comparison:
    """Compare a stage with the pattern over all that has matured, cohorts at their own age."""
    at_own_age = record.entries.at_own_age
    cells_by_horizon = [record.select_cells(stage, at_own_age, horizon) for horizon in HORIZONS]
    return metrics.compare_wape(
        np.concatenate([cells.weighted_error(cells.band.mean) for cells in cells_by_horizon]),
        np.concatenate([cells.weighted_error(cells.pattern) for cells in cells_by_horizon]),
        np.concatenate([cells.weighted_outcome for cells in cells_by_horizon]),
        np.concatenate([cells.acquisition_week for cells in cells_by_horizon]),
        draws=BOOTSTRAP_DRAWS,
        seed=0,
    )


def group_by_observed_age(
    entries: LedgerEntries, ages: Sequence[int]
) -> Iterator[tuple[str, Bools]]:
    """Group entries by observed age: at exactly one of `ages`, and at their own age by bucket.

    Yields a label, "7" or "7-13" days or "all", and which entries (E,) are meant.
    """
    for age in ages:
        yield str(age), entries.at_observed_ages([age])

    at_own_age = entries.at_own_age
    for bucket, label in enumerate(AGE_BUCKET_LABELS):
        yield label, at_own_age & (age_bucket(entries.observed_age) == bucket)
    yield "all", at_own_age


def score_table(
    record: BacktestRecord, ages: Sequence[int], stage: ScoredStage = "final"
) -> pd.DataFrame:
    """Scores of a model by observed age and horizon, a row each; empty where nothing matured.

    `revision` is that of all cohorts at their own age, and stands in their row only.
    """
    score_rows = []
    for label, group in group_by_observed_age(record.entries, ages):
        for horizon in HORIZONS:
            cells = record.select_cells(stage, group, horizon)
            if not len(cells):
                continue
            score_row = {"model": record.name, "observed_age": label, "horizon": horizon}
            score_row |= cells.compute_metrics()
            score_row["revision"] = np.nan
            if label == "all":
                score_row["revision"] = revision(record.entries, horizon, stage)
            score_rows.append(score_row)
    return pd.DataFrame(score_rows)


def score_rows_at_ages(table: pd.DataFrame, ages: Sequence[int]) -> pd.DataFrame:
    """Return the rows of a score table of cohorts at exactly some observed ages, in their order."""
    if table.empty:
        return table
    parts = [table[table["observed_age"] == str(age)] for age in ages]
    return pd.concat([table[:0], *parts])


def score_rows_by_bucket(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a score table of cohorts at their own age, by bucket and together."""
    if table.empty:
        return table
    return table[table["observed_age"].isin([*AGE_BUCKET_LABELS, "all"])]


def score_rows_of_all_ages(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a score table of all cohorts at their own age together, by horizon."""
    return table if table.empty else table[table["observed_age"] == "all"]


def score_table_by_segment(
    record: BacktestRecord, level: int, stage: ScoredStage = "final"
) -> pd.DataFrame:
    """Scores of cohorts at their own age by segment of a level of the hierarchy, and horizon."""
    entries = record.entries
    names = entries.hierarchy[:level]
    attributes = entries.cohorts.attributes
    keys = pd.MultiIndex.from_arrays([attributes[name] for name in names])  # (K,)
    segment_by_cohort, segments = pd.factorize(keys, sort=True)
    segment_index = segment_by_cohort[entries.cohort_index]  # (E,)

    at_own_age = entries.at_own_age
    score_rows = []
    for (index, key), horizon in product(enumerate(segments), HORIZONS):
        group = at_own_age & (segment_index == index)
        cells = record.select_cells(stage, group, horizon)
        if len(cells):
            segment: Mapping[str, object] = dict(zip(names, key, strict=True))
            score_row = {"model": record.name, **segment, "horizon": horizon}
            score_rows.append(score_row | cells.compute_metrics())
    return pd.DataFrame(score_rows)


def mean_wape(record: BacktestRecord, stage: ScoredStage = "final") -> float | None:
    """Mean WAPE at SCORED_AGES and SCORED_HORIZONS; None where none of these has matured.

    Cells that earned nothing at all have no WAPE and do not count.
    """
    errors = []
    for age, horizon in product(SCORED_AGES, SCORED_HORIZONS):
        cells = cells_at_age(record, stage, age, horizon)
        error = wape_of_cells(cells) if len(cells) else float("nan")
        if np.isfinite(error):
            errors.append(error)
    return float(np.mean(errors)) if errors else None


def mean_wape_by_name(records: Sequence[BacktestRecord]) -> dict[str, float | None]:
    """Mean WAPE of each model by its name, and of the pattern of the first where it is none.

    None where nothing has matured, as `mean_wape` says; empty without a record.
    """
    scores = {record.name: mean_wape(record) for record in records}
    if records and "pattern" not in scores:
        scores["pattern"] = mean_wape(records[0], "pattern")
    return scores


def revision(entries: LedgerEntries, horizon: int, stage: ScoredStage) -> float:
    """How much forecasts of a cohort move from one origin to the next: sum of |change| over sum.

    Of cohorts at their own age, both weighed by users.
    """
    at_own_age = entries.take(entries.at_own_age)
    mean = at_own_age.bands[stage].mean[:, NODES.index(horizon)]
    frame = pd.DataFrame({"cohort": at_own_age.cohort_index, "mean": at_own_age.users * mean})
    frame = frame.dropna()

    change = frame.groupby("cohort")["mean"].diff()
    total = float(frame["mean"][change.notna()].sum())
    return float(change.abs().sum()) / total if total else float("nan")


def growth_standard_error(errors: pd.DataFrame, entries: LedgerEntries) -> Floats:
    """Standard error of growth (E, J) from standard errors of values, index the cohort key.

    As if what users spend after the observed age did not depend on what they spent before:
    sqrt(se(h)^2 - se(k)^2), slightly above the truth, as spenders go on spending. k is the
    last node not later than the observed age.
    """
    by_cohort = errors.reindex(entries.keys).to_numpy(dtype=float)  # (K, J)
    at_nodes = by_cohort[entries.cohort_index]  # (E, J)
    last_node = np.searchsorted(NODE_AGES, entries.observed_age, side="right") - 1
    at_observed_age = at_nodes[np.arange(len(at_nodes)), np.maximum(last_node, 0)][:, None]

    variance = np.maximum(at_nodes**2 - at_observed_age**2, 0.0)
    standard_error: Floats = np.sqrt(variance)
    return standard_error


def forecast_by_oracle(truth: Curves, entries: LedgerEntries) -> Floats:
    """Forecast (E, J) by one who knows the expected curves `truth` of a simulation.

    y(k) + Lambda(h) - Lambda(k), NaN for cohorts that are not in it.
    """
    if truth.index.names != entries.keys.names:
        return np.full(entries.pattern.shape, np.nan)

    values = np.concatenate((truth.values, np.full((1, AGES), np.nan)))
    row = truth.index.get_indexer(entries.keys)  # (K,), -1 of an unknown cohort: the last row
    expected = values[row[entries.cohort_index]]  # (E, A)
    at_observed_age = expected[np.arange(len(entries)), entries.observed_age]
    growth = expected[:, NODE_AGES] - at_observed_age[:, None]
    return np.where(entries.has_forecast, entries.observed_value[:, None] + growth, np.nan)


def cells_at_age(record: BacktestRecord, stage: ScoredStage, age: int, horizon: int) -> ScoreCells:
    """Forecasts made at exactly an observed age."""
    return record.select_cells(stage, record.entries.at_observed_ages([age]), horizon)


def is_pattern_forecast(record: BacktestRecord) -> bool:
    """Return whether a model's forecasts are the pattern's."""
    mean = record.entries.bands["final"].mean
    pattern = record.entries.pattern
    return bool(np.allclose(mean, pattern, rtol=1e-9, atol=0, equal_nan=True))


def wape_of_cells(cells: ScoreCells) -> float:
    """Error for a single cohort, weighted by users."""
    return metrics.wape(cells.actual, cells.band.mean, cells.users)


def bias_of_cells(cells: ScoreCells) -> float:
    """Error of the sum over cohorts."""
    return metrics.bias(cells.actual, cells.band.mean, cells.users)


def irreducible_wape(cells: ScoreCells) -> float:
    """WAPE that nobody could have got below, by an oracle or by standard errors; NaN: unknown."""
    if cells.oracle_forecast is not None:
        return metrics.wape(cells.actual, cells.oracle_forecast, cells.users)
    if cells.standard_error is not None:
        return metrics.noise_floor(cells.actual, cells.standard_error, cells.users)
    return float("nan")


@dataclass(frozen=True)
class IntervalCoverage:
    """Share of outcomes inside the 80 % interval, and its standard error over acquisition weeks.

    Of `cell_count` cells; NaN where no interval can be checked, the error also of a single week.
    """

    share: float
    standard_error: float
    cell_count: int

    @property
    def is_known(self) -> bool:
        """Whether an interval could be checked."""
        return bool(np.isfinite(self.share))

    @property
    def is_too_narrow(self) -> bool:
        """Whether fewer outcomes were inside than the interval promises."""
        return self.share < INTERVAL_SHARE

    @property
    def deviation(self) -> float:
        """How far the share is from the one that the interval promises."""
        return abs(self.share - INTERVAL_SHARE)

    @property
    def two_standard_errors(self) -> float:
        """Deviation that chance explains."""
        return 2 * self.standard_error


def coverage_of_cells(cells: ScoreCells) -> IntervalCoverage:
    """Compute the coverage of the 80 % interval, cells weighing alike."""
    band = cells.band
    equal_weight = np.ones(len(cells))
    is_inside = metrics.inside_interval(cells.actual, band.p10, band.p90)
    return IntervalCoverage(
        share=metrics.coverage(cells.actual, band.p10, band.p90, equal_weight),
        standard_error=metrics.clustered_standard_error(
            is_inside, equal_weight, cells.acquisition_week
        ),
        cell_count=len(cells),
    )


def as_pattern_forecast(cells: ScoreCells) -> ScoreCells:
    """Return the cells with the pattern alone as their forecast."""
    return replace(cells, band=Band.from_mean(cells.pattern))
