"""The past is replayed as it was: each fold knows its day, none is run twice, order is nothing."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from cohorts import curve, history, weekly
from factories import HARDWARE, forecaster, identity_of, past_replay, run_context
from numpy.typing import NDArray
from pyarrow import parquet
from test_forecaster import PATTERN
from test_ledger import AFTER_5, AFTER_20, assert_same
from test_ledger import files as every_file

from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.backtesting.model_identity import FORECAST_VERSION, model_identity
from ltvnet.backtesting.origins import ReplayPlan, choose_origins, past_origins
from ltvnet.backtesting.replay import FitCost, Fold, forecast_entries
from ltvnet.data.curves import NODES, Curves, History, validate_ages
from ltvnet.forecasting import registry
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.registry import Registration
from ltvnet.forecasting.run_context import RunContext

EXPANDING: dict[str, Any] = {
    "window": "expanding",
    "refit": "each",
    "ages": [],
    "warm": False,
    "workers": 1,
}
ORIGINS = [np.datetime64("2024-01-01") + 28 * i for i in range(5)]


def plan(**changes: object) -> ReplayPlan:
    return ReplayPlan(**EXPANDING | changes)


class Flat:
    """Forecasts that nothing more is earned, and notes what it saw."""

    fits: ClassVar[list[Self]] = []
    fails: ClassVar[set[str]] = set()

    def __init__(
        self, *, value: float, context: RunContext, net: Mapping[str, int] | None = None
    ) -> None:
        self.value, self.context, self.net = value, context, net
        self.start: str | None = None

    def fit(self, curves: Curves) -> Self:
        self.curves, self.day = curves, str(curves.origin)
        self.fits.append(self)
        if self.day in self.fails:
            raise RuntimeError("killed")
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        asked = validate_ages(ages)
        k = curves.observed_age[:, None]
        cells = np.where(
            (k >= 0) & (asked > k), curves.observed_value[:, None] + self.value, np.nan
        )
        band = Band(cells, cells, cells, cells)
        words = np.full(len(curves), "ok", dtype=object)
        return Forecast(curves, asked, cells, band, band, words, 360)

    def state(self) -> State:
        return {"day": self.day}, {}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        raise NotImplementedError


class Warmed(Flat):
    """Notes also where it started from; it learned nothing before day `blank`."""

    blank: ClassVar[str] = ""

    def can_start(self) -> bool:
        return self.day >= self.blank

    def start_from(self, state: State) -> None:
        self.start = state[0]["day"]

    @classmethod
    def warm_up(cls) -> None:
        pass


FLAT: dict[str, Any] = {"name": "flat", "value": 0.0}
WARMED = FLAT | {"name": "warmed"}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    more = {
        "flat": Registration("test_replay:Flat", takes="context"),
        "warmed": Registration("test_replay:Warmed", takes="context"),
    }
    monkeypatch.setattr(registry, "REGISTRY", {**registry.REGISTRY, **more})
    Flat.fits.clear()
    Flat.fails.clear()
    yield


@pytest.fixture(scope="module")
def past() -> History:
    return weekly(70)


def files(folder: Path) -> Mapping[str, bytes]:
    """The forecasts in a ledger; what they took differs from run to run."""
    return {n: text for n, text in every_file(folder).items() if not n.startswith("_costs/")}


def days(origins: Sequence[np.datetime64]) -> list[str]:
    return [str(origin) for origin in origins]


def fitted() -> list[str]:
    """The days of all fits since the last call."""
    found = [forecaster.day for forecaster in Flat.fits]
    Flat.fits.clear()
    return found


def replayed(
    ledger: Ledger, past: History, config: Mapping[str, Any] = FLAT, **changes: object
) -> list[str]:
    return days(list(past_replay(config, past, ORIGINS, plan(**changes), ledger).run()))


def read(
    ledger: Ledger, past: History, config: Mapping[str, Any], **changes: object
) -> LedgerEntries:
    name = identity_of(config, past, plan(**changes), ORIGINS[0])
    return ledger.read(name, ORIGINS, past.hierarchy)


def test_a_small_past_written_out() -> None:
    """On 2024-03-01 cohorts stand at D360, D21, D20, D5, D3 and -1; cut to D3 and to D14."""
    ends = ["2023-01-01", "2024-02-09", "2024-02-10", "2024-02-25", "2024-02-27", "2024-03-04"]
    starts = ["2022-12-26", "2024-02-03", "2024-02-04", "2024-02-19", "2024-02-21", "2024-02-27"]
    rows = [(s, e, {"Apps": "a"}, 9.0, curve(360)) for s, e in zip(starts, ends, strict=True)]
    curves = history(rows).as_of("2024-03-01")
    made = forecast_entries(Flat(value=0.0, context=run_context()), curves, [3, 14])
    after_21, after_3 = AFTER_20[1:], [4, 5, *AFTER_5]
    found = [
        (str(start.astype("datetime64[D]")), k, a, value, np.array(NODES)[cells].tolist())
        for start, k, a, value, cells in zip(
            made.start,
            made.natural_age,
            made.observed_age,
            made.observed_value,
            made.has_forecast,
            strict=True,
        )
    ]
    assert found == [
        ("2024-02-03", 21, 21, 22**0.5, after_21),  # more than a week past D14: not cut
        ("2024-02-04", 20, 14, 15**0.5, AFTER_20),
        ("2024-02-04", 20, 20, 21**0.5, AFTER_20),
        ("2024-02-19", 5, 3, 4**0.5, AFTER_5),
        ("2024-02-19", 5, 5, 6**0.5, AFTER_5),
        ("2024-02-21", 3, 3, 4**0.5, after_3),  # is at D3: once, not cut
    ]
    np.testing.assert_array_equal(made.pattern[made.has_forecast].tolist()[:10], 22**0.5)


def test_nothing_left_to_forecast_is_said() -> None:
    curves = history([("2022-12-26", "2023-01-01", {}, 9.0, curve(360))]).as_of("2024-03-01")
    with pytest.raises(ValueError, match="nothing to forecast at 2024-03-01: .* got 1 without one"):
        forecast_entries(Flat(value=0.0, context=run_context()), curves, [])


def test_past_origins_have_seen_a_quarter_and_eight_weeks(past: History) -> None:
    """The first cohort ended on 2023-01-08: eight weeks later it is 2023-03-05."""
    last = np.datetime64("2023-05-01")
    april, march = "2023-04-03", "2023-03-06"
    assert days(past_origins(past, last, 4, 9)) == [march, april]
    assert days(past_origins(past, last, 4, 1)) == [april]
    assert days(past_origins(past, last - 1, 4, 9)) == ["2023-03-05", "2023-04-02"]
    assert days(past_origins(past, last - 2, 4, 9)) == ["2023-04-01"]
    year = np.datetime64("2024-01-07")  # 364 days later, a quarter of which is 13 weeks
    assert days(past_origins(past, year, 13, 9)) == ["2023-04-09", "2023-07-09", "2023-10-08"]


def test_past_origins_have_something_left_to_forecast() -> None:
    """Cohorts until 2023-03-05, complete 360 days later, on 2024-02-28."""
    short = weekly(9)
    last = np.datetime64("2024-02-28")
    assert days(past_origins(short, last + 28, 4, 3)) == ["2024-01-03", "2024-01-31"]
    assert days(past_origins(short, last + 27, 4, 1)) == ["2024-02-27"]


def test_folds_are_fitted_on_their_days(past: History, tmp_path: Path) -> None:
    asked = days(ORIGINS)
    known = {
        "each": (asked, asked),
        "every_2": (asked[::2], [asked[0], asked[0], asked[2], asked[2], asked[4]]),
        "every_9": (asked[:1], asked[:1] * 5),
        "frozen": (asked[:1], asked[:1] * 5),
    }
    for refit, (fits, trained) in known.items():
        ledger = Ledger(tmp_path / refit)
        assert replayed(ledger, past, refit=refit) == asked
        assert fitted() == fits
        name = identity_of(FLAT, past, plan(refit=refit), ORIGINS[0])
        assert [str(ledger.last_training_day(name, origin)) for origin in ORIGINS] == trained
        assert days(np.unique(read(ledger, past, FLAT, refit=refit).origin)) == asked


def test_a_fit_sees_its_window_as_of_its_day(past: History, tmp_path: Path) -> None:
    """Cohorts start on Mondays, and so do origins: 8 weeks are those of the last 8 Mondays."""
    replayed(Ledger(tmp_path), past, window="sliding:8w")
    for fitted_then, origin in zip(Flat.fits, ORIGINS, strict=True):
        seen = fitted_then.curves
        mondays = origin - 7 * np.arange(8)[::-1]
        np.testing.assert_array_equal(np.unique(seen.start), mondays)
        assert seen.origin == origin
        np.testing.assert_array_equal(seen.values, past.as_of(origin).values[-len(seen) :])
    Flat.fits.clear()
    replayed(Ledger(tmp_path), past)
    assert [len(f.curves) for f in Flat.fits] == [len(past.as_of(o)) for o in ORIGINS]


def test_a_window_bounds_fits_and_not_what_is_forecast(past: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for window in ("expanding", "sliding:8w"):
        replayed(ledger, past, window=window)
    every, some = (read(ledger, past, FLAT, window=w) for w in ("expanding", "sliding:8w"))
    assert_same(every, some)


def test_nothing_after_the_last_origin_moves_a_fold(past: History, tmp_path: Path) -> None:
    last = ORIGINS[-1]
    later = past.end[:, None] + np.arange(361) * np.timedelta64(1, "D") > last
    spoiled = replace(past, values=np.where(later, 1e30, past.values))
    for day in (ORIGINS[0], last):
        fold = Fold(
            ModelSpec.from_config(PATTERN), run_context(), plan(ages=[7, 30]), day, [day], None
        )
        assert_same(fold.run(past)[0][0], fold.run(spoiled)[0][0])
    assert identity_of(PATTERN, past, plan(), last) != identity_of(PATTERN, spoiled, plan(), last)


def test_finished_folds_are_not_run_again(past: History, tmp_path: Path) -> None:
    whole, ledger = Ledger(tmp_path / "whole"), Ledger(tmp_path / "killed")
    asked = replayed(whole, past, ages=[7, 30])
    fitted()
    Flat.fails.add(asked[1])
    with pytest.raises(RuntimeError, match="killed"):
        replayed(ledger, past, ages=[7, 30])
    assert fitted() == asked[:2]
    done = files(ledger.folder)
    assert [name.split("/")[0] for name in done] == [f"origin={asked[0]}"]
    Flat.fails.clear()
    assert replayed(ledger, past, ages=[7, 30]) == asked[1:]
    assert fitted() == asked[1:]
    assert files(ledger.folder) == files(whole.folder)
    assert replayed(ledger, past, ages=[7, 30]) == [] == fitted()


def test_only_what_is_missing_is_made(past: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    asked = replayed(ledger, past, refit="every_2")
    fitted()
    once = files(tmp_path)
    name = identity_of(FLAT, past, plan(refit="every_2"), ORIGINS[0])
    ledger.path(name, ORIGINS[3]).unlink()
    (tmp_path / f"origin={asked[3]}" / f".{name}.parquet.99999999.part").write_bytes(b"half")
    assert replayed(ledger, past, refit="every_2") == [asked[3]]
    assert fitted() == [asked[2]]
    assert files(tmp_path) == once


def test_what_fits_took_outlives_a_resumed_backtest(past: History, tmp_path: Path) -> None:
    """The pattern of 2 apps; a fit that was not run again keeps its cost."""
    ledger, each = Ledger(tmp_path), plan(refit="every_2")
    assert past_replay(PATTERN, past, ORIGINS, each, ledger).average_fit_cost() is None
    list(past_replay(PATTERN, past, ORIGINS[:2], each, ledger).run())
    first = past_replay(PATTERN, past, ORIGINS, each, ledger).average_fit_cost()
    assert first is not None and first.seconds > 0
    curves = past.as_of(ORIGINS[0])
    _, arrays = forecaster(PATTERN).fit(curves).state()
    assert first.parameters == sum(array.size for array in arrays.values())
    list(past_replay(PATTERN, past, ORIGINS, each, ledger).run())
    receipts = sorted((tmp_path / "_costs").rglob("*.json"))
    assert [path.stem for path in receipts] == days(ORIGINS[::2])  # a fit of each second origin
    assert json.loads(receipts[0].read_text())["seconds"] == first.seconds
    for i, path in enumerate(receipts):
        path.write_text(json.dumps({"seconds": float(i), "parameters": 10 * i}))
    assert past_replay(PATTERN, past, ORIGINS, each, ledger).average_fit_cost() == FitCost(
        1.0, 10.0
    )


def test_readers_of_parquet_do_not_meet_costs(past: History, tmp_path: Path) -> None:
    replayed(Ledger(tmp_path), past)
    found = parquet.read_table(tmp_path).to_pandas()
    assert set(found["origin"].astype(str)) == set(days(ORIGINS))


def test_a_caller_that_leaves_loses_nothing(past: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    walk = past_replay(FLAT, past, ORIGINS, plan(), ledger).run()
    assert str(next(walk)) == str(ORIGINS[0])
    walk.close()  # type: ignore[attr-defined]
    assert replayed(ledger, past) == days(ORIGINS[1:])


def test_a_forecast_from_a_fit_of_another_day_is_made_again(past: History, tmp_path: Path) -> None:
    """Of origins 4 and 8 weeks apart, every second fit is on other days."""
    ledger = Ledger(tmp_path)
    asked = replayed(ledger, past, refit="every_2")
    fitted()
    wide = list(past_replay(FLAT, past, ORIGINS[::2], plan(refit="every_2"), ledger).run())
    assert days(wide) == [asked[2]] and fitted() == [asked[0]]
    assert replayed(ledger, past, refit="every_2") == [asked[2]]
    assert fitted() == [asked[2]]


def test_models_share_a_ledger(past: History, tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path), FLAT | {"value": 1.0}
    for config in (FLAT, other):
        assert replayed(ledger, past, config) == days(ORIGINS)
    flat, raised = read(ledger, past, FLAT), read(ledger, past, other)
    np.testing.assert_allclose(
        raised.pattern - flat.pattern, np.where(flat.has_forecast, 1.0, np.nan)
    )


def test_later_fits_start_from_the_first(past: History, tmp_path: Path) -> None:
    asked = days(ORIGINS)
    ledger = Ledger(tmp_path)
    assert replayed(ledger, past, WARMED, warm=True) == asked
    assert [f.start for f in Flat.fits] == [None, *[asked[0]] * 4]
    assert fitted() == asked
    once = files(tmp_path)
    for lost in (0, 3):
        name = identity_of(WARMED, past, plan(warm=True), ORIGINS[0])
        ledger.path(name, ORIGINS[lost]).unlink()
        assert replayed(ledger, past, WARMED, warm=True) == [asked[lost]]
        assert [f.start for f in Flat.fits] == [None, asked[0]][: 1 + (lost > 0)]
        assert fitted() == [asked[0], asked[lost]][: 1 + (lost > 0)]
    assert files(tmp_path) == once


def test_later_fits_start_from_the_earliest_that_learned_anything(
    past: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = days(ORIGINS)
    monkeypatch.setattr(Warmed, "blank", asked[2])
    assert replayed(Ledger(tmp_path), past, WARMED, warm=True) == asked
    assert [f.start for f in Flat.fits] == [None, None, None, asked[2], asked[2]]
    assert fitted() == asked
    once = files(tmp_path)
    name = identity_of(WARMED, past, plan(warm=True), ORIGINS[0])
    Ledger(tmp_path).path(name, ORIGINS[3]).unlink()
    assert replayed(Ledger(tmp_path), past, WARMED, warm=True) == [asked[3]]
    assert [f.start for f in Flat.fits] == [None, None, None, asked[2]]
    assert files(tmp_path) == once


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("flat", {"warm": True}),  # cannot start from another
        ("warmed", {"warm": False}),
        ("warmed", {"warm": True, "refit": "frozen"}),
    ],
)
def test_other_fits_start_cold(
    past: History, tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    replayed(Ledger(tmp_path), past, FLAT | {"name": name}, **changes)
    assert len(Flat.fits) == (1 if "refit" in changes else 5)
    assert {f.start for f in Flat.fits} == {None}


def test_the_first_fold_is_the_same_alone(past: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert len(list(past_replay(WARMED, past, ORIGINS[:1], plan(warm=True), ledger).run())) == 1
    alone = files(tmp_path)
    assert replayed(ledger, past, WARMED, warm=True) == days(ORIGINS[1:])
    assert alone.items() <= files(tmp_path).items()


def test_folds_do_not_share_a_folder(past: History, tmp_path: Path) -> None:
    replay = past_replay(FLAT, past, ORIGINS, plan(), tmp_path / "ledger")
    list(replace(replay, context=run_context(folder=tmp_path)).run())
    assert {f.context.folder for f in Flat.fits} == {None}


def test_two_processes_write_the_same_ledger(tmp_path: Path) -> None:
    small, made = weekly(30), []
    for workers in (1, 2):
        ledger = Ledger(tmp_path / str(workers))
        changes = plan(workers=workers, ages=[7, 30], refit="every_2")
        done = list(past_replay(PATTERN, small, ORIGINS[:4], changes, ledger).run())
        assert sorted(days(done)) == days(ORIGINS[:4])
        made.append(files(ledger.folder))
    assert made[0] == made[1] and len(made[0]) == 4


def test_an_identity_is_of_all_that_forecasts_depend_on(past: History) -> None:
    first, spec = ORIGINS[0], ModelSpec.from_config(FLAT)
    threaded = replace(run_context(), hardware=replace(HARDWARE, threads=9))
    name = identity_of(FLAT, past, plan(), first)
    assert re.fullmatch("flat-[0-9a-f]{12}", name)
    assert {
        model_identity(spec, run_context(folder=Path("f")), past, plan(), first),
        model_identity(spec, threaded, past, plan(), first),
        identity_of(FLAT, past, plan(workers=5, ages=()), first),
        identity_of(json.loads(json.dumps(FLAT)), replace(past), plan(), first),
    } == {name}
    rounded = replace(run_context(), hardware=replace(HARDWARE, precision="bf16-mixed"))
    others = [
        model_identity(spec, rounded, past, plan(), first),
        identity_of(FLAT, past, plan(), first, seed=1),
        identity_of(FLAT | {"value": 1.0}, past, plan(), first),
        identity_of(FLAT | {"net": Sealed(units=1)}, past, plan(), first),
        identity_of(FLAT | {"net": Sealed(units=2)}, past, plan(), first),
        *(identity_of(FLAT, past, plan(**{key: value}), first) for key, value in DIFFERENT.items()),
        identity_of(FLAT, past, plan(), ORIGINS[1]),
        identity_of(FLAT, replace(past, hierarchy=()), plan(), first),
        identity_of(FLAT, replace(past, spend=past.users), plan(), first),
        identity_of(FLAT, replace(past, users=past.users + 1), plan(), first),
        identity_of(FLAT, replace(past, values=past.values * 2), plan(), first),
        identity_of(FLAT, replace(past, snapshot=past.snapshot + 1), plan(), first),
        identity_of(FLAT, replace(past, lag_days=1), plan(), first),
    ]
    assert len({name, *others}) == len(others) + 1


def test_an_identity_is_of_the_code_that_forecasts(
    past: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = identity_of(FLAT, past, plan(), ORIGINS[0])
    monkeypatch.setattr("ltvnet.backtesting.model_identity.FORECAST_VERSION", FORECAST_VERSION + 1)
    assert identity_of(FLAT, past, plan(), ORIGINS[0]) != name


DIFFERENT = {"window": "sliding:52w", "refit": "frozen", "ages": [7], "warm": True}


class Sealed(Mapping[str, int]):
    """A mapping that is no dict, as OmegaConf's are."""

    def __init__(self, units: int) -> None:
        self.units = units

    def __getitem__(self, key: str) -> int:
        return self.units

    def __iter__(self) -> Iterator[str]:
        return iter(["units"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": "sliding"}, "expected window=expanding or sliding:52w, got 'sliding'"),
        ({"window": "sliding:0w"}, "expected window=expanding or sliding:52w, got 'sliding:0w'"),
        ({"window": "sliding:52"}, "expected window=expanding or sliding:52w, got 'sliding:52'"),
        ({"refit": "every"}, "expected refit=each, every_K or frozen, got 'every'"),
        ({"refit": "every_0"}, "expected refit=each, every_K or frozen, got 'every_0'"),
        ({"window": 52}, "expected window=expanding or sliding:52w, got 52"),
        ({"refit": 3}, "expected refit=each, every_K or frozen, got 3"),
        ({"workers": 0}, "expected workers, a whole number >= 1, got 0"),
        ({"workers": "two"}, "expected workers, a whole number >= 1, got 'two'"),
        ({"workers": True}, "expected workers, a whole number >= 1, got True"),
        ({"warm": "maybe"}, "expected warm=true or false, got 'maybe'"),
        ({"ages": 7}, "expected ages=[] or whole days such as [7,30], got 7"),
        ({"ages": None}, "expected ages=[] or whole days such as [7,30], got None"),
        ({"ages": [7.5]}, "expected ages=[] or whole days such as [7,30], got [7.5]"),
        ({"ages": [7, 7]}, "expected increasing ages within 0..360, got [7, 7]"),
    ],
)
def test_plans_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        plan(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 4}, "expected origins.every in weeks, such as 4w, got 4"),
        ({"every": "0w"}, "expected origins.every in weeks, such as 4w, got '0w'"),
        ({"dates": "2024-01-01"}, "expected origins.dates as a list such as [2024-01-01,2024-"),
        (
            {"dates": 2024},
            "expected origins.dates as a list such as [2024-01-01,2024-02-01], got 2",
        ),
        ({"dates": []}, "expected origins.dates as a list such as [2024-01-01,2024-02-01], got []"),
    ],
)
def test_calendars_are_checked(past: History, changes: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"every": "4w", "first": None, "last": None, "dates": None}
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_origins(past, **asked | changes)


def test_origins_are_checked(past: History, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one origin, got none: the history is"):
        next(past_replay(FLAT, past, [], plan(), Ledger(tmp_path)).run())
    for wrong in (ORIGINS[::-1][:2], [ORIGINS[0]] * 2):
        message = f"expected origins that increase, got {', '.join(days(wrong))}"
        with pytest.raises(ValueError, match=message):
            next(past_replay(FLAT, past, wrong, plan(), Ledger(tmp_path)).run())
