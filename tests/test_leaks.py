"""Nothing at an origin may know what came later: garbage there must not move a single bit.

The mask stands here in full, apart from the code under test: a value at age a is known at the end
of day D if its snapshot is not later than D (or is the first one) and end + a <= D.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from cohorts import weekly
from test_neural import MACHINE, NET, PATTERN, TRAINING

from ltvnet.curves import AGES, NODES, Curves, Floats, History
from ltvnet.forecasting import Forecast, Forecaster, create
from ltvnet.pattern import Pattern

ORIGIN = np.datetime64("2024-02-29")

FORECASTERS: dict[str, dict[str, Any]] = {
    "pattern": PATTERN,
    "chain_ladder": PATTERN | {"levels": 0, "kappa": 0.0},
    "recency": PATTERN | {"half_life": 90.0, "tail": "inverse_power"},
    "lstm": {
        "name": "neural",
        "net": NET,
        "pattern": PATTERN,
        "training": TRAINING,
        "machine": MACHINE,
        "min_category": 5,
        "seed": 0,
        "folder": None,
    },
}


def vintages() -> History:
    """Cohorts before and after the origin, in two snapshots before and one after it."""
    early, late = weekly(50, seed=1), weekly(75, seed=1)
    known = [early.until("2024-01-15"), late.until("2024-02-20"), late.until("2025-06-01")]
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in known])
        for name in ("start", "end", "users", "spend", "values")
    }
    apps = np.concatenate([part.attributes["Apps"] for part in known])
    days = ["2024-01-15", "2024-02-20", "2025-06-01"]
    snapshot = np.repeat(np.array(days, "datetime64[D]"), [len(part) for part in known])
    return replace(known[0], **parts, attributes={"Apps": apps}, snapshot=snapshot)


def one_file() -> History:
    """The same cohorts in one snapshot after the origin, which is cut by date."""
    return weekly(75, seed=1).until("2025-06-01")


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
    garbage = GARBAGE[kind](history.values, rng)
    cell_day = history.end[:, None] + np.arange(AGES)[None, :] * np.timedelta64(1, "D")
    garbage = np.where(cell_day <= history.snapshot[:, None], garbage, np.nan)
    apps = history.attributes["Apps"].copy()
    apps[history.end > ORIGIN] = "garbage " + apps[history.end > ORIGIN]
    order = rng.permutation(len(history))
    spoiled = {
        "start": history.start,
        "end": history.end,
        "snapshot": history.snapshot,
        "users": np.where(known_row, history.users, rng.uniform(1, 1e9, len(history))),
        "spend": np.where(known_row, history.spend, 1e30),
        "values": np.where(known_cell, history.values, garbage),
    }
    shuffled: dict[str, Any] = {name: array[order] for name, array in spoiled.items()}
    return replace(history, **shuffled, attributes={"Apps": apps[order]})


def issued(forecaster: Forecaster, history: History) -> Forecast:
    curves = history.as_of(ORIGIN)
    forecast = forecaster.fit(curves).predict(curves, NODES)
    ended = curves.end <= ORIGIN
    assert ended.sum() >= 100
    return replace(
        forecast,
        curves=curves.take(ended),
        pattern=forecast.pattern[ended],
        raw=type(forecast.raw)(*(getattr(forecast.raw, q)[ended] for q in QUANTITIES)),
        final=type(forecast.raw)(*(getattr(forecast.final, q)[ended] for q in QUANTITIES)),
        reason=forecast.reason[ended],
    )


QUANTITIES = ("mean", "p10", "p50", "p90")


def assert_same(one: Forecast, other: Forecast) -> None:
    assert one.curves.index.equals(other.curves.index)
    np.testing.assert_array_equal(one.pattern, other.pattern)
    for band in ("raw", "final"):
        for quantity in QUANTITIES:
            ours, theirs = (getattr(getattr(f, band), quantity) for f in (one, other))
            np.testing.assert_array_equal(ours, theirs)
    assert one.reason.tolist() == other.reason.tolist()


@pytest.fixture(scope="module")
def clean() -> dict[tuple[str, str], Forecast]:
    return {
        (name, source): issued(create(config), made())
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
    assert_same(issued(create(FORECASTERS[name]), later), clean[name, source])


@pytest.mark.parametrize("source", HISTORIES)
def test_garbage_is_really_there(source: str) -> None:
    known = spoiled(HISTORIES[source](), "1e30")
    assert (known.values == 1e30).sum() > 10_000
    assert {"garbage a", "garbage b"} < set(known.attributes["Apps"])


class Peeking(Pattern):
    """A pattern that learns its level from the whole history: what the test must catch."""

    later: Curves

    def fit(self, curves: Curves) -> Self:
        """Fit, then scale by what came true later."""
        super().fit(curves)
        known = np.nan_to_num(self.later.values[:, 30], posinf=0.0)
        self.measured = replace(self.measured, level=self.measured.level * known.mean())
        return self


def test_a_forecaster_that_peeks_is_caught() -> None:
    def peek(history: History) -> Forecast:
        forecaster = Peeking(**{k: v for k, v in PATTERN.items() if k != "name"})
        forecaster.later = history.until("2025-06-01").as_of("2025-06-01")
        return issued(forecaster, history)

    with pytest.raises(AssertionError):
        assert_same(peek(spoiled(vintages(), "other numbers")), peek(vintages()))


class PeekingScaler(Pattern):
    """A pattern whose unit of volume is scaled with users of cohorts that end after the origin."""

    later: History

    def fit(self, curves: Curves) -> Self:
        """Fit with a unit from all users."""
        super().fit(curves)
        unit = self.measured.unit * float(np.nanmedian(self.later.users))
        self.measured = replace(self.measured, unit=unit)
        return self


def test_a_scaler_that_peeks_is_caught() -> None:
    def peek(history: History) -> Forecast:
        forecaster = PeekingScaler(**{k: v for k, v in PATTERN.items() if k != "name"})
        forecaster.later = history
        return issued(forecaster, history)

    with pytest.raises(AssertionError):
        assert_same(peek(spoiled(vintages(), "other numbers")), peek(vintages()))
