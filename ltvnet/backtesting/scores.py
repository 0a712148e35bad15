"""How good past forecasts were: a ledger beside what came true, scored by age, horizon, segment.

Shapes: E entries, J nodes, C cells of one group and horizon.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ltvnet import metrics
from ltvnet.backtesting.ledger import LedgerEntries
from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, History
from ltvnet.forecasting.forecast import AGE_BUCKETS, Band, age_bucket

HORIZONS = (30, 60, 90, 180, 360)
"""Ages (days) at which forecasts are scored."""

SCORED_AGES = (7, 30)
SCORED_HORIZONS = (90, 180, 360)
"""The score is the mean WAPE over these observed ages and horizons."""

BOOTSTRAP_DRAWS = 1000
"""Bootstrap samples of acquisition weeks behind an interval."""


@dataclass(frozen=True)
class BacktestRecord:
    """Past forecasts of a model beside what came true.

    `entries` (E), `actual` (E, J) NaN where not matured, `error` (E, J) standard error of growth
    from the sampling of users and `oracle` (E, J) the forecast of one who knows the truth (None:
    unknown).
    """

    name: str
    entries: LedgerEntries
    actual: Floats
    standard_error: Floats | None = None
    oracle_forecast: Floats | None = None

    @property
    def is_scorable(self) -> Bools:
        """Cells (E, J) that have matured and lie within the ages that the data supported."""
        within: Bools = np.array(NODES) <= self.entries.last_supported_age[:, None]
        return np.isfinite(self.actual) & within

    def _band(self, stage: str) -> Band:
        if stage == "pattern":
            return Band(*[self.entries.pattern] * 4)
        return self.entries.bands[stage]

    def select_cells(self, stage: str, rows: Bools, horizon: int) -> "ScoreCells":
        """The supported forecasts of some entries at a horizon, as a stage left them.

        `stage` one of ledger.STAGES, or "pattern".
        """
        j, entries = NODES.index(horizon), self.entries
        at = np.flatnonzero(rows & self.is_scorable[:, j])
        band = self._band(stage)
        return ScoreCells(
            actual=self.actual[at, j],
            band=Band(*(getattr(band, name)[at, j] for name in ("mean", "p10", "p50", "p90"))),
            pattern=entries.pattern[at, j],
            users=entries.users[at],
            acquisition_week=entries.acquisition_week[at],
            origin_count=len(np.unique(entries.origin[at])),
            standard_error=None if self.standard_error is None else self.standard_error[at, j],
            oracle_forecast=None if self.oracle_forecast is None else self.oracle_forecast[at, j],
        )


@dataclass(frozen=True)
class ScoreCells:
    """Forecasts of one kind at one horizon: what one row of a score table is made of, (C,) each.

    Weights are users; cohorts of an acquisition `week` err alike.
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

    def compare_with_pattern(self) -> metrics.Comparison:
        """The mean against the historical pattern."""
        return compare_forecasts(self, self.band.mean, self.pattern)

    def compute_metrics(self) -> dict[str, float]:
        """Every metric, by name."""
        a, w, band = self.actual, self.users, self.band
        one = np.ones(len(a))
        versus = self.compare_with_pattern()
        inside = metrics.inside_interval(a, band.p10, band.p90)
        found = {
            "n": len(a),
            "weeks": len(np.unique(self.acquisition_week)),
            "origins": self.origin_count,
            "wape": metrics.wape(a, band.mean, w),
            "bias": metrics.bias(a, band.mean, w),
            "median_ape": metrics.median_ape(a, band.mean, w),
            "rmse": metrics.rmse(a, band.mean, w),
            "pinball_p10": metrics.pinball(a, band.p10, w, level=0.1),
            "pinball_p90": metrics.pinball(a, band.p90, w, level=0.9),
            "coverage": metrics.coverage(a, band.p10, band.p90, one),
            "coverage_error": metrics.clustered_standard_error(inside, one, self.acquisition_week),
            "width": metrics.interval_width(a, band.p10, band.p90, w),
            "wape_pattern": metrics.wape(a, self.pattern, w),
            "bias_pattern": metrics.bias(a, self.pattern, w),
            "skill": versus.skill,
            "skill_low": versus.skill_low,
            "skill_high": versus.skill_high,
            "gini": metrics.gini(a, band.mean, w),
            "spearman": metrics.spearman(a, band.mean),
        }
        if self.standard_error is not None:
            found["noise_floor"] = metrics.noise_floor(a, self.standard_error, w)
        if self.oracle_forecast is not None:
            found["wape_oracle"] = metrics.wape(a, self.oracle_forecast, w)
        return found


def build_record(
    name: str,
    entries: LedgerEntries,
    history: History,
    truth: Curves | None = None,
    errors: pd.DataFrame | None = None,
) -> BacktestRecord:
    """Past forecasts beside what had come true by the last day of a history.

    `truth` expected curves of a simulation and `errors` standard errors of curves, index the
    cohort key, where they are known.
    """
    actual = entries.look_up_actuals(history.as_of(history.last_day))
    error = None if errors is None else growth_standard_error(errors, entries)
    return BacktestRecord(
        name, entries, actual, error, None if truth is None else forecast_by_oracle(truth, entries)
    )


def with_pattern_of(record: BacktestRecord, reference: BacktestRecord) -> BacktestRecord:
    """A record whose pattern is what another model said of the same cohorts on the same days."""
    ours, theirs = record.entries, reference.entries
    same = (
        (ours.origin, ours.cohort_index, ours.observed_age),
        (theirs.origin, theirs.cohort_index, theirs.observed_age),
    )
    assert all(np.array_equal(*pair) for pair in zip(*same, strict=True))
    return replace(record, entries=replace(ours, pattern=theirs.bands["raw"].mean))


def compare_forecasts(cells: ScoreCells, mean: Floats, reference: Floats) -> metrics.Comparison:
    """A forecast of cells against another one, acquisition weeks resampled."""
    actual, w = cells.actual, cells.users
    loss, other = w * np.abs(mean - actual), w * np.abs(reference - actual)
    return metrics.compare_wape(
        loss, other, w * np.abs(actual), cells.acquisition_week, draws=BOOTSTRAP_DRAWS, seed=0
    )


def compare_stage_with_pattern(record: BacktestRecord, stage: str) -> metrics.Comparison:
    """A stage against the pattern over all that has matured, cohorts at their own age."""
    own = record.entries.natural_age == record.entries.observed_age
    parts = [record.select_cells(stage, own, horizon) for horizon in HORIZONS]
    columns = [
        (c.users * np.abs(c.band.mean - c.actual), c.users * np.abs(c.pattern - c.actual),
         c.users * np.abs(c.actual), c.acquisition_week) for c in parts
    ]  # fmt: skip
    loss, other, scale, week = (np.concatenate(column) for column in zip(*columns, strict=True))
    return metrics.compare_wape(loss, other, scale, week, draws=BOOTSTRAP_DRAWS, seed=0)


def group_by_observed_age(
    entries: LedgerEntries, ages: Sequence[int]
) -> Iterator[tuple[str, Bools]]:
    """Entries by observed age: those at exactly one of `ages`, and those at their own, by bucket.

    Yields a label, "7" or "7-13" days, and which entries (E,) are meant.
    """
    for age in ages:
        yield str(age), (entries.observed_age == age) & (entries.natural_age < age + 7)
    own = entries.natural_age == entries.observed_age
    for b, (low, high) in enumerate(pairwise((*AGE_BUCKETS, MAX_AGE))):
        yield f"{low}-{high - 1}", own & (age_bucket(entries.observed_age) == b)
    yield "all", own


def score_table(record: BacktestRecord, ages: Sequence[int], stage: str = "final") -> pd.DataFrame:
    """Scores of a model by observed age and horizon, a row each; empty where nothing matured.

    `revision` is told of all cohorts at their own age.
    """
    rows = []
    for label, chosen in group_by_observed_age(record.entries, ages):
        for horizon in HORIZONS:
            cells = record.select_cells(stage, chosen, horizon)
            if len(cells):
                key = {"model": record.name, "observed_age": label, "horizon": horizon}
                moved = revision(record.entries, horizon, stage) if label == "all" else np.nan
                rows.append(key | cells.compute_metrics() | {"revision": moved})
    return pd.DataFrame(rows)


def score_table_by_segment(
    record: BacktestRecord, level: int, stage: str = "final"
) -> pd.DataFrame:
    """Scores of cohorts at their own age by segment of a level of the hierarchy, and horizon."""
    entries = record.entries
    own = entries.natural_age == entries.observed_age
    names = entries.hierarchy[:level]
    keys = pd.MultiIndex.from_arrays([entries.cohorts.attributes[name] for name in names])
    codes, found = pd.factorize(keys, sort=True)
    rows = []
    for code, key in enumerate(found):
        for horizon in HORIZONS:
            cells = record.select_cells(stage, own & (codes[entries.cohort_index] == code), horizon)
            if len(cells):
                label: Mapping[str, object] = dict(zip(names, key, strict=True))
                rows.append(
                    {"model": record.name, **label, "horizon": horizon, **cells.compute_metrics()}
                )
    return pd.DataFrame(rows)


def mean_wape(record: BacktestRecord, stage: str = "final") -> float | None:
    """Mean WAPE at SCORED_AGES and SCORED_HORIZONS; None where none of these has matured.

    Cells that earned nothing at all have no WAPE and do not count.
    """
    found = [
        metrics.wape(cells.actual, cells.band.mean, cells.users)
        for label, rows in group_by_observed_age(record.entries, SCORED_AGES)
        if label in map(str, SCORED_AGES)
        for horizon in SCORED_HORIZONS
        if len(cells := record.select_cells(stage, rows, horizon))
    ]
    known = [wape for wape in found if np.isfinite(wape)]
    return float(np.mean(known)) if known else None


def revision(entries: LedgerEntries, horizon: int, stage: str) -> float:
    """How much forecasts of a cohort move from one origin to the next: sum of |change| over sum.

    Of cohorts at their own age, both weighed by users.
    """
    own = entries.take(entries.natural_age == entries.observed_age)
    frame = pd.DataFrame(
        {
            "cohort": own.cohort_index,
            "mean": own.users * own.bands[stage].mean[:, NODES.index(horizon)],
        }
    ).dropna()
    change = frame.groupby("cohort")["mean"].diff()
    moved = change.notna()
    total = float(frame["mean"][moved].sum())
    return float(change.abs().sum()) / total if total else float("nan")


def growth_standard_error(errors: pd.DataFrame, entries: LedgerEntries) -> Floats:
    """Standard error of growth (E, J) from standard errors of values, index the cohort key.

    As if what users spend after the observed age did not depend on what they spent before:
    sqrt(se(h)^2 - se(k)^2), slightly above the truth, as spenders go on spending. k is the
    last node not later than the observed age.
    """
    found = errors.reindex(entries.keys).to_numpy(dtype=float)[entries.cohort_index]
    node = np.searchsorted(np.array(NODES), entries.observed_age, side="right") - 1
    known = found[np.arange(len(found)), np.maximum(node, 0)][:, None]
    variance = np.maximum(found**2 - known**2, 0.0)
    error: Floats = np.sqrt(variance)
    return error


def forecast_by_oracle(truth: Curves, entries: LedgerEntries) -> Floats:
    """What one who knows the expected curves `truth` would have forecast: (E, J).

    y(k) + Lambda(h) - Lambda(k) for cohorts of a simulation, NaN for those it does not know.
    """
    if truth.index.names != entries.keys.names:
        return np.full(entries.pattern.shape, np.nan)
    values = np.concatenate((truth.values, np.full((1, AGES), np.nan)))
    expected = values[
        truth.index.get_indexer(entries.keys)[entries.cohort_index]
    ]  # -1: the last row
    begin = expected[np.arange(len(entries)), entries.observed_age]
    grown = expected[:, list(NODES)] - begin[:, None]
    return np.where(entries.has_forecast, entries.observed_value[:, None] + grown, np.nan)


def cells_at_age(record: BacktestRecord, stage: str, age: int, horizon: int) -> ScoreCells:
    """Forecasts made at exactly an observed age."""
    _, rows = next(group_by_observed_age(record.entries, (age,)))
    return record.select_cells(stage, rows, horizon)


def is_pattern_forecast(record: BacktestRecord) -> bool:
    """Whether a model's forecasts are the pattern's."""
    mean, pattern = record.entries.bands["final"].mean, record.entries.pattern
    return bool(np.allclose(mean, pattern, rtol=1e-9, atol=0, equal_nan=True))


def wape_of_cells(c: ScoreCells) -> float:
    """Error for a single cohort, weighted by users."""
    return metrics.wape(c.actual, c.band.mean, c.users)


def bias_of_cells(c: ScoreCells) -> float:
    """Error of the sum over cohorts."""
    return metrics.bias(c.actual, c.band.mean, c.users)


def irreducible_wape(c: ScoreCells) -> float:
    """The WAPE that nobody could have got below, by an oracle or by standard errors."""
    if c.oracle_forecast is not None:
        return metrics.wape(c.actual, c.oracle_forecast, c.users)
    return (
        float("nan")
        if c.standard_error is None
        else metrics.noise_floor(c.actual, c.standard_error, c.users)
    )


def coverage_with_error(c: ScoreCells) -> tuple[float, float]:
    """Share of outcomes inside the 80 % interval, and its standard error over weeks."""
    inside, one = metrics.inside_interval(c.actual, c.band.p10, c.band.p90), np.ones(len(c))
    share = metrics.coverage(c.actual, c.band.p10, c.band.p90, one)
    return share, metrics.clustered_standard_error(inside, one, c.acquisition_week)


def as_pattern_forecast(c: ScoreCells) -> ScoreCells:
    """The pattern alone."""
    return replace(c, band=Band(*[c.pattern] * 4))
