"""Nothing at an origin may know what came later: garbage there must not move a single bit.

The mask stands here in full, apart from the code under test: a value at age a is known at the end
of day D if its snapshot is not later than D (or is the first one) and end + a <= D.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from factories.all_forecasters import FORECASTERS
from factories.cohorts import weekly_history
from factories.configs import (
    ALL_STAGES,
    CHAIN_LADDER,
    LSTM,
    PATTERN,
    Config,
    arguments_of,
    corrected_config,
)
from factories.forecasts import assert_same_forecasts, fit_as_of
from factories.models import (
    identity_of,
    make_corrected,
    make_replay,
    make_run_context,
)

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import WalkForward
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.models.neural.covariates import CovariateScaling
from ltvnet.models.neural.forecaster import FittedNet, NeuralForecaster
from ltvnet.models.pattern.fitted_pattern import FittedPattern
from ltvnet.models.pattern.pattern import Pattern

ORIGIN = np.datetime64("2024-02-29")
LATER = np.datetime64("2025-06-01")


@cache
def vintages() -> History:
    """Cohorts before and after the origin, in two snapshots before and one after it."""
    early = weekly_history(50, seed=1, covariates=True)
    late = weekly_history(75, seed=1, covariates=True)
    days = ["2024-01-15", "2024-02-20", str(LATER)]
    exports = [cohorts.until(date) for cohorts, date in zip((early, late, late), days, strict=True)]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(cohorts, name) for cohorts in exports])
        for name in ("start", "end", "users", "spend", "values")
    }
    apps = np.concatenate([cohorts.attributes["Apps"] for cohorts in exports])
    snapshot = np.repeat(np.array(days, "datetime64[D]"), [len(cohorts) for cohorts in exports])
    series = {"retention": np.concatenate([cohorts.series["retention"] for cohorts in exports])}
    return replace(
        exports[0], **columns, attributes={"Apps": apps}, snapshot=snapshot, series=series
    )


@cache
def one_file() -> History:
    """Cohorts in one snapshot after the origin, which is cut by date."""
    return weekly_history(75, seed=1, covariates=True).until(LATER)


HISTORIES = {"vintages": vintages, "one file": one_file}


def known_cells(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Written out: which rows, and which of their cells, were known at the end of ORIGIN."""
    exported = (history.snapshot <= ORIGIN) | (history.snapshot.min() > ORIGIN)
    row = exported & (history.end <= ORIGIN)
    cell_day = history.end[:, None] + np.arange(AGES)[None, :] * np.timedelta64(1, "D")
    return row, row[:, None] & (cell_day <= ORIGIN)


def other_numbers(values: Floats, rng: np.random.Generator) -> Floats:
    return np.cumsum(rng.gamma(2.0, 3.0, values.shape), axis=1)


GARBAGE: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "other numbers": other_numbers,
    "NaN": lambda values, _: np.full_like(values, np.nan),
    "inf": lambda values, _: np.full_like(values, np.inf),
    "1e30": lambda values, _: np.full_like(values, 1e30),
}


def spoil_future(history: History, kind: str) -> History:
    """Put garbage into all that came after the origin, and the rows in another order."""
    rng = np.random.default_rng(7)
    known_row, known_cell = known_cells(history)
    cell_day = history.end[:, None] + np.arange(AGES)[None, :] * np.timedelta64(1, "D")

    def later_garbage(cells: Floats) -> Floats:
        garbage = np.where(cell_day <= history.snapshot[:, None], GARBAGE[kind](cells, rng), np.nan)
        return np.where(known_cell, cells, garbage)

    apps = history.attributes["Apps"].copy()
    apps[history.end > ORIGIN] = "garbage " + apps[history.end > ORIGIN]
    order = rng.permutation(len(history))
    arrays = {
        "start": history.start,
        "end": history.end,
        "snapshot": history.snapshot,
        "users": np.where(known_row, history.users, rng.uniform(1, 1e9, len(history))),
        "spend": np.where(known_row, history.spend, 1e30),
        "values": later_garbage(history.values),
    }
    series = {name: later_garbage(cells)[order] for name, cells in history.series.items()}
    shuffled: dict[str, Any] = {name: array[order] for name, array in arrays.items()}
    return replace(history, **shuffled, attributes={"Apps": apps[order]}, series=series)


def fit_at_origin(config: Config, history: History) -> Predictor:
    return fit_as_of(config, history, ORIGIN)


def forecast_ended_cohorts(fit: Callable[[History], Predictor], history: History) -> Forecast:
    """Forecasts of the cohorts that had ended, by a forecaster fitted on the history."""
    forecast = fit(history).predict(history.as_of(ORIGIN), NODES)
    ended = forecast.curves.end <= ORIGIN
    borrowed = forecast.is_borrowed

    def rows(band: Band) -> Band:
        return Band(*(getattr(band, quantity)[ended] for quantity in QUANTITIES))

    return replace(
        forecast,
        curves=forecast.curves.take(ended),
        pattern=forecast.pattern[ended],
        raw=rows(forecast.raw),
        final=rows(forecast.final),
        reason=forecast.reason[ended],
        is_borrowed=None if borrowed is None else borrowed[ended],
    )


@pytest.fixture(scope="module")
def clean() -> dict[tuple[str, str], Forecast]:
    return {
        (name, source): forecast_ended_cohorts(partial(fit_at_origin, config), make_history())
        for name, config in FORECASTERS.items()
        for source, make_history in HISTORIES.items()
    }


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("source", HISTORIES)
@pytest.mark.parametrize("name", FORECASTERS)
def test_the_future_moves_no_bit(
    name: str, source: str, kind: str, clean: dict[tuple[str, str], Forecast]
) -> None:
    later = spoil_future(HISTORIES[source](), kind)
    assert_same_forecasts(
        forecast_ended_cohorts(partial(fit_at_origin, FORECASTERS[name]), later),
        clean[name, source],
    )


@pytest.mark.parametrize("source", HISTORIES)
def test_garbage_is_really_there(source: str) -> None:
    history = spoil_future(HISTORIES[source](), "1e30")
    for cells in (history.values, history.series["retention"]):
        assert (cells == 1e30).sum() > 10_000
    assert {"garbage a", "garbage b"} < set(history.attributes["Apps"])


@pytest.mark.parametrize("source", HISTORIES)
def test_there_is_something_to_spoil(source: str, clean: dict[tuple[str, str], Forecast]) -> None:
    """Over a hundred cohorts; a past that taught a correction, and intervals."""
    for name in FORECASTERS:
        forecast = clean[name, source]
        assert len(forecast.curves) >= 100
        assert forecast.is_calibrated == name.startswith("corrected")
    fixed = clean["corrected chain_ladder", source]
    assert (fixed.final.mean != fixed.raw.mean)[fixed.is_ahead].mean() > 0.5
    assert np.isfinite(fixed.final.p10[fixed.is_ahead]).mean() > 0.5


@pytest.fixture(scope="module")
def past_entries(tmp_path_factory: pytest.TempPathFactory) -> LedgerEntries:
    """Past forecasts of nine origins, the last of them ORIGIN, and of three later ones."""
    ledger, history = Ledger(tmp_path_factory.mktemp("ledger")), one_file()
    plan = make_corrected(FORECASTERS["corrected chain_ladder"]).validation.plan
    days = list(np.arange(ORIGIN - 28 * 8, ORIGIN + 28 * 3 + 1, 28))
    assert len(list(make_replay(CHAIN_LADDER, history, days, plan, ledger).run())) == 12
    name = identity_of(CHAIN_LADDER, history, plan, days[0])
    return ledger.read(name, days, history.hierarchy)


@pytest.mark.parametrize("kind", GARBAGE)
def test_later_rows_of_a_ledger_move_no_bit(kind: str, past_entries: LedgerEntries) -> None:
    """Neither forecasts of later origins, nor what came true later of those of earlier ones."""
    rng = np.random.default_rng(0)
    early = past_entries.origin <= ORIGIN
    walk_then = WalkForward([past_entries.take(early)], one_file().until(ORIGIN), ALL_STAGES)

    raw = (getattr(past_entries.bands["raw"], quantity) for quantity in QUANTITIES)
    wrong = Band(*(np.where(early[:, None], cells, GARBAGE[kind](cells, rng)) for cells in raw))
    changed = replace(past_entries, bands=dict.fromkeys(STAGES, wrong))
    walk = WalkForward([changed], spoil_future(one_file(), kind), ALL_STAGES)

    expected = walk_then.run()
    with np.errstate(all="ignore"), suppress(ValueError):  # what is infinite later is refused then
        walk.run()
    early_entries = walk.entries.take(early)
    for stage, quantity in product(STAGES, QUANTITIES):
        cells = getattr(expected.bands[stage], quantity)
        cells_with_garbage = getattr(early_entries.bands[stage], quantity)
        np.testing.assert_array_equal(cells, cells_with_garbage)

    values, arrays = walk_then.learn_stages(ORIGIN)[0].state()
    values_with_garbage, arrays_with_garbage = walk.learn_stages(ORIGIN)[0].state()
    assert values == values_with_garbage
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], arrays_with_garbage[name])


def test_a_ledger_of_later_fits_moves_no_bit(
    tmp_path: Path, clean: dict[tuple[str, str], Forecast]
) -> None:
    """The folder holds the past of a later fit, on a history that is garbage."""
    config = corrected_config(CHAIN_LADDER, 4, 6, ledger=str(tmp_path))
    fit_as_of(config, spoil_future(one_file(), "other numbers"), "2024-04-25")
    assert len(list(tmp_path.glob("*/*.parquet"))) == 6
    again = forecast_ended_cohorts(partial(fit_at_origin, config), one_file())
    assert_same_forecasts(again, clean["corrected chain_ladder", "one file"])


def assert_caught(
    fit: Callable[[History], Predictor], make_history: Callable[[], History] = vintages
) -> None:
    """The comparison finds a leak, and nothing else."""
    once, again = (forecast_ended_cohorts(fit, make_history()) for _ in range(2))
    assert_same_forecasts(once, again)
    spoiled_forecast = forecast_ended_cohorts(fit, spoil_future(make_history(), "other numbers"))
    with pytest.raises(AssertionError):
        assert_same_forecasts(once, spoiled_forecast)


class Peeking(Pattern):
    """A pattern that learns its level from the whole history: what the test must catch."""

    later: Curves

    def estimate(self, curves: Curves) -> FittedPattern:
        """Estimate, then scale by what came true later."""
        pattern = super().estimate(curves)
        later_values = np.nan_to_num(self.later.values[:, 30], posinf=0.0)
        level = pattern.segment_curves.level * later_values.mean()
        return replace(pattern, segment_curves=replace(pattern.segment_curves, level=level))


def test_a_forecaster_that_peeks_is_caught() -> None:
    def peek(history: History) -> Predictor:
        forecaster = Peeking(**arguments_of(PATTERN))
        forecaster.later = history.as_of(LATER)
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek)


class PeekingScaler(Pattern):
    """A pattern whose unit of volume is scaled with users of cohorts that end after the origin."""

    later: History

    def estimate(self, curves: Curves) -> FittedPattern:
        """Estimate with a unit from all users."""
        pattern = super().estimate(curves)
        unit = pattern.segment_curves.median_revenue_d7 * float(np.nanmedian(self.later.users))
        curves_in_unit = replace(pattern.segment_curves, median_revenue_d7=unit)
        return replace(pattern, segment_curves=curves_in_unit)


def test_a_scaler_that_peeks_is_caught() -> None:
    def peek(history: History) -> Predictor:
        forecaster = PeekingScaler(**arguments_of(PATTERN))
        forecaster.later = history
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek)


class PeekingContext(NeuralForecaster):
    """A net whose series are compared with what they came to be later."""

    later: Curves

    def prepare(self, curves: Curves) -> FittedNet:
        """Scale series by those of later cohorts."""
        fitted = super().prepare(curves)
        context = CovariateScaling.fit(self.later, self.covariates)
        return replace(fitted, scaling=replace(fitted.scaling, covariates=context))


def test_a_reference_that_peeks_is_caught() -> None:
    def peek(history: History) -> Predictor:
        forecaster = PeekingContext(**arguments_of(LSTM), context=make_run_context())
        later = history.as_of(LATER)
        forecaster.later = later.take(later.observed_age >= 0)
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek)


class PeekingStop(NeuralForecaster):
    """A net that trains on what was known, for as long as turns out best later."""

    later: Curves

    def inner_scores(self, curves: Curves) -> list[list[float]]:
        """Score epochs on what came true later."""
        return super().inner_scores(self.later)


def test_early_stopping_that_peeks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltvnet.models.neural.forecaster.inner_origin", lambda curves: ORIGIN)
    many_epochs = LSTM["training"] | {"epochs": 8, "rate": 0.05}  # so many to choose from

    def peek(history: History) -> Predictor:
        arguments = arguments_of(LSTM) | {"training": many_epochs}
        forecaster = PeekingStop(**arguments, context=make_run_context())
        forecaster.later = history.as_of(LATER)
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek, one_file)


def test_a_ledger_join_that_peeks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    join = LedgerEntries.look_up_actuals

    def peek(history: History) -> Predictor:
        later = history.as_of(LATER)
        monkeypatch.setattr(LedgerEntries, "look_up_actuals", lambda self, known: join(self, later))
        return fit_at_origin(FORECASTERS["corrected chain_ladder"], history)

    assert_caught(peek)


class PeekingCorrection(Corrected):
    """Applies today the factors that the same past forecasts taught later."""

    def fit(self, history: History, date: object) -> Self:
        """Fit, then learn the correction from what came true later."""
        super().fit(history, date)
        assert self.past_entries is not None
        walk = WalkForward([self.past_entries], history, self.validation.learning)
        walk.run()
        self.stages = replace(self.stages, correction=walk.learn_stages(LATER)[0].correction)
        return self


def test_a_correction_that_peeks_is_caught() -> None:
    config = FORECASTERS["corrected chain_ladder"]
    assert_caught(lambda history: make_corrected(config, PeekingCorrection).fit(history, ORIGIN))
