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
from factories.cohorts import weekly_history
from factories.configs import COVARIATES, LSTM_NET, PATTERN, ROOT, TRAINING
from factories.ledgers import file_contents
from factories.models import make_corrected, make_forecaster, make_run_context
from factories.neural import FullSchedule, make_neural

from ltvnet.backtesting.ledger import Ledger
from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import Correction
from ltvnet.correction.intervals import Intervals
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.explanation import TERMS
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.forecasting.model_spec import MIXTURE
from ltvnet.prediction import bundle
from ltvnet.prediction.batch import OutputOptions, predict
from ltvnet.prediction.bundle import Bundle
from ltvnet.prediction.correction_summary import describe_corrections

TABLES = OutputOptions(wide="csv", ages=NODES[1:], by=None)


FEW = OutputOptions(wide=None, ages=[360], by=None)


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(70).as_of("2024-03-14")


@pytest.fixture(scope="module")
def table(curves: Curves, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "LTV_2024_03_14.csv"
    write_cohorts(curves, path)
    return path


@pytest.fixture(scope="module")
def loaded_bundle(curves: Curves, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    bundle.save(folder, "neural", make_neural().fit(curves), curves, {"folder": str(folder)})
    return bundle.load(folder)


def unfitted_corrected(*names: str) -> Corrected:
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
    return make_corrected(config)


def outputs(folder: Path) -> dict[str, pd.DataFrame]:
    wide = {path.name: pd.read_csv(path) for path in folder.glob("Files_*/*.csv")}
    long = pd.read_parquet(folder / "forecasts.parquet")
    return {**wide, "long": long, "rollup": pd.read_csv(folder / "rollup.csv")}


def test_every_cohort_has_a_row_and_a_reason(
    loaded_bundle: Bundle, table: Path, curves: Curves, tmp_path: Path
) -> None:
    reasons = predict(loaded_bundle, lambda: Files(path=table).curves(1000), tmp_path, TABLES)
    tables = outputs(tmp_path)
    raw = tables["LTV_predictions_2024_03_14.csv"]
    assert reasons.total() == len(raw) == len(curves)
    assert raw["reason"].value_counts().to_dict() == dict(reasons)
    expected = loaded_bundle.forecaster.predict(curves, [90]).final.mean[:, 0]
    young = curves.observed_age < 90
    np.testing.assert_allclose(raw["P_D90"][young], expected[young], rtol=1e-5)
    final = tables["LTV_predictions_final_2024_03_14.csv"]
    np.testing.assert_array_equal(raw["P_D360"], final["P_D360"])
    long = tables["long"]
    assert set(long["bundle"]) == {loaded_bundle.identity}
    assert set(long["age"]) <= set(NODES) and (long["age"] > long["observed_age"]).all()
    total = tables["rollup"].query("level == 'TOTAL' and age == 360")["forecast_revenue"].item()
    has_age = final["observed_age"] >= 0
    assert total == pytest.approx((final["Users"] * final["P_D360"])[has_age].sum(), rel=1e-5)


def test_wide_tables_as_parquet_hold_the_same(
    loaded_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    for kind in ("csv", "parquet"):
        read = Files(path=table).curves(30)
        predict(loaded_bundle, lambda read=read: read, tmp_path, replace(TABLES, wide=kind))
    for name in (
        "Files_Predictions/LTV_predictions",
        "Files_Predictions_Final/LTV_predictions_final",
    ):
        from_parquet = pd.read_parquet(tmp_path / f"{name}_2024_03_14.parquet")
        from_csv = pd.read_csv(tmp_path / f"{name}_2024_03_14.csv").astype(from_parquet.dtypes)
        pd.testing.assert_frame_equal(from_parquet, from_csv)


def test_tables_that_another_run_left_are_told(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each option may leave its own tables; those of another day are no concern."""

    def left_tables(options: OutputOptions) -> set[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(loaded_bundle, lambda: [curves], tmp_path, options)
        _, _, paths = caplog.text.partition("did not write: delete ")
        return {path.rpartition("/")[2].strip() for path in paths.split(",") if path}

    csv = {f"LTV_predictions{final}_2024_03_14.csv" for final in ("", "_final")}
    assert left_tables(TABLES) == left_tables(TABLES) == set()
    assert left_tables(replace(TABLES, wide="parquet")) == csv
    for name in csv:
        next(tmp_path.glob(f"*/{name}")).unlink()
    explained = replace(TABLES, wide="parquet", explain=True)
    assert left_tables(explained) == set()
    whole = {path.name for path in tmp_path.rglob("*.parquet")} | {"explanations.csv"}
    assert left_tables(replace(explained, part=50)) == whole
    assert left_tables(explained) >= {"forecasts", "explanations"}
    (tmp_path / "Files_Predictions" / "LTV_predictions_2024_03_13.csv").touch()
    assert "LTV_predictions_2024_03_13.csv" not in left_tables(explained)


def read_parts(folder: Path) -> pd.DataFrame:
    """The forecasts of all parts, in their order."""
    return pd.read_parquet(folder / "forecasts")


def test_parts_hold_what_one_table_does(loaded_bundle: Bundle, table: Path, tmp_path: Path) -> None:
    def read_pieces() -> Iterable[Curves]:
        return Files(path=table).curves(5)

    in_parts = replace(TABLES, part=20)
    counts = predict(loaded_bundle, read_pieces, tmp_path / "parts", in_parts)
    assert counts == predict(loaded_bundle, read_pieces, tmp_path / "one", TABLES)
    assert [p.name for p in sorted((tmp_path / "parts" / "forecasts").glob("*.parquet"))] == [
        f"0000{n}.parquet" for n in range(7)
    ]
    whole_tables = outputs(tmp_path / "one")
    pd.testing.assert_frame_equal(read_parts(tmp_path / "parts"), whole_tables["long"])
    rollup = (pd.read_csv(tmp_path / name / "rollup.csv") for name in ("parts", "one"))
    pd.testing.assert_frame_equal(*rollup, rtol=1e-12)
    files = sorted((tmp_path / "parts" / "Files_Predictions").glob("*_2024_03_14_0000?.csv"))
    raw = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    pd.testing.assert_frame_equal(raw, whole_tables["LTV_predictions_2024_03_14.csv"])


def test_parts_that_are_finished_are_not_made_again(
    loaded_bundle: Bundle, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the third part, the same call makes that and the later ones."""
    in_parts, pieces_predicted = replace(FEW, part=20), []
    forecaster = type(loaded_bundle.forecaster)
    predicted = forecaster.predict

    def predict_and_count(self: Predictor, curves: Curves, ages: Sequence[int]) -> Forecast:
        if len(curves) > 1:  # one is asked for what sums are
            pieces_predicted.append(curves.start[0])
            if len(pieces_predicted) == 9:
                raise KeyboardInterrupt
        return predicted(self, curves, ages)

    def read_pieces() -> Iterable[Curves]:
        return Files(path=table).curves(5)

    monkeypatch.setattr(forecaster, "predict", predict_and_count)
    with pytest.raises(KeyboardInterrupt):
        predict(loaded_bundle, read_pieces, tmp_path, in_parts)
    assert not (tmp_path / "rollup.csv").exists()
    names = [path.name for path in (tmp_path / "forecasts").iterdir()]
    assert sorted(names) == ["00000.parquet", "00001.parquet", "_finished"]
    counts = predict(loaded_bundle, read_pieces, tmp_path, in_parts)
    pieces = sum(len(piece) > 1 for piece in read_pieces())
    assert len(pieces_predicted) == 9 + pieces - 8  # so many were in the first two parts
    again, count_before = (
        predict(loaded_bundle, read_pieces, tmp_path, in_parts),
        len(pieces_predicted),
    )
    assert counts == again and len(pieces_predicted) == count_before
    monkeypatch.undo()
    predict(loaded_bundle, read_pieces, tmp_path / "one", FEW)
    pd.testing.assert_frame_equal(read_parts(tmp_path), outputs(tmp_path / "one")["long"])
    (tmp_path / "forecasts" / "_finished" / "00002.json").write_text('{"stamp": "9')
    (tmp_path / "forecasts" / "00001.parquet").unlink()
    predict(
        loaded_bundle, read_pieces, tmp_path, in_parts
    )  # a finished part whose table is gone, or whose record is damaged, is made again
    pd.testing.assert_frame_equal(read_parts(tmp_path), outputs(tmp_path / "one")["long"])


def test_parts_of_more_cohorts_than_now_are_removed(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    """Forecasts of other days stay, and files that another process is writing."""
    in_parts = replace(TABLES, part=20)
    predict(
        loaded_bundle,
        lambda: [curves.take(np.arange(i, i + 20)) for i in (0, 20)],
        tmp_path,
        in_parts,
    )
    yesterday = tmp_path / "Files_Predictions" / "LTV_predictions_2024_03_13_00009.csv"
    writing = tmp_path / "forecasts" / ".00003.parquet.123.part"
    for path in (yesterday, writing):
        path.touch()
    predict(loaded_bundle, lambda: [curves.take(np.arange(20))], tmp_path, in_parts)
    names_left = sorted(path.name for path in (tmp_path / "forecasts").rglob("*") if path.is_file())
    assert names_left == [".00003.parquet.123.part", "00000.json", "00000.parquet"]
    names_left = sorted(path.name for path in (tmp_path / "Files_Predictions").iterdir())
    assert names_left == [yesterday.name, "LTV_predictions_2024_03_14_00000.csv"]


@pytest.mark.parametrize("rows", [5, 37])
def test_the_size_of_pieces_changes_nothing(
    rows: int, loaded_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    predict(loaded_bundle, lambda: Files(path=table).curves(10_000), tmp_path / "one", TABLES)
    predict(loaded_bundle, lambda: Files(path=table).curves(rows), tmp_path / "many", TABLES)
    one_piece, many_pieces = outputs(tmp_path / "one"), outputs(tmp_path / "many")
    for name in one_piece:
        keys = [c for c in one_piece[name] if not pd.api.types.is_float_dtype(one_piece[name][c])]
        first, second = (
            tables[name].sort_values(keys, ignore_index=True) for tables in (one_piece, many_pieces)
        )
        pd.testing.assert_frame_equal(first, second, rtol=1e-5)


def test_without_wide_tables_only_the_asked_ages_are_forecast(
    loaded_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    two_ages = OutputOptions(wide=None, ages=[30, 360], by="Apps")
    predict(loaded_bundle, lambda: Files(path=table).curves(1000), tmp_path, two_ages)
    assert not list(tmp_path.glob("Files_*"))
    assert set(pd.read_parquet(tmp_path / "forecasts.parquet")["age"]) == {30, 360}
    assert set(pd.read_csv(tmp_path / "rollup.csv")["level"]) == {"Apps", "TOTAL"}


def test_stale_data_older_data_and_lost_columns_are_said(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings(rows: Curves) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(
                loaded_bundle,
                lambda: [rows],
                tmp_path,
                OutputOptions(wide=None, ages=[360], by=None),
            )
        return caplog.text

    assert warnings(curves) == ""
    late = replace(curves, origin=curves.origin + 61)
    assert "the data are 61 days newer than the bundle, trained as of 2024-03-14" in warnings(late)
    assert "knows 5 days that came after these data" in warnings(curves.as_of(curves.origin - 5))
    apps = curves.attributes["Apps"] == "a"
    without_apps = replace(curves.take(apps), attributes={}, hierarchy=())
    assert "the bundle was trained with Apps, which these data lack" in warnings(without_apps)


@pytest.fixture(scope="module")
def rich_curves() -> Curves:
    """With spend and a series, retention."""
    return weekly_history(62, covariates=True).as_of("2024-02-29")


def bundle_of_mixture(rich_curves: Curves, folder: Path, *, spend: bool) -> Bundle:
    """A mixture of a pattern and a net that sees series, and spend if so asked."""
    net = FullSchedule(
        net=LSTM_NET, pattern=PATTERN, training=TRAINING, context=make_run_context(),
        covariates=COVARIATES | {"spend": spend},
    )  # fmt: skip
    model = unfitted_corrected("pattern", "neural")
    model.models, model.stages = (
        [make_forecaster(PATTERN).fit(rich_curves), net.fit(rich_curves)],
        LearnedStages.neutral(2),
    )
    return read_back(model, "corrected", rich_curves, folder)


def read_back(model: Predictor, name: str, curves: Curves, folder: Path) -> Bundle:
    bundle.save(folder, name, model, curves, {})
    return bundle.load(folder)


def test_a_lost_series_and_lost_spend_are_said_where_a_net_saw_them(
    rich_curves: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_spend = bundle_of_mixture(rich_curves, tmp_path / "both", spend=True)
    blind = bundle_of_mixture(rich_curves, tmp_path / "blind", spend=False)
    pattern = read_back(
        make_forecaster(PATTERN).fit(rich_curves), "pattern", rich_curves, tmp_path / "pattern"
    )
    poor = replace(rich_curves, series={}, spend=np.full(len(rich_curves), np.nan))

    def warnings(by: Bundle, rows: Curves) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(by, lambda: [rows], tmp_path, FEW)
        return caplog.text

    lacks = "the bundle was trained with {}, which these data lack: every row is forecast as one"
    assert lacks.format("series retention, spend") in warnings(with_spend, poor)
    assert lacks.format("spend") in warnings(with_spend, replace(poor, series=rich_curves.series))
    assert lacks.format("series retention") in warnings(with_spend, replace(rich_curves, series={}))
    assert lacks.format("series retention") in warnings(blind, poor)
    assert "which these data lack" not in warnings(with_spend, rich_curves)
    assert warnings(pattern, poor) == ""
    begun = rich_curves.take(rich_curves.observed_age < 0)
    assert len(begun) and warnings(with_spend, begun) == ""  # no spend is known of them yet


def test_a_ledger_keeps_what_was_forecast(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    with_ledger = replace(FEW, ledger=tmp_path / "ledger")
    pieces = [curves.take(np.arange(70)), curves.take(np.arange(70, len(curves)))]
    predict(loaded_bundle, lambda: pieces, tmp_path, with_ledger)
    model = f"neural-{loaded_bundle.identity[:12]}"
    entries = Ledger(tmp_path / "ledger").read(model, [curves.origin], ("Apps",))
    forecast = loaded_bundle.forecaster.predict(curves)
    rows = np.flatnonzero((curves.observed_age >= 0) & (curves.observed_age < 360))
    np.testing.assert_allclose(entries.bands["final"].mean, forecast.final.mean[rows], rtol=1e-5)
    assert list(pd.read_parquet(tmp_path / "forecasts.parquet")["age"].unique()) == [360]
    wide_with_ledger = replace(with_ledger, wide="csv")
    predict(
        loaded_bundle, lambda: pieces, tmp_path, wide_with_ledger
    )  # again: the same rows, not twice
    assert len(Ledger(tmp_path / "ledger").read(model, [curves.origin], ("Apps",))) == len(rows)


def test_two_folders_of_one_day_stand_in_one_ledger(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each cohort as it was issued first; what is said of it later is kept beside."""
    with_ledger = replace(FEW, ledger=tmp_path / "ledger")
    model = f"neural-{loaded_bundle.identity[:12]}"
    is_first = curves.attributes["Apps"] == "a"
    folders = {"a": curves.take(is_first), "b": curves.take(~is_first)}
    richer = replace(folders["a"], values=folders["a"].values * 2)

    def predict_into_ledger(cohorts: Curves) -> tuple[str, dict[str, bytes]]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            predict(loaded_bundle, lambda: [cohorts], tmp_path / "out", with_ledger)
        return caplog.text, file_contents(tmp_path / "ledger")

    text, _ = predict_into_ledger(folders["a"])
    assert "cohorts added, 0 there already" in text
    predict_into_ledger(folders["b"])
    both = Ledger(tmp_path / "ledger").read(model, [curves.origin], ("Apps",))
    assert set(both.attributes["Apps"]) == {"a", "b"}
    forecast = loaded_bundle.forecaster.predict(curves)
    rows = np.flatnonzero((curves.observed_age >= 0) & (curves.observed_age < 360))
    np.testing.assert_allclose(both.bands["final"].mean, forecast.final.mean[rows], rtol=1e-5)

    text, once = predict_into_ledger(folders["b"])
    assert "0 cohorts added" in text and "otherwise" not in text and len(once) == 1
    text, revised = predict_into_ledger(richer)
    assert "were forecast otherwise before: their first forecasts stay as issued" in text
    assert once.items() <= revised.items() and len(revised) == 2
    _, again = predict_into_ledger(richer)
    assert again == revised
    assert len(pd.read_parquet(tmp_path / "ledger")) == both.has_forecast.sum()


def test_a_ledger_refuses_what_proves_nothing_and_no_table_is_written(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    with_ledger = replace(FEW, ledger=tmp_path / "ledger")
    with pytest.raises(ValueError, match="by a model that knew 2024-03-14 proves nothing"):
        predict(loaded_bundle, lambda: [curves.as_of(curves.origin - 5)], tmp_path, with_ledger)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_learned_of_the_past_is_said_in_a_line(loaded_bundle: Bundle) -> None:
    blank = "P10 and P90 are blank, as no past was learned from"
    assert describe_corrections(loaded_bundle) == f"nothing blended; nothing corrected; {blank}"
    shape = (8, 1, 21)
    intervals = replace(Intervals.blank(), lower=np.zeros(shape), upper=np.zeros(shape))
    model = unfitted_corrected("pattern")
    model.stages = replace(LearnedStages.neutral(), intervals=intervals)
    changed_bundle = replace(loaded_bundle, forecaster=model)
    sums = "those of sums blank: fewer than 4 past days without overlap have come true"
    assert describe_corrections(changed_bundle).endswith(
        f"nothing corrected; P10 and P90 are calibrated on the past, {sums}"
    )
    intervals.lower[2:4] = np.nan
    assert describe_corrections(changed_bundle).endswith(
        f"P10 and P90 are calibrated on the past, blank at observed ages 7-13, 14-29, {sums}"
    )
    on = np.arange(8) == 2
    blend = Blend(np.where(on, 0.5, 1.0)[:, None])
    model.stages = replace(
        model.stages, blend=blend, correction=replace(Correction.neutral(), is_on=on)
    )
    line = "blended at {} (pattern 50 %, pattern 50 %); corrected at {}; P10 and P90 are calibrated"
    assert describe_corrections(changed_bundle).startswith(line.replace("{}", "observed ages 7-13"))


def test_how_models_are_weighed_is_said_by_name(loaded_bundle: Bundle) -> None:
    """Weights that are not equal, though the pattern has none; thirds do not sum to 1 exactly."""
    model = unfitted_corrected("neural", "boosting", "mack")
    model.stages = LearnedStages.neutral(3)
    mixture_bundle, mean = (
        replace(loaded_bundle, forecaster=model),
        "the mean of neural, boosting, mack",
    )
    assert describe_corrections(mixture_bundle).startswith(
        f"{mean}; nothing blended; nothing corrected; "
    )
    weight = Blend.equal(3).weight
    weight[3], weight[5] = [0.75, 0.25, 0.0], [0.0, 0.5, 0.0]
    model.stages = replace(model.stages, blend=Blend(weight))
    weights = "14-29 (neural 75 %, boosting 25 %), 60-89 (boosting 50 %, pattern 50 %)"
    assert describe_corrections(mixture_bundle).startswith(
        f"{mean}; blended at observed ages {weights}; nothing corrected"
    )


def test_users_that_were_lost_since_training_are_refused(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    alone = replace(curves, users=np.ones(len(curves)))
    with pytest.raises(
        ValueError, match=r"have no Users, the bundle was trained with \d+ a cohort"
    ):
        predict(loaded_bundle, lambda: [alone], tmp_path, FEW)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_on_the_way_leaves_no_table(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    def broken() -> Iterator[Curves]:
        yield curves
        raise RuntimeError

    with pytest.raises(RuntimeError):
        predict(loaded_bundle, broken, tmp_path, TABLES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_first_week_is_told_wherever_a_young_cohort_stands(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    k = curves.observed_age
    old, young = curves.take(k >= 20), curves.take(k < 7)
    older = [old.take(np.arange(5)), old.take(np.arange(5, 9)), old.take(np.arange(9, 20))]

    def first_day(*pieces: Curves) -> str:
        predict(loaded_bundle, lambda: pieces, tmp_path, TABLES)
        table = pd.read_csv(tmp_path / "Files_Predictions" / "LTV_predictions_2024_03_14.csv")
        assert len(table) == sum(map(len, pieces))
        return next(name for name in table if name.startswith("P_"))

    assert first_day(young, old) == "P_D1"
    assert first_day(*older, young) == "P_D1"
    assert first_day(*older) == first_day(old) == "P_D8"


def test_nothing_to_forecast_is_said(loaded_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none: no cohort had begun"):
        predict(loaded_bundle, list, tmp_path, TABLES)


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
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
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
        f"bundle={loaded_bundle.manifest['folder']}", "rows=100",
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
    second_run = subprocess.run(command, capture_output=True, text=True)
    assert second_run.returncode == 0, second_run.stderr
    assert not list(out.rglob("*.part"))
    assert len(outputs(out)["LTV_predictions_2024_03_14.csv"]) == len(copies)


def test_a_table_of_explanations(loaded_bundle: Bundle, curves: Curves, tmp_path: Path) -> None:
    table = tmp_path / "LTV_2024_03_14.csv"
    write_cohorts(curves, table)
    tables = OutputOptions(wide="csv", ages=[30, 360], by=None, explain=True)
    predict(loaded_bundle, lambda: Files(path=table).curves(40), tmp_path, tables)
    explanations = pd.read_csv(tmp_path / "explanations.csv")
    columns = ["observed_age", "horizon", "segment", *TERMS, "forecast", "explanation"]
    assert list(explanations) == ["Date", "Apps", "Users", *columns] and len(explanations) == len(
        curves
    )
    final = pd.read_csv(next(tmp_path.glob("Files_Predictions_Final/*.csv")))
    pd.testing.assert_series_equal(explanations["Date"], final["Date"])
    np.testing.assert_array_equal(explanations["forecast"], final["P_D360"])
    np.testing.assert_allclose(
        explanations["segment"] + explanations[[*TERMS]].sum(axis=1), explanations["forecast"], 1e-5
    )
    blank = explanations["observed_age"] < 0
    assert blank.any() and explanations.loc[blank, ["segment", *TERMS, "forecast"]].isna().all(
        axis=None
    )
    assert explanations["explanation"].isna().equals(blank)
    last_row = explanations[~blank].iloc[-1]
    assert (
        last_row["explanation"].startswith("D360 of ")
        and f"of {last_row['Apps']}" in last_row["explanation"]
    )
    assert set(pd.read_parquet(tmp_path / "forecasts.parquet")["age"]) == {30, 360}


def test_an_attribute_named_like_a_term_is_explained_beside_it(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    named = replace(curves, attributes={**curves.attributes, "level": curves.attributes["Apps"]})
    tables = OutputOptions(wide=None, ages=[360], by=None, explain=True)
    predict(loaded_bundle, lambda: [named], tmp_path, tables)
    explanations = pd.read_csv(tmp_path / "explanations.csv")
    assert explanations["attribute_level"].tolist() == curves.attributes["Apps"].tolist()
    assert pd.api.types.is_float_dtype(explanations["level"])


def test_explanations_are_not_asked_for_unless_they_are(
    loaded_bundle: Bundle, curves: Curves, tmp_path: Path
) -> None:
    predict(
        loaded_bundle, lambda: [curves], tmp_path, OutputOptions(wide=None, ages=[360], by=None)
    )
    assert not (tmp_path / "explanations.csv").exists()


def test_half_a_table_is_none(loaded_bundle: Bundle, curves: Curves, tmp_path: Path) -> None:
    def broken() -> Iterator[Curves]:
        yield curves
        raise RuntimeError

    tables = OutputOptions(wide=None, ages=[360], by=None, explain=True)
    with pytest.raises(RuntimeError):
        predict(loaded_bundle, broken, tmp_path, tables)
    with pytest.raises(ValueError, match="expected forecasts to explain, got none"):
        predict(loaded_bundle, list, tmp_path, tables)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
