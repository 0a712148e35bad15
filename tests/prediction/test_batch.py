"""From files and a bundle to whole tables, whatever the size of the pieces."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohorts import weekly
from factories import corrected_model, forecaster, run_context
from test_forecaster import COVARIATES, NET, PATTERN, TRAINING, Trained, neural

from ltvnet.backtesting.ledger import Ledger
from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Intervals
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.forecasting.model_spec import MIXTURE
from ltvnet.prediction import bundle
from ltvnet.prediction.batch import OutputOptions, describe_corrections, predict
from ltvnet.prediction.bundle import Bundle

ROOT = Path(__file__).parent.parent.parent
TABLES = OutputOptions(wide="csv", ages=NODES[1:], by=None)
FEW = OutputOptions(wide=None, ages=[360], by=None)


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly(70).as_of("2024-03-14")


@pytest.fixture(scope="module")
def table(curves: Curves, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "LTV_2024_03_14.csv"
    write_cohorts(curves, path)
    return path


@pytest.fixture(scope="module")
def loaded(curves: Curves, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    bundle.save(folder, "neural", neural().fit(curves), curves, {"folder": str(folder)})
    return bundle.load(folder)


def corrected(*names: str) -> Corrected:
    """Not fitted, of one model or of a mixture."""
    bases = {name: {"name": name} for name in names}
    config = {
        "base": bases[names[0]] if len(names) == 1 else {"name": MIXTURE, "bases": bases},
        "every_weeks": 1,
        "origins": 0,
        "plan": {"window": "expanding", "refit": "each", "ages": [], "warm": True, "workers": 1},
        "learning": {"blend": True, "correction": True, "intervals": True},
        "ledger": None,
    }
    return corrected_model(config)


def outputs(folder: Path) -> dict[str, pd.DataFrame]:
    wide = {path.name: pd.read_csv(path) for path in folder.glob("Files_*/*.csv")}
    long = pd.read_parquet(folder / "forecasts.parquet")
    return {**wide, "long": long, "rollup": pd.read_csv(folder / "rollup.csv")}


def test_every_cohort_has_a_row_and_a_reason(
    loaded: Bundle, table: Path, curves: Curves, tmp_path: Path
) -> None:
    reasons = predict(loaded, lambda: Files(path=table).curves(1000), tmp_path, TABLES)
    made = outputs(tmp_path)
    raw = made["LTV_predictions_2024_03_14.csv"]
    assert reasons.total() == len(raw) == len(curves)
    assert raw["reason"].value_counts().to_dict() == dict(reasons)
    expected = loaded.forecaster.predict(curves, [90]).final.mean[:, 0]
    young = curves.observed_age < 90
    np.testing.assert_allclose(raw["P_D90"][young], expected[young], rtol=1e-5)
    final = made["LTV_predictions_final_2024_03_14.csv"]
    np.testing.assert_array_equal(raw["P_D360"], final["P_D360"])
    long = made["long"]
    assert set(long["bundle"]) == {loaded.identity}
    assert set(long["age"]) <= set(NODES) and (long["age"] > long["observed_age"]).all()
    total = made["rollup"].query("level == 'TOTAL' and age == 360")["forecast_revenue"].item()
    known = final["observed_age"] >= 0
    assert total == pytest.approx((final["Users"] * final["P_D360"])[known].sum(), rel=1e-5)


def test_wide_tables_as_parquet_hold_the_same(loaded: Bundle, table: Path, tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        read = Files(path=table).curves(30)
        predict(loaded, lambda read=read: read, tmp_path, replace(TABLES, wide=kind))
    for name in (
        "Files_Predictions/LTV_predictions",
        "Files_Predictions_Final/LTV_predictions_final",
    ):
        found = pd.read_parquet(tmp_path / f"{name}_2024_03_14.parquet")
        said = pd.read_csv(tmp_path / f"{name}_2024_03_14.csv").astype(found.dtypes)
        pd.testing.assert_frame_equal(found, said)


def whole(folder: Path) -> pd.DataFrame:
    """The forecasts of all parts, in their order."""
    return pd.read_parquet(folder / "forecasts")


def test_parts_hold_what_one_table_does(loaded: Bundle, table: Path, tmp_path: Path) -> None:
    def read() -> Iterable[Curves]:
        return Files(path=table).curves(5)

    parts = replace(TABLES, part=20)
    counts = predict(loaded, read, tmp_path / "parts", parts)
    assert counts == predict(loaded, read, tmp_path / "one", TABLES)
    assert [p.name for p in sorted((tmp_path / "parts" / "forecasts").glob("*.parquet"))] == [
        f"0000{n}.parquet" for n in range(7)
    ]
    one = outputs(tmp_path / "one")
    pd.testing.assert_frame_equal(whole(tmp_path / "parts"), one["long"])
    rollup = (pd.read_csv(tmp_path / name / "rollup.csv") for name in ("parts", "one"))
    pd.testing.assert_frame_equal(*rollup, rtol=1e-12)
    files = sorted((tmp_path / "parts" / "Files_Predictions").glob("*_2024_03_14_0000?.csv"))
    raw = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    pd.testing.assert_frame_equal(raw, one["LTV_predictions_2024_03_14.csv"])


def test_parts_that_are_finished_are_not_made_again(
    loaded: Bundle, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the third part, the same call makes that and the later ones."""
    parts, asked = replace(FEW, part=20), []
    forecaster = type(loaded.forecaster)
    predicted = forecaster.predict

    def counted(self: Predictor, curves: Curves, ages: Sequence[int]) -> Forecast:
        if len(curves) > 1:  # one is asked for what sums are
            asked.append(curves.start[0])
            if len(asked) == 9:
                raise KeyboardInterrupt
        return predicted(self, curves, ages)

    def read() -> Iterable[Curves]:
        return Files(path=table).curves(5)

    monkeypatch.setattr(forecaster, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        predict(loaded, read, tmp_path, parts)
    assert not (tmp_path / "rollup.csv").exists()
    names = [path.name for path in (tmp_path / "forecasts").iterdir()]
    assert sorted(names) == ["00000.parquet", "00001.parquet", "_finished"]
    counts = predict(loaded, read, tmp_path, parts)
    pieces = sum(len(piece) > 1 for piece in read())
    assert len(asked) == 9 + pieces - 8  # so many were in the first two parts
    again, others = predict(loaded, read, tmp_path, parts), len(asked)
    assert counts == again and len(asked) == others
    monkeypatch.undo()
    predict(loaded, read, tmp_path / "one", FEW)
    pd.testing.assert_frame_equal(whole(tmp_path), outputs(tmp_path / "one")["long"])
    (tmp_path / "forecasts" / "00001.parquet").unlink()
    predict(loaded, read, tmp_path, parts)  # a finished part whose table is gone is made again
    pd.testing.assert_frame_equal(whole(tmp_path), outputs(tmp_path / "one")["long"])


def test_parts_of_more_cohorts_than_now_are_removed(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    """Those of other days stay, and what another process is writing."""
    parts = replace(TABLES, part=20)
    predict(loaded, lambda: [curves.take(np.arange(i, i + 20)) for i in (0, 20)], tmp_path, parts)
    yesterday = tmp_path / "Files_Predictions" / "LTV_predictions_2024_03_13_00009.csv"
    writing = tmp_path / "forecasts" / ".00003.parquet.123.part"
    for path in (yesterday, writing):
        path.touch()
    predict(loaded, lambda: [curves.take(np.arange(20))], tmp_path, parts)
    left = sorted(path.name for path in (tmp_path / "forecasts").rglob("*") if path.is_file())
    assert left == [".00003.parquet.123.part", "00000.json", "00000.parquet"]
    left = sorted(path.name for path in (tmp_path / "Files_Predictions").iterdir())
    assert left == [yesterday.name, "LTV_predictions_2024_03_14_00000.csv"]


@pytest.mark.parametrize("rows", [5, 37])
def test_the_size_of_pieces_changes_nothing(
    rows: int, loaded: Bundle, table: Path, tmp_path: Path
) -> None:
    predict(loaded, lambda: Files(path=table).curves(10_000), tmp_path / "one", TABLES)
    predict(loaded, lambda: Files(path=table).curves(rows), tmp_path / "many", TABLES)
    one, many = outputs(tmp_path / "one"), outputs(tmp_path / "many")
    for name in one:
        keys = [c for c in one[name] if not pd.api.types.is_float_dtype(one[name][c])]
        first, second = (made[name].sort_values(keys, ignore_index=True) for made in (one, many))
        pd.testing.assert_frame_equal(first, second, rtol=1e-5)


def test_without_wide_tables_only_the_asked_ages_are_forecast(
    loaded: Bundle, table: Path, tmp_path: Path
) -> None:
    few = OutputOptions(wide=None, ages=[30, 360], by="Apps")
    predict(loaded, lambda: Files(path=table).curves(1000), tmp_path, few)
    assert not list(tmp_path.glob("Files_*"))
    assert set(pd.read_parquet(tmp_path / "forecasts.parquet")["age"]) == {30, 360}
    assert set(pd.read_csv(tmp_path / "rollup.csv")["level"]) == {"Apps", "TOTAL"}


def test_stale_data_older_data_and_lost_columns_are_said(
    loaded: Bundle, curves: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(rows: Curves) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(loaded, lambda: [rows], tmp_path, OutputOptions(wide=None, ages=[360], by=None))
        return caplog.text

    assert said(curves) == ""
    late = replace(curves, origin=curves.origin + 61)
    assert "the data are 61 days newer than the bundle, trained as of 2024-03-14" in said(late)
    assert "knows 5 days that came after these data" in said(curves.as_of(curves.origin - 5))
    apps = curves.attributes["Apps"] == "a"
    one = replace(curves.take(apps), attributes={}, hierarchy=())
    assert "the bundle was trained with Apps, which these data lack" in said(one)


@pytest.fixture(scope="module")
def rich() -> Curves:
    """With spend and a series, retention."""
    return weekly(62, beside=True).as_of("2024-02-29")


def reading(rich: Curves, folder: Path, *, spend: bool) -> Bundle:
    """A mixture of a pattern and a net that sees series, and spend if so asked."""
    net = Trained(
        net=NET, pattern=PATTERN, training=TRAINING, context=run_context(),
        covariates=COVARIATES | {"spend": spend},
    )  # fmt: skip
    model = corrected("pattern", "neural")
    model.models, model.stages = (
        [forecaster(PATTERN).fit(rich), net.fit(rich)],
        LearnedStages.neutral(2),
    )
    return read_back(model, "corrected", rich, folder)


def read_back(model: Predictor, name: str, curves: Curves, folder: Path) -> Bundle:
    bundle.save(folder, name, model, curves, {})
    return bundle.load(folder)


def test_a_lost_series_and_lost_spend_are_said_where_a_net_saw_them(
    rich: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = reading(rich, tmp_path / "both", spend=True)
    blind = reading(rich, tmp_path / "blind", spend=False)
    pattern = read_back(forecaster(PATTERN).fit(rich), "pattern", rich, tmp_path / "pattern")
    poor = replace(rich, series={}, spend=np.full(len(rich), np.nan))

    def said(by: Bundle, rows: Curves) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(by, lambda: [rows], tmp_path, FEW)
        return caplog.text

    lacks = "the bundle was trained with {}, which these data lack: every row is forecast as one"
    assert lacks.format("series retention, spend") in said(both, poor)
    assert lacks.format("spend") in said(both, replace(poor, series=rich.series))
    assert lacks.format("series retention") in said(both, replace(rich, series={}))
    assert lacks.format("series retention") in said(blind, poor)
    assert said(both, rich) == said(pattern, poor) == ""
    begun = rich.take(rich.observed_age < 0)
    assert len(begun) and said(both, begun) == ""  # no spend is known of them yet


def test_a_ledger_keeps_what_was_forecast(loaded: Bundle, curves: Curves, tmp_path: Path) -> None:
    kept = replace(FEW, ledger=tmp_path / "ledger")
    pieces = [curves.take(np.arange(70)), curves.take(np.arange(70, len(curves)))]
    predict(loaded, lambda: pieces, tmp_path, kept)
    model = f"neural-{loaded.identity[:12]}"
    entries = Ledger(tmp_path / "ledger").read(model, [curves.origin], ("Apps",))
    forecast = loaded.forecaster.predict(curves)
    rows = np.flatnonzero((curves.observed_age >= 0) & (curves.observed_age < 360))
    np.testing.assert_allclose(entries.bands["final"].mean, forecast.final.mean[rows], rtol=1e-5)
    assert list(pd.read_parquet(tmp_path / "forecasts.parquet")["age"].unique()) == [360]
    every = replace(kept, wide="csv")
    predict(loaded, lambda: pieces, tmp_path, every)  # again: the same rows, not twice
    assert len(Ledger(tmp_path / "ledger").read(model, [curves.origin], ("Apps",))) == len(rows)


def test_a_ledger_refuses_what_proves_nothing_and_no_table_is_written(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    kept = replace(FEW, ledger=tmp_path / "ledger")
    with pytest.raises(ValueError, match="by a model that knew 2024-03-14 proves nothing"):
        predict(loaded, lambda: [curves.as_of(curves.origin - 5)], tmp_path, kept)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_learned_of_the_past_is_said_in_a_line(loaded: Bundle) -> None:
    blank = "P10 and P90 are blank, as no past was learned from"
    assert describe_corrections(loaded) == f"nothing blended; nothing corrected; {blank}"
    shape = (8, 1, 21)
    intervals = replace(Intervals.blank(), lower=np.zeros(shape), upper=np.zeros(shape))
    model = corrected("pattern")
    model.stages = replace(LearnedStages.neutral(), intervals=intervals)
    made = replace(loaded, forecaster=model)
    assert describe_corrections(made).endswith(
        "nothing corrected; P10 and P90 are calibrated on the past"
    )
    on = np.arange(8) == 2
    blend = Blend(np.where(on, 0.5, 1.0)[:, None])
    model.stages = replace(
        model.stages, blend=blend, correction=replace(Correction.neutral(), is_on=on)
    )
    said = "blended at {} (pattern 50 %, pattern 50 %); corrected at {}; P10 and P90 are calibrated"
    assert describe_corrections(made).startswith(said.replace("{}", "observed ages 7-13"))


def test_how_models_are_weighed_is_said_by_name(loaded: Bundle) -> None:
    """Weights that are not equal, though the pattern has none; thirds do not sum to 1 exactly."""
    model = corrected("neural", "boosting", "mack")
    model.stages = LearnedStages.neutral(3)
    made, mean = replace(loaded, forecaster=model), "the mean of neural, boosting, mack"
    assert describe_corrections(made).startswith(f"{mean}; nothing blended; nothing corrected; ")
    weight = Blend.equal(3).weight
    weight[3], weight[5] = [0.75, 0.25, 0.0], [0.0, 0.5, 0.0]
    model.stages = replace(model.stages, blend=Blend(weight))
    said = "14-29 (neural 75 %, boosting 25 %), 60-89 (boosting 50 %, pattern 50 %)"
    assert describe_corrections(made).startswith(
        f"{mean}; blended at observed ages {said}; nothing corrected"
    )


def test_users_that_were_lost_since_training_are_refused(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    alone = replace(curves, users=np.ones(len(curves)))
    with pytest.raises(
        ValueError, match=r"have no Users, the bundle was trained with \d+ a cohort"
    ):
        predict(loaded, lambda: [alone], tmp_path, FEW)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_on_the_way_leaves_no_table(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    def broken() -> Iterator[Curves]:
        yield curves
        raise RuntimeError

    with pytest.raises(RuntimeError):
        predict(loaded, broken, tmp_path, TABLES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_first_week_is_told_wherever_a_young_cohort_stands(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    k = curves.observed_age
    old, young = curves.take(k >= 20), curves.take(k < 7)
    older = [old.take(np.arange(5)), old.take(np.arange(5, 9)), old.take(np.arange(9, 20))]

    def first_day(*pieces: Curves) -> str:
        predict(loaded, lambda: pieces, tmp_path, TABLES)
        made = pd.read_csv(tmp_path / "Files_Predictions" / "LTV_predictions_2024_03_14.csv")
        assert len(made) == sum(map(len, pieces))
        return next(name for name in made if name.startswith("P_"))

    assert first_day(young, old) == "P_D1"
    assert first_day(*older, young) == "P_D1"
    assert first_day(*older) == first_day(old) == "P_D8"


def test_nothing_to_forecast_is_said(loaded: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none: no cohort had begun"):
        predict(loaded, list, tmp_path, TABLES)


def test_ages_must_be_ahead() -> None:
    with pytest.raises(ValueError, match=r"expected ages within 1\.\.360: D0 is never forecast"):
        OutputOptions(wide=None, ages=[0, 30], by=None)
    with pytest.raises(ValueError, match=r"expected increasing ages within 0\.\.360"):
        OutputOptions(wide=None, ages=[30, 400], by=None)
    with pytest.raises(ValueError, match="expected wide=csv, parquet or null, got xlsx"):
        OutputOptions(wide="xlsx", ages=[30], by=None)
    with pytest.raises(ValueError, match="expected part, a whole number of cohorts >= 1, got 0"):
        OutputOptions(wide=None, ages=[30], by=None, part=0)
    with pytest.raises(ValueError, match="expected part=null with a ledger"):
        OutputOptions(wide=None, ages=[30], by=None, part=9, ledger="ledger")


def test_a_killed_prediction_leaves_no_half_file(
    loaded: Bundle, curves: Curves, tmp_path: Path
) -> None:
    """Killed while it writes, then run again: every file there is whole, and no rest is left."""
    many = tmp_path / "LTV_2024_03_14.parquet"
    apps = [f"{app} {copy}" for copy in range(20) for app in curves.attributes["Apps"]]
    order = np.lexsort((apps, np.tile(curves.end, 20), np.tile(curves.start, 20)))
    copies = Curves(
        start=np.tile(curves.start, 20)[order],
        end=np.tile(curves.end, 20)[order],
        attributes={"Apps": np.array(apps, dtype=object)[order]},
        users=np.tile(curves.users, 20)[order],
        spend=np.tile(curves.spend, 20)[order],
        values=np.tile(curves.values, (20, 1))[order],
        hierarchy=("Apps",),
        lag_days=0,
        origin=curves.origin,
    )
    write_cohorts(copies, many)
    out = tmp_path / "out"
    command = [
        sys.executable, str(ROOT / "scripts" / "predict.py"), f"data.path={many}", f"out={out}",
        f"bundle={loaded.manifest['folder']}", "rows=100",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.rglob("*.part")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    tables = ("*.csv", "*.parquet")
    assert [path for glob in tables for path in out.rglob(glob)] == []
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(out.rglob("*.part"))
    assert len(outputs(out)["LTV_predictions_2024_03_14.csv"]) == len(copies)
