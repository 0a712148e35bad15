"""The past is replayed as it was: each fold knows its day, none is run twice, order is nothing."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.configs import PATTERN
from factories.forecasters import FLAT, WARMED, FlatForecaster, WarmStartedForecaster
from factories.ledgers import AFTER_5, AFTER_20, assert_same_entries, file_contents
from factories.models import identity_of, make_forecaster, make_replay, make_run_context
from factories.replays import ORIGINS, as_text, replay_plan
from pyarrow import parquet

from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.backtesting.replay import FitCost, Fold, forecast_entries
from ltvnet.data.curves import NODES, History
from ltvnet.forecasting.model_spec import ModelSpec

pytestmark = pytest.mark.usefixtures("registered_flat_forecasters")


def forecast_files(folder: Path) -> Mapping[str, bytes]:
    """The files of forecasts in a ledger; those of costs differ from run to run."""
    contents = file_contents(folder)
    return {name: text for name, text in contents.items() if not name.startswith("_costs/")}


def pop_fit_days() -> list[str]:
    """The days of all fits since the last call."""
    days = [forecaster.day for forecaster in FlatForecaster.fits]
    FlatForecaster.fits.clear()
    return days


def replay_days(
    ledger: Ledger, past: History, config: Mapping[str, Any] = FLAT, **changes: object
) -> list[str]:
    """Replay all origins; those that were made are told."""
    return as_text(list(make_replay(config, past, ORIGINS, replay_plan(**changes), ledger).run()))


def read_entries(
    ledger: Ledger, past: History, config: Mapping[str, Any], **changes: object
) -> LedgerEntries:
    name = identity_of(config, past, replay_plan(**changes), ORIGINS[0])
    return ledger.read(name, ORIGINS, past.hierarchy)


def test_a_small_past_written_out() -> None:
    """On 2024-03-01 cohorts stand at D360, D21, D20, D5, D3 and -1; cut to D3 and to D14."""
    ends = ["2023-01-01", "2024-02-09", "2024-02-10", "2024-02-25", "2024-02-27", "2024-03-04"]
    starts = ["2022-12-26", "2024-02-03", "2024-02-04", "2024-02-19", "2024-02-21", "2024-02-27"]
    rows = [(s, e, {"Apps": "a"}, 9.0, curve(360)) for s, e in zip(starts, ends, strict=True)]
    curves = history(rows).as_of("2024-03-01")
    issued = forecast_entries(
        FlatForecaster(value=0.0, context=make_run_context()), curves, [3, 14]
    )
    after_21, after_3 = AFTER_20[1:], [4, 5, *AFTER_5]
    issued_rows = [
        (str(start.astype("datetime64[D]")), k, a, value, np.array(NODES)[cells].tolist())
        for start, k, a, value, cells in zip(
            issued.start,
            issued.natural_age,
            issued.observed_age,
            issued.observed_value,
            issued.has_forecast,
            strict=True,
        )
    ]
    assert issued_rows == [
        ("2024-02-03", 21, 21, 22**0.5, after_21),  # more than a week past D14: not cut
        ("2024-02-04", 20, 14, 15**0.5, AFTER_20),
        ("2024-02-04", 20, 20, 21**0.5, AFTER_20),
        ("2024-02-19", 5, 3, 4**0.5, AFTER_5),
        ("2024-02-19", 5, 5, 6**0.5, AFTER_5),
        ("2024-02-21", 3, 3, 4**0.5, after_3),  # is at D3: once, not cut
    ]
    np.testing.assert_array_equal(issued.pattern[issued.has_forecast].tolist()[:10], 22**0.5)


def test_nothing_left_to_forecast_is_said() -> None:
    curves = history([("2022-12-26", "2023-01-01", {}, 9.0, curve(360))]).as_of("2024-03-01")
    with pytest.raises(ValueError, match="nothing to forecast at 2024-03-01: .* got 1 without one"):
        forecast_entries(FlatForecaster(value=0.0, context=make_run_context()), curves, [])


def test_folds_are_fitted_on_their_days(portfolio: History, tmp_path: Path) -> None:
    origin_days = as_text(ORIGINS)
    every_second = [origin_days[fit] for fit in (0, 0, 2, 2, 4)]
    expected_by_refit = {
        "each": (origin_days, origin_days),
        "every_2": (origin_days[::2], every_second),
        "every_9": (origin_days[:1], origin_days[:1] * 5),
        "frozen": (origin_days[:1], origin_days[:1] * 5),
    }
    for refit, (fits, trained) in expected_by_refit.items():
        ledger = Ledger(tmp_path / refit)
        assert replay_days(ledger, portfolio, refit=refit) == origin_days
        assert pop_fit_days() == fits
        name = identity_of(FLAT, portfolio, replay_plan(refit=refit), ORIGINS[0])
        assert [str(ledger.last_training_day(name, origin)) for origin in ORIGINS] == trained
        entries = read_entries(ledger, portfolio, FLAT, refit=refit)
        assert as_text(np.unique(entries.origin)) == origin_days


def test_a_fit_sees_its_window_as_of_its_day(portfolio: History, tmp_path: Path) -> None:
    """Cohorts start on Mondays, and so do origins: 8 weeks are those of the last 8 Mondays."""
    replay_days(Ledger(tmp_path), portfolio, window="sliding:8w")
    for fitted_then, origin in zip(FlatForecaster.fits, ORIGINS, strict=True):
        window_curves = fitted_then.curves
        mondays = origin - 7 * np.arange(8)[::-1]
        np.testing.assert_array_equal(np.unique(window_curves.start), mondays)
        assert window_curves.origin == origin
        np.testing.assert_array_equal(
            window_curves.values, portfolio.as_of(origin).values[-len(window_curves) :]
        )
    FlatForecaster.fits.clear()
    replay_days(Ledger(tmp_path), portfolio)
    assert [len(f.curves) for f in FlatForecaster.fits] == [
        len(portfolio.as_of(o)) for o in ORIGINS
    ]


def test_a_window_bounds_fits_and_not_what_is_forecast(portfolio: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for window in ("expanding", "sliding:8w"):
        replay_days(ledger, portfolio, window=window)
    expanding, sliding = (
        read_entries(ledger, portfolio, FLAT, window=w) for w in ("expanding", "sliding:8w")
    )
    assert_same_entries(expanding, sliding)


def test_nothing_after_the_last_origin_moves_a_fold(portfolio: History, tmp_path: Path) -> None:
    last = ORIGINS[-1]
    later = portfolio.end[:, None] + np.arange(361) * np.timedelta64(1, "D") > last
    spoiled = replace(portfolio, values=np.where(later, 1e30, portfolio.values))
    for day in (ORIGINS[0], last):
        spec, plan = ModelSpec.from_config(PATTERN), replay_plan(ages=[7, 30])
        fold = Fold(spec, make_run_context(), plan, day, [day], None)
        assert_same_entries(fold.run(portfolio)[0][0], fold.run(spoiled)[0][0])
    name = identity_of(PATTERN, portfolio, replay_plan(), last)
    assert identity_of(PATTERN, spoiled, replay_plan(), last) != name


def test_finished_folds_are_not_run_again(portfolio: History, tmp_path: Path) -> None:
    whole_ledger, ledger = Ledger(tmp_path / "whole"), Ledger(tmp_path / "killed")
    origin_days = replay_days(whole_ledger, portfolio, ages=[7, 30])
    pop_fit_days()
    FlatForecaster.fails.add(origin_days[1])
    with pytest.raises(RuntimeError, match="killed"):
        replay_days(ledger, portfolio, ages=[7, 30])
    assert pop_fit_days() == origin_days[:2]
    contents_after_crash = forecast_files(ledger.folder)
    assert [name.split("/")[0] for name in contents_after_crash] == [f"origin={origin_days[0]}"]
    FlatForecaster.fails.clear()
    assert replay_days(ledger, portfolio, ages=[7, 30]) == origin_days[1:]
    assert pop_fit_days() == origin_days[1:]
    assert forecast_files(ledger.folder) == forecast_files(whole_ledger.folder)
    assert replay_days(ledger, portfolio, ages=[7, 30]) == [] == pop_fit_days()


def test_only_what_is_missing_is_made(portfolio: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    origin_days = replay_days(ledger, portfolio, refit="every_2")
    pop_fit_days()
    once = forecast_files(tmp_path)
    name = identity_of(FLAT, portfolio, replay_plan(refit="every_2"), ORIGINS[0])
    ledger.path(name, ORIGINS[3]).unlink()
    (tmp_path / f"origin={origin_days[3]}" / f".{name}.parquet.99999999.part").write_bytes(b"half")
    assert replay_days(ledger, portfolio, refit="every_2") == [origin_days[3]]
    assert pop_fit_days() == [origin_days[2]]
    assert forecast_files(tmp_path) == once


def test_what_fits_took_outlives_a_resumed_backtest(portfolio: History, tmp_path: Path) -> None:
    """The pattern of 2 apps; a fit that was not run again keeps its cost."""
    ledger, biannual = Ledger(tmp_path), replay_plan(refit="every_2")
    assert make_replay(PATTERN, portfolio, ORIGINS, biannual, ledger).average_fit_cost() is None
    list(make_replay(PATTERN, portfolio, ORIGINS[:2], biannual, ledger).run())
    first = make_replay(PATTERN, portfolio, ORIGINS, biannual, ledger).average_fit_cost()
    assert first is not None and first.seconds > 0
    curves = portfolio.as_of(ORIGINS[0])
    _, arrays = make_forecaster(PATTERN).fit(curves).state()
    assert first.parameters == sum(array.size for array in arrays.values())
    list(make_replay(PATTERN, portfolio, ORIGINS, biannual, ledger).run())
    receipts = sorted((tmp_path / "_costs").rglob("*.json"))
    assert [path.stem for path in receipts] == as_text(ORIGINS[::2])  # a fit of each second origin
    assert json.loads(receipts[0].read_text())["seconds"] == first.seconds
    for i, path in enumerate(receipts):
        path.write_text(json.dumps({"seconds": float(i), "parameters": 10 * i}))
    assert make_replay(PATTERN, portfolio, ORIGINS, biannual, ledger).average_fit_cost() == FitCost(
        1.0, 10.0
    )


@pytest.mark.parametrize("content", ["", '{"seconds": 1', "[1, 2]", '{"seconds": 1}'])
def test_a_damaged_note_of_a_cost_is_named(
    portfolio: History, tmp_path: Path, content: str
) -> None:
    replay = make_replay(PATTERN, portfolio, ORIGINS[:1], replay_plan(), Ledger(tmp_path))
    list(replay.run())
    (receipt,) = (tmp_path / "_costs").rglob("*.json")
    receipt.write_text(content)
    with pytest.raises(ValueError, match=rf"{receipt.name}: the file is damaged .*: delete it"):
        replay.average_fit_cost()


def test_readers_of_parquet_do_not_meet_costs(portfolio: History, tmp_path: Path) -> None:
    replay_days(Ledger(tmp_path), portfolio)
    table = parquet.read_table(tmp_path).to_pandas()
    assert set(table["origin"].astype(str)) == set(as_text(ORIGINS))


def test_a_caller_that_leaves_loses_nothing(portfolio: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    walk = make_replay(FLAT, portfolio, ORIGINS, replay_plan(), ledger).run()
    assert str(next(walk)) == str(ORIGINS[0])
    walk.close()  # type: ignore[attr-defined]
    assert replay_days(ledger, portfolio) == as_text(ORIGINS[1:])


def test_a_forecast_from_a_fit_of_another_day_is_made_again(
    portfolio: History, tmp_path: Path
) -> None:
    """Of origins 4 and 8 weeks apart, every second fit is on other days."""
    ledger = Ledger(tmp_path)
    origin_days = replay_days(ledger, portfolio, refit="every_2")
    pop_fit_days()
    wide = list(
        make_replay(FLAT, portfolio, ORIGINS[::2], replay_plan(refit="every_2"), ledger).run()
    )
    assert as_text(wide) == [origin_days[2]] and pop_fit_days() == [origin_days[0]]
    assert replay_days(ledger, portfolio, refit="every_2") == [origin_days[2]]
    assert pop_fit_days() == [origin_days[2]]


def test_models_share_a_ledger(portfolio: History, tmp_path: Path) -> None:
    ledger, raised_config = Ledger(tmp_path), FLAT | {"value": 1.0}
    for config in (FLAT, raised_config):
        assert replay_days(ledger, portfolio, config) == as_text(ORIGINS)
    flat = read_entries(ledger, portfolio, FLAT)
    raised = read_entries(ledger, portfolio, raised_config)
    np.testing.assert_allclose(
        raised.pattern - flat.pattern, np.where(flat.has_forecast, 1.0, np.nan)
    )


def test_later_fits_start_from_the_first(portfolio: History, tmp_path: Path) -> None:
    origin_days = as_text(ORIGINS)
    ledger = Ledger(tmp_path)
    assert replay_days(ledger, portfolio, WARMED, warm=True) == origin_days
    assert [f.start for f in FlatForecaster.fits] == [None, *[origin_days[0]] * 4]
    assert pop_fit_days() == origin_days
    once = forecast_files(tmp_path)
    for lost in (0, 3):
        name = identity_of(WARMED, portfolio, replay_plan(warm=True), ORIGINS[0])
        ledger.path(name, ORIGINS[lost]).unlink()
        assert replay_days(ledger, portfolio, WARMED, warm=True) == [origin_days[lost]]
        assert [f.start for f in FlatForecaster.fits] == [None, origin_days[0]][: 1 + (lost > 0)]
        assert pop_fit_days() == [origin_days[0], origin_days[lost]][: 1 + (lost > 0)]
    assert forecast_files(tmp_path) == once


def test_later_fits_start_from_the_earliest_that_learned_anything(
    portfolio: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin_days = as_text(ORIGINS)
    monkeypatch.setattr(WarmStartedForecaster, "blank", origin_days[2])
    assert replay_days(Ledger(tmp_path), portfolio, WARMED, warm=True) == origin_days
    assert [f.start for f in FlatForecaster.fits] == [None] * 3 + [origin_days[2]] * 2
    assert pop_fit_days() == origin_days
    once = forecast_files(tmp_path)
    name = identity_of(WARMED, portfolio, replay_plan(warm=True), ORIGINS[0])
    Ledger(tmp_path).path(name, ORIGINS[3]).unlink()
    assert replay_days(Ledger(tmp_path), portfolio, WARMED, warm=True) == [origin_days[3]]
    assert [f.start for f in FlatForecaster.fits] == [None, None, None, origin_days[2]]
    assert forecast_files(tmp_path) == once


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("flat", {"warm": True}),  # cannot start from another
        ("warmed", {"warm": False}),
        ("warmed", {"warm": True, "refit": "frozen"}),
    ],
)
def test_other_fits_start_cold(
    portfolio: History, tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    replay_days(Ledger(tmp_path), portfolio, FLAT | {"name": name}, **changes)
    assert len(FlatForecaster.fits) == (1 if "refit" in changes else 5)
    assert {f.start for f in FlatForecaster.fits} == {None}


def test_the_first_fold_is_the_same_alone(portfolio: History, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert (
        len(list(make_replay(WARMED, portfolio, ORIGINS[:1], replay_plan(warm=True), ledger).run()))
        == 1
    )
    alone = forecast_files(tmp_path)
    assert replay_days(ledger, portfolio, WARMED, warm=True) == as_text(ORIGINS[1:])
    assert alone.items() <= forecast_files(tmp_path).items()


def test_folds_do_not_share_a_folder(portfolio: History, tmp_path: Path) -> None:
    replay = make_replay(FLAT, portfolio, ORIGINS, replay_plan(), tmp_path / "ledger")
    list(replace(replay, context=make_run_context(folder=tmp_path)).run())
    assert {forecaster.context.folder for forecaster in FlatForecaster.fits} == {None}


def test_two_processes_write_the_same_ledger(tmp_path: Path) -> None:
    small, contents_by_workers = weekly_history(30), []
    for workers in (1, 2):
        ledger = Ledger(tmp_path / str(workers))
        changes = replay_plan(workers=workers, ages=[7, 30], refit="every_2")
        finished_days = list(make_replay(PATTERN, small, ORIGINS[:4], changes, ledger).run())
        assert sorted(as_text(finished_days)) == as_text(ORIGINS[:4])
        contents_by_workers.append(forecast_files(ledger.folder))
    assert contents_by_workers[0] == contents_by_workers[1] and len(contents_by_workers[0]) == 4


def test_origins_are_checked(portfolio: History, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one origin, got none: the history is"):
        next(make_replay(FLAT, portfolio, [], replay_plan(), Ledger(tmp_path)).run())
    for wrong in (ORIGINS[::-1][:2], [ORIGINS[0]] * 2):
        message = f"expected origins that increase, got {', '.join(as_text(wrong))}"
        with pytest.raises(ValueError, match=message):
            next(make_replay(FLAT, portfolio, wrong, replay_plan(), Ledger(tmp_path)).run())
