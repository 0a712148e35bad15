"""Where past forecasts were wrong: by day, by horizon, by interval of growth and by cohort.

Shapes: E entries, J nodes, O origins, H horizons, C cells of one group and horizon.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from ltvnet import metrics
from ltvnet.backtesting.ledger import Stage
from ltvnet.backtesting.scores import (
    BacktestRecord,
    IntervalCoverage,
    ScoreCells,
    ScoredStage,
    as_pattern_forecast,
    bias_of_cells,
    cells_at_age,
    coverage_of_cells,
    group_by_observed_age,
    irreducible_wape,
    is_pattern_forecast,
    wape_of_cells,
)
from ltvnet.data.arrays import Bools, Days, Floats, Ints
from ltvnet.data.curves import DAYS_PER_WEEK, HORIZONS, NODE_AGES, NODES
from ltvnet.forecasting.forecast import age_bucket
from ltvnet.forecasting.interpolation import interval_growth

POSITION_BINS = 10
"""Bins of the histogram of where outcomes fell in their interval."""

SMALLEST_GAP = 1e-9
"""Difference of two WAPE below which they are equal but for rounding."""

LARGEST_MISSES = 10
"""Cohorts that are shown as the largest misses, at most."""


@dataclass(frozen=True)
class CaseErrors:
    """Errors of models and of the pattern in one case: from an observed age, at a horizon.

    `wapes` of each model that is not the pattern; `least_wape` that nobody could have got below
    (NaN: unknown); `bias` and `coverage` of the first record, whatever it is. Errors are NaN where
    no revenue came.
    """

    observed_age: int
    horizon: int
    cohort_count: int
    wapes: Sequence[float]
    pattern_wape: float
    least_wape: float
    bias: float
    pattern_bias: float
    coverage: IntervalCoverage

    @property
    def gap(self) -> float:
        """By how much the WAPE of the first model is above the pattern's; without a model 0."""
        first_wape = self.wapes[0] if self.wapes else self.pattern_wape
        return first_wape - self.pattern_wape


@dataclass(frozen=True)
class PatternContest:
    """Errors of models beside the pattern's, by observed age and horizon.

    `cases` in which a forecast of the first record has matured, `model_names` of the records that
    are not the pattern, `first_is_model` whether the first record is one of them.
    """

    cases: Sequence[CaseErrors]
    model_names: Sequence[str]
    first_is_model: bool

    @property
    def has_revenue(self) -> bool:
        """Whether any case can be scored."""
        return bool(np.isfinite([case.gap for case in self.cases]).any())

    @property
    def closer_count(self) -> int:
        """Number of cases in which the first model was closer than the pattern."""
        return sum(case.gap < -SMALLEST_GAP for case in self.cases)

    @property
    def worse_count(self) -> int:
        """Number of cases in which the first model was further off than the pattern."""
        return sum(case.gap > SMALLEST_GAP for case in self.cases)


def hold_against_pattern(
    records: Sequence[BacktestRecord], ages: Sequence[int]
) -> PatternContest | None:
    """Hold models against the pattern at some observed ages; None where nothing has matured."""
    if not records:
        return None
    first = records[0]
    models = [record for record in records if not is_pattern_forecast(record)]

    cases = []
    for age, horizon in product(ages, HORIZONS):
        cells = cells_at_age(first, "final", age, horizon)
        if len(cells):
            cases.append(_case_errors(cells, models, age, horizon))
    if not cases:
        return None
    return PatternContest(
        cases=cases,
        model_names=[record.name for record in models],
        first_is_model=bool(models) and models[0] is first,
    )


def _case_errors(
    cells: ScoreCells, models: Sequence[BacktestRecord], age: int, horizon: int
) -> CaseErrors:
    """Compute the errors of one case: `cells` of the first record, beside those of `models`."""
    pattern_cells = as_pattern_forecast(cells)
    model_cells = [cells_at_age(record, "final", age, horizon) for record in models]
    return CaseErrors(
        observed_age=age,
        horizon=horizon,
        cohort_count=len(cells),
        wapes=[wape_of_cells(each) for each in model_cells],
        pattern_wape=wape_of_cells(pattern_cells),
        least_wape=irreducible_wape(cells),
        bias=bias_of_cells(cells),
        pattern_bias=bias_of_cells(pattern_cells),
        coverage=coverage_of_cells(cells),
    )


class BiasGrid(NamedTuple):
    """Bias of the sum over cohorts by day and horizon, of cohorts of the ages in `age_label`.

    `origins` (O,), `horizons` (H,), `bias` (O, H) a share of the outcome, NaN where not matured.
    """

    age_label: str
    origins: Days
    horizons: Ints
    bias: Floats


def bias_grid(record: BacktestRecord) -> BiasGrid | None:
    """Return the bias by day and horizon of cohorts 7-13 days old; None: nothing to score on.

    Where none of these can be scored, the bias of the age bucket that has most forecasts.
    """
    age_label, is_in_bucket = _scored_age_bucket(record)
    last_age = int(age_label.split("-")[1])
    is_later = NODE_AGES > last_age  # (J,)
    if not record.is_scorable[is_in_bucket][:, is_later].any():
        return None

    # Horizons that the data do not reach cannot mature, however long one waits.
    last_supported_age = record.entries.last_supported_age[is_in_bucket].max()
    horizons = NODE_AGES[is_later & (NODE_AGES <= last_supported_age)]
    origins = np.unique(record.entries.origin[is_in_bucket])
    bias = np.full((len(origins), len(horizons)), np.nan)
    for o, origin in enumerate(origins):
        entry_mask = is_in_bucket & (record.entries.origin == origin)
        for h, horizon in enumerate(horizons):
            cells = record.select_cells("final", entry_mask, int(horizon))
            bias[o, h] = bias_of_cells(cells)

    if not np.isfinite(bias).any():
        return None
    return BiasGrid(age_label, origins, horizons, bias)


def _scored_age_bucket(record: BacktestRecord) -> tuple[str, Bools]:
    """Return the label and the entries (E,) of the age bucket that a bias grid is of."""
    buckets = {
        label: entry_mask
        for label, entry_mask in group_by_observed_age(record.entries, ())
        if label != "all"
    }
    scorable_count = {
        label: int(record.is_scorable[entry_mask].sum()) for label, entry_mask in buckets.items()
    }
    label = "7-13"
    if not scorable_count[label]:
        label = max(buckets, key=lambda label: scorable_count[label])
    return label, buckets[label]


def scored_nodes(record: BacktestRecord, stage: ScoredStage, age: int) -> dict[int, ScoreCells]:
    """Return matured forecasts from an observed age at each node that is a week later or more."""
    later_nodes = [node for node in NODES if node >= age + DAYS_PER_WEEK]
    cells = {node: cells_at_age(record, stage, age, node) for node in later_nodes}
    return {node: cells[node] for node in later_nodes if len(cells[node])}


def bias_standard_error(cells: ScoreCells) -> float:
    """Return the standard error of the bias over cohorts, acquisition weeks varying together."""
    size = np.abs(cells.actual)
    relative_error = np.divide(
        cells.band.mean - cells.actual, size, out=np.full(len(cells), np.nan), where=size > 0
    )
    return metrics.clustered_standard_error(
        relative_error, cells.users * size, cells.acquisition_week
    )


@dataclass(frozen=True)
class IntervalCheck:
    """How intervals of cohorts at their own age held, all horizons together and one by one.

    `coverage` by horizon, of those that can be checked; `position_shares` (POSITION_BINS,) of the
    outcomes by where they fell in their interval, from below it to above it.
    """

    coverage: Mapping[int, IntervalCoverage]
    position_shares: Floats


def check_intervals(record: BacktestRecord) -> IntervalCheck | None:
    """Check the 80 % intervals of past forecasts; None where none can be checked."""
    at_own_age = record.entries.at_own_age
    cells = {h: record.select_cells("final", at_own_age, h) for h in HORIZONS}
    coverage = {h: coverage_of_cells(cells[h]) for h in HORIZONS}
    coverage = {h: coverage[h] for h in HORIZONS if coverage[h].is_known}
    if not coverage:
        return None
    positions = np.concatenate([outcome_positions(cells[h]) for h in coverage])
    return IntervalCheck(coverage, _shares_by_position(positions))


def outcome_positions(cells: ScoreCells) -> Floats:
    """Return where in [0, 1] the outcome of each cell (C,) fell in its forecast distribution.

    The probability integral transform: 0.1 at P10, 0.5 at P50, 0.9 at P90; NaN without an interval.
    """
    band = cells.band
    return metrics.pit(cells.actual, band.p10, band.p50, band.p90)


def _shares_by_position(positions: Floats) -> Floats:
    """Return the share of positions within [0, 1] in each of POSITION_BINS; 0 where none is."""
    is_known = np.isfinite(positions)
    counts, _ = np.histogram(positions[is_known], bins=POSITION_BINS, range=(0, 1))
    shares: Floats = counts / max(counts.sum(), 1)
    return shares


class LargestMisses(NamedTuple):
    """The largest misses in money at one horizon, one a cohort, the largest first.

    `rows` of the entries, at most LARGEST_MISSES; `overshoot` (E,) by how much each entry was
    too high, in currency, NaN where it is not scored.
    """

    rows: Ints
    overshoot: Floats

    @property
    def error_share(self) -> float:
        """Share of the absolute error of all scored entries that these rows make up."""
        total = np.nansum(np.abs(self.overshoot)) or 1
        return float(np.abs(self.overshoot[self.rows]).sum() / total)

    @property
    def too_low_count(self) -> int:
        """Number of these rows that were forecast too low."""
        return int((self.overshoot[self.rows] < 0).sum())


def largest_misses(record: BacktestRecord, entry_mask: Bools, horizon: int) -> LargestMisses:
    """Find the largest misses in money among some entries (E,) at a horizon."""
    j = NODES.index(horizon)
    entries = record.entries
    error = entries.bands["final"].mean[:, j] - record.actual[:, j]
    is_scored = entry_mask & record.is_scorable[:, j]
    overshoot = np.where(is_scored, entries.users * error, np.nan)  # (E,)

    by_size = np.argsort(-np.abs(overshoot), kind="stable")[: np.isfinite(overshoot).sum()]
    _, first_of_cohort = np.unique(entries.cohort_index[by_size], return_index=True)
    rows = by_size[np.sort(first_of_cohort)][:LARGEST_MISSES]
    return LargestMisses(rows, overshoot)


class GrowthErrors(NamedTuple):
    """Bias and WAPE of growth between two nodes, as shares of the growth that came true."""

    bias: float
    wape: float


def growth_errors(record: BacktestRecord, bucket: int, interval: int, stage: Stage) -> GrowthErrors:
    """Return bias and WAPE of growth between two nodes, of cohorts of an age bucket.

    `interval` the index of the first node; forecasts as a stage left them, of cohorts at their
    own age.
    """
    entries = record.entries
    is_in_bucket = age_bucket(entries.observed_age) == bucket
    rows = entries.at_own_age & is_in_bucket & record.is_scorable[:, interval + 1]
    entries = entries.take(rows)

    age = entries.observed_age
    value = entries.observed_value
    forecast = interval_growth(entries.bands[stage].mean, age, value)[:, interval]
    actual = interval_growth(record.actual[rows], age, value)[:, interval]
    return GrowthErrors(
        bias=metrics.bias(actual, forecast, entries.users),
        wape=metrics.wape(actual, forecast, entries.users),
    )
