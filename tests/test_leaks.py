"""Nothing at an origin may know what came later: garbage there must not move a single bit.

The mask stands here in full, apart from the code under test: a value at age a is known at the end
of day D if its snapshot is not later than D (or is the first one) and end + a <= D.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from cohorts import weekly
from factories import corrected_model, forecaster, identity_of, past_replay, run_context
from test_boosting import BOOSTING
from test_forecaster import COVARIATES, NET, PATTERN, TRAINING
from test_nets import TIDE

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import StageSwitches, WalkForward
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.models.neural.covariates import CovariateScaling
from ltvnet.models.neural.forecaster import FittedNet, NeuralForecaster
from ltvnet.models.pattern.fitted_pattern import FittedPattern
from ltvnet.models.pattern.pattern import Pattern

ORIGIN, LATER = np.datetime64("2024-02-29"), np.datetime64("2025-06-01")

Config = Mapping[str, Any]
LEARNING = StageSwitches(blend=True, correction=True, intervals=True)
CHAIN_LADDER: Config = PATTERN | {
    "levels": 0, "kappa": 0.0, "tilt": False, "calendar": False, "trend": False,
}  # fmt: skip
LSTM: Config = {
    "name": "neural",
    "net": NET,
    "pattern": PATTERN,
    "training": TRAINING,
    "covariates": COVARIATES,
}
BENKTANDER: Config = {
    "name": "benktander",
    "iterations": 2,
    "prior": "cape_cod",
    "half_life": None,
    "pattern": PATTERN,
}
GROWTH_LSTM: Config = {
    "name": "growth_lstm",
    "net": {"units": [4, 3], "dense": 4, "dropout": 0.1},
    "epochs": 1,
    "windows": 2000,
    "batch_size": 256,
    "rate": 0.01,
    "pattern": PATTERN,
}


def corrected(base: Config, every_weeks: int, origins: int, **changes: object) -> dict[str, Any]:
    return {
        "name": "corrected",
        "base": base,
        "every_weeks": every_weeks,
        "origins": origins,
        "plan": {"window": "expanding", "refit": "each", "ages": [7], "warm": True, "workers": 1},
        "learning": asdict(LEARNING),
        "ledger": None,
    } | changes


TIDE_NORMS: Config = TIDE | {"norm": True}
MIXTURE: Config = {
    "name": "best",
    "bases": {"one": BENKTANDER | {"half_life": 90.0}, "other": PATTERN},
}
FORECASTERS: Mapping[str, Config] = {
    "pattern": PATTERN,
    "chain_ladder": CHAIN_LADDER,
    "recency": PATTERN | {"half_life": 90.0, "tail": "inverse_power"},
    "lstm": LSTM,
    "lstm covariates": LSTM | {"covariates": COVARIATES | {"spend": True, "calendar": True}},
    "mlp": LSTM | {"net": {"kind": "mlp", "hidden": [8, 6], "embedding": 2, "dropout": 0.1}},
    "tide": LSTM | {"net": TIDE_NORMS},
    "mack": {"name": "mack", "recent": None, "pattern": PATTERN},
    "mack_recent": {"name": "mack", "recent": 8, "pattern": PATTERN},
    "benktander": BENKTANDER,
    "bornhuetter_ferguson": BENKTANDER | {"iterations": 1, "prior": "mean_ultimate"},
    "cape_cod": BENKTANDER | {"iterations": 1, "half_life": 90.0},
    "additive": BENKTANDER | {"iterations": 1, "prior": "additive"},
    "weibull": {"name": "growth_curve", "family": "weibull", "pattern": PATTERN},
    "loglogistic": {"name": "growth_curve", "family": "loglogistic", "pattern": PATTERN},
    "loglinear": {"name": "loglinear", "slopes": True, "min_cohorts": 8, "pattern": PATTERN},
    "power_law": {"name": "power_law", "pattern": PATTERN},
    "neighbours": {"name": "neighbours", "count": 10, "pattern": PATTERN},
    "boosting": BOOSTING,
    "boosting_departure": BOOSTING | {"target": "departure"},
    "growth_lstm": GROWTH_LSTM,
    "corrected chain_ladder": corrected(CHAIN_LADDER, 4, 6),
    "corrected lstm": corrected(LSTM | {"training": TRAINING | {"epochs": 1}}, 13, 2),
    "corrected best": corrected(MIXTURE, 4, 6),
}


def arguments(config: Config) -> dict[str, Any]:
    return {key: config[key] for key in config if key != "name"}


def learned(config: Config, history: History, date: object = ORIGIN) -> Predictor:
    """Fitted as of a day: of curves, or of the history whose past is replayed."""
    if config["name"] == "corrected":
        return corrected_model(config).fit(history, date)
    return forecaster(config).fit(history.as_of(date))


@cache
def vintages() -> History:
    """Cohorts before and after the origin, in two snapshots before and one after it."""
    early, late = weekly(50, seed=1, beside=True), weekly(75, seed=1, beside=True)
    days = ["2024-01-15", "2024-02-20", str(LATER)]
    known = [part.until(date) for part, date in zip((early, late, late), days, strict=True)]
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in known])
        for name in ("start", "end", "users", "spend", "values")
    }
    apps = np.concatenate([part.attributes["Apps"] for part in known])
    snapshot = np.repeat(np.array(days, "datetime64[D]"), [len(part) for part in known])
    series = {"retention": np.concatenate([part.series["retention"] for part in known])}
    return replace(known[0], **parts, attributes={"Apps": apps}, snapshot=snapshot, series=series)


@cache
def one_file() -> History:
    """The same cohorts in one snapshot after the origin, which is cut by date."""
    return weekly(75, seed=1, beside=True).until(LATER)


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


def spoiled(history: History, kind: str) -> History:
    """The same history up to the origin, garbage in all that came later, rows in another order."""
    rng = np.random.default_rng(7)
    known_row, known_cell = known_cells(history)
    cell_day = history.end[:, None] + np.arange(AGES)[None, :] * np.timedelta64(1, "D")

    def later_garbage(cells: Floats) -> Floats:
        garbage = np.where(cell_day <= history.snapshot[:, None], GARBAGE[kind](cells, rng), np.nan)
        return np.where(known_cell, cells, garbage)

    apps = history.attributes["Apps"].copy()
    apps[history.end > ORIGIN] = "garbage " + apps[history.end > ORIGIN]
    order = rng.permutation(len(history))
    spoiled = {
        "start": history.start,
        "end": history.end,
        "snapshot": history.snapshot,
        "users": np.where(known_row, history.users, rng.uniform(1, 1e9, len(history))),
        "spend": np.where(known_row, history.spend, 1e30),
        "values": later_garbage(history.values),
    }
    series = {name: later_garbage(cells)[order] for name, cells in history.series.items()}
    shuffled: dict[str, Any] = {name: array[order] for name, array in spoiled.items()}
    return replace(history, **shuffled, attributes={"Apps": apps[order]}, series=series)


def issued(fit: Callable[[History], Predictor], history: History) -> Forecast:
    """What is forecast of the cohorts that had ended, by a forecaster fitted on the history."""
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


def assert_same(one: Forecast, other: Forecast) -> None:
    assert one.curves.index.equals(other.curves.index)
    np.testing.assert_array_equal(one.pattern, other.pattern)
    for band in ("raw", "final"):
        for quantity in QUANTITIES:
            ours, theirs = (getattr(getattr(f, band), quantity) for f in (one, other))
            np.testing.assert_array_equal(ours, theirs)
    assert (
        one.reason.tolist() == other.reason.tolist()
        and one.last_supported_age == other.last_supported_age
    )
    assert one.is_calibrated == other.is_calibrated
    np.testing.assert_array_equal(one.is_borrowed, other.is_borrowed)
    assert type(one.portfolio_spread) is type(other.portfolio_spread)
    if one.portfolio_spread is not None:
        for ours, theirs in zip(
            astuple(one.portfolio_spread), astuple(other.portfolio_spread), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def clean() -> dict[tuple[str, str], Forecast]:
    return {
        (name, source): issued(partial(learned, config), made())
        for name, config in FORECASTERS.items()
        for source, made in HISTORIES.items()
    }


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("source", HISTORIES)
@pytest.mark.parametrize("name", FORECASTERS)
def test_the_future_moves_no_bit(
    name: str, source: str, kind: str, clean: dict[tuple[str, str], Forecast]
) -> None:
    later = spoiled(HISTORIES[source](), kind)
    assert_same(issued(partial(learned, FORECASTERS[name]), later), clean[name, source])


@pytest.mark.parametrize("source", HISTORIES)
def test_garbage_is_really_there(source: str) -> None:
    known = spoiled(HISTORIES[source](), "1e30")
    for cells in (known.values, known.series["retention"]):
        assert (cells == 1e30).sum() > 10_000
    assert {"garbage a", "garbage b"} < set(known.attributes["Apps"])


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
def ledgered(tmp_path_factory: pytest.TempPathFactory) -> LedgerEntries:
    """Past forecasts of nine origins, the last of them ORIGIN, and of three later ones."""
    ledger, history = Ledger(tmp_path_factory.mktemp("ledger")), one_file()
    plan = corrected_model(FORECASTERS["corrected chain_ladder"]).validation.plan
    days = list(np.arange(ORIGIN - 28 * 8, ORIGIN + 28 * 3 + 1, 28))
    assert len(list(past_replay(CHAIN_LADDER, history, days, plan, ledger).run())) == 12
    name = identity_of(CHAIN_LADDER, history, plan, days[0])
    return ledger.read(name, days, history.hierarchy)


@pytest.mark.parametrize("kind", GARBAGE)
def test_later_rows_of_a_ledger_move_no_bit(kind: str, ledgered: LedgerEntries) -> None:
    """Neither forecasts of later origins, nor what came true later of those of earlier ones."""
    early, rng = ledgered.origin <= ORIGIN, np.random.default_rng(0)
    then = WalkForward([ledgered.take(early)], one_file().until(ORIGIN), LEARNING)
    raw = (getattr(ledgered.bands["raw"], quantity) for quantity in QUANTITIES)
    wrong = Band(*(np.where(early[:, None], cells, GARBAGE[kind](cells, rng)) for cells in raw))
    changed = replace(ledgered, bands=dict.fromkeys(STAGES, wrong))
    walk = WalkForward([changed], spoiled(one_file(), kind), LEARNING)
    expected = then.run()
    with np.errstate(all="ignore"), suppress(ValueError):  # what is infinite later is refused then
        walk.run()
    found = walk.entries.take(early)
    for stage, quantity in product(STAGES, QUANTITIES):
        ours, theirs = (getattr(made.bands[stage], quantity) for made in (expected, found))
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (made.learn_stages(ORIGIN)[0].state() for made in (then, walk))
    assert ours[0] == theirs[0]
    for name in ours[1]:
        np.testing.assert_array_equal(ours[1][name], theirs[1][name])


def test_a_ledger_of_later_fits_moves_no_bit(
    tmp_path: Path, clean: dict[tuple[str, str], Forecast]
) -> None:
    """The folder holds the past of a later fit, on a history that is garbage."""
    config = corrected(CHAIN_LADDER, 4, 6, ledger=str(tmp_path))
    learned(config, spoiled(one_file(), "other numbers"), "2024-04-25")
    assert len(list(tmp_path.glob("*/*.parquet"))) == 6
    again = issued(partial(learned, config), one_file())
    assert_same(again, clean["corrected chain_ladder", "one file"])


def assert_caught(
    fit: Callable[[History], Predictor], made: Callable[[], History] = vintages
) -> None:
    """The comparison finds a leak, and nothing else."""
    once, again = (issued(fit, made()) for _ in range(2))
    assert_same(once, again)
    other = issued(fit, spoiled(made(), "other numbers"))
    with pytest.raises(AssertionError):
        assert_same(once, other)


class Peeking(Pattern):
    """A pattern that learns its level from the whole history: what the test must catch."""

    later: Curves

    def estimate(self, curves: Curves) -> FittedPattern:
        """Estimate, then scale by what came true later."""
        pattern = super().estimate(curves)
        known = np.nan_to_num(self.later.values[:, 30], posinf=0.0)
        level = pattern.segment_curves.level * known.mean()
        return replace(pattern, segment_curves=replace(pattern.segment_curves, level=level))


def test_a_forecaster_that_peeks_is_caught() -> None:
    def peek(history: History) -> Predictor:
        forecaster = Peeking(**arguments(PATTERN))
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
        forecaster = PeekingScaler(**arguments(PATTERN))
        forecaster.later = history
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek)


class PeekingContext(NeuralForecaster):
    """A net whose series are compared with what they came to be later."""

    later: Curves

    def prepare(self, curves: Curves) -> FittedNet:
        """The same, with a context of later cohorts."""
        fitted = super().prepare(curves)
        context = CovariateScaling.fit(self.later, self.covariates)
        return replace(fitted, scaling=replace(fitted.scaling, covariates=context))


def test_a_reference_that_peeks_is_caught() -> None:
    def peek(history: History) -> Predictor:
        forecaster = PeekingContext(**arguments(LSTM), context=run_context())
        later = history.as_of(LATER)
        forecaster.later = later.take(later.observed_age >= 0)
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek)


class PeekingStop(NeuralForecaster):
    """A net that trains on what was known, for as long as turns out best later."""

    later: Curves

    def inner_scores(self, curves: Curves) -> list[list[float]]:
        return super().inner_scores(self.later)


def test_early_stopping_that_peeks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltvnet.models.neural.forecaster.inner_origin", lambda curves: ORIGIN)
    training = TRAINING | {"epochs": 8, "rate": 0.05}  # so many to choose from

    def peek(history: History) -> Predictor:
        forecaster = PeekingStop(**arguments(LSTM) | {"training": training}, context=run_context())
        forecaster.later = history.as_of(LATER)
        return forecaster.fit(history.as_of(ORIGIN))

    assert_caught(peek, one_file)


def test_a_ledger_join_that_peeks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    join = LedgerEntries.look_up_actuals

    def peek(history: History) -> Predictor:
        later = history.as_of(LATER)
        monkeypatch.setattr(LedgerEntries, "look_up_actuals", lambda self, known: join(self, later))
        return learned(FORECASTERS["corrected chain_ladder"], history)

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
    assert_caught(lambda history: corrected_model(config, PeekingCorrection).fit(history, ORIGIN))
