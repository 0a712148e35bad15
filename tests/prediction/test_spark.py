"""Spark forecasts as one machine does; what each partition is given needs no Spark."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from factories.cohorts import weekly_history
from factories.configs import PATTERN, ROOT, compose_config
from factories.models import make_forecaster
from factories.neural import make_neural

from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import Curves
from ltvnet.prediction import bundle, spark
from ltvnet.prediction.batch import OutputOptions
from ltvnet.prediction.spark import BundleFiles, PartitionJob, SparkCluster
from ltvnet.prediction.tables import forecast_rows

AGES = [7, 30, 90, 360]
ALONE = OutputOptions(wide="csv", ages=AGES, by=None)


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(70).as_of("2024-03-14")


@pytest.fixture(scope="module")
def pattern_bundle(curves: Curves, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    bundle.save(folder, "pattern", make_forecaster(PATTERN).fit(curves), curves, {})
    return folder


@pytest.fixture
def partition(
    curves: Curves, pattern_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PartitionJob]:
    monkeypatch.setattr(spark, "partition_number", lambda: 3)
    table = tmp_path / "cohorts.csv"
    write_cohorts(curves, table)
    contents: BundleFiles = tuple(
        (path.name, path.read_bytes()) for path in pattern_bundle.iterdir()
    )
    yield PartitionJob(Files(path=table), curves.origin, ["Apps"], AGES, contents)
    spark.load_from_files.cache_clear()


def batches(partition: PartitionJob, size: int) -> list[pa.RecordBatch]:
    """The table of a part as Spark hands it on: cells as text, so many rows at a time."""
    table = pa.Table.from_pandas(
        pd.read_csv(partition.source.path, dtype=str), preserve_index=False
    )
    return table.to_batches(max_chunksize=size)


@pytest.mark.parametrize("size", [9, 1000])
def test_a_partition_gives_the_rows_of_the_long_table(
    partition: PartitionJob, pattern_bundle: Path, curves: Curves, size: int
) -> None:
    forecasts = pa.Table.from_batches(partition.forecast_batches(batches(partition, size)))
    model = bundle.load(pattern_bundle)
    expected = forecast_rows(model.forecaster.predict(curves, AGES), model.identity)
    keys = ["cohort_start", "Apps", "age"]
    rows_made, rows_expected = (
        t.to_pandas().sort_values(keys, ignore_index=True) for t in (forecasts, expected)
    )
    pd.testing.assert_frame_equal(rows_made, rows_expected, rtol=1e-6)
    assert len(forecasts) == (curves.observed_age[:, None] < AGES)[curves.observed_age >= 0].sum()


def test_a_bundle_is_read_once_in_a_worker(partition: PartitionJob) -> None:
    for _ in range(3):
        list(partition.forecast_batches(batches(partition, 50)))
    assert spark.load_from_files.cache_info().misses == 1


def test_what_a_worker_says_names_partition_and_row(partition: PartitionJob) -> None:
    table = pa.Table.from_batches(batches(partition, 1000))
    column_number = table.column_names.index("day_2")
    cells = table.column("day_2").to_pylist()
    cells[4] = "1,5"
    wrong = table.set_column(column_number, "day_2", pa.array(cells)).to_batches(max_chunksize=3)
    message = r"\[told\]problems in the data: 1\n.*cohorts.csv, partition 3, row 5, day_2 = '1,5': "
    with pytest.raises(ValueError, match=message):
        list(partition.forecast_batches(wrong))


def test_attributes_are_those_of_all_partitions(partition: PartitionJob) -> None:
    """A column with numbers in the first rows and text elsewhere is told, not dropped."""
    table = pa.Table.from_batches(batches(partition, 1000))
    table = table.append_column("Agency", pa.array(["x"] * len(table)))
    with pytest.raises(ValueError, match="Agency had only numbers .* set data.attributes"):
        list(partition.forecast_batches(table.to_batches()))
    with_agency = replace(partition, attribute_names=["Apps", "Agency"])
    forecasts = pa.Table.from_batches(with_agency.forecast_batches(table.to_batches()))
    assert set(forecasts["Agency"].to_pylist()) == {"x"}


def test_the_last_day_of_a_partition_is_a_row(partition: PartitionJob, curves: Curves) -> None:
    (last_day,) = spark.last_complete_day(partition.source, batches(partition, 1000)[:1])
    assert last_day["day"].to_pylist() == [curves.origin.item()]
    (nothing,) = spark.last_complete_day(partition.source, [])
    assert nothing["day"].to_pylist() == [None]


def test_engines_are_known_and_spark_reads_one_day() -> None:
    assert spark.is_spark_engine("spark", None, "cpu") and not spark.is_spark_engine(
        "local", "2024-01-01", "cuda"
    )
    with pytest.raises(ValueError, match="expected engine=local or spark, got 'dask'"):
        spark.is_spark_engine("dask", None, "cpu")
    with pytest.raises(ValueError, match=r"one day: set data\.snapshot, not as_of='2024-01-01'"):
        spark.is_spark_engine("spark", "2024-01-01", "cpu")
    with pytest.raises(ValueError, match="set device=cpu, not cuda"):
        spark.is_spark_engine("spark", None, "cuda")


def test_a_cluster_is_built_of_its_config() -> None:
    config = compose_config("predict", "bundle=b", "spark.conf={spark.executor.memory: 4g}")
    assert SparkCluster(**config.spark) == SparkCluster(
        master=None, conf={"spark.executor.memory": "4g"}, out=None
    )
    assert not spark.is_spark_engine(config.engine, config.as_of, config.device)


def test_other_tables_and_other_sources_are_refused(pattern_bundle: Path, tmp_path: Path) -> None:
    cluster, source = SparkCluster(master=None, conf=None, out=None), Files(path="t.csv")
    for tables in (replace(ALONE, explain=True), replace(ALONE, ledger=tmp_path)):
        with pytest.raises(ValueError, match="set explain=false and ledger=null"):
            spark.predict_with_spark(pattern_bundle, source, tables, 100, cluster, tmp_path)
    with pytest.raises(ValueError, match="reads cohort tables: set data=files"):
        spark.predict_with_spark(pattern_bundle, object(), ALONE, 100, cluster, tmp_path)  # type: ignore[arg-type]


@pytest.mark.skipif(find_spec("pyspark") is not None, reason="pyspark is there")
def test_spark_that_is_not_installed_is_told(pattern_bundle: Path, tmp_path: Path) -> None:
    cluster = SparkCluster(master="local[1]", conf=None, out=None)
    with pytest.raises(ValueError, match=r"needs pyspark: pip install 'ltvnet\[spark\]'"):
        spark.predict_with_spark(pattern_bundle, Files(path="t.csv"), ALONE, 100, cluster, tmp_path)


class Disk:
    """Hadoop's file system, as far as folders are renamed; some renames are refused."""

    def __init__(self, refused: str) -> None:
        self.refused = refused

    def exists(self, path: Path) -> bool:
        return path.exists()

    def delete(self, path: Path, _: bool) -> None:  # noqa: FBT001 as Hadoop has it
        shutil.rmtree(path, ignore_errors=True)

    def rename(self, old: Path, new: Path) -> bool:
        return old.name != self.refused and bool(old.rename(new))


@pytest.mark.parametrize("refused", ["", "new"])
def test_a_result_takes_the_place_of_another_or_leaves_it(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        spark, "hadoop_paths", lambda _, *paths: (Disk(refused), [Path(path) for path in paths])
    )
    for name in ("new", "result"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "told").write_text(name)
    session: Any = None
    written, target = str(tmp_path / "new"), str(tmp_path / "result")
    if refused:
        with pytest.raises(OSError, match="new cannot be renamed to .*result: see who else writes"):
            spark.replace_folder(session, written, target)
    else:
        spark.replace_folder(session, written, target)
    assert (tmp_path / "result" / "told").read_text() == ("result" if refused else "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*["new"] * bool(refused), "result"]


def run_predict(*words: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/predict.py at AGES."""
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), f"ages={AGES}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def cluster() -> list[str]:
    """Spark on two cores, small files in partitions of 200 kB."""
    if find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed")
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("there is no Java to run Spark with")
    small = "spark.sql.files.maxPartitionBytes: 200000, spark.sql.files.openCostInBytes: 0"
    return ["engine=spark", 'spark.master="local[2]"', f"spark.conf={{{small}}}", "wide=null"]


@pytest.mark.spark
def test_spark_forecasts_what_one_machine_does(
    curves: Curves, cluster: list[str], tmp_path: Path
) -> None:
    """A CSV with a byte order mark and a Parquet file; no name tells the as-of day."""
    model = tmp_path / "bundle"
    bundle.save(model, "neural", make_neural().fit(curves), curves, {})
    csv, binary = tmp_path / "cohorts.CSV", tmp_path / "cohorts.parquet"
    write_cohorts(curves, csv)
    csv.write_bytes(b"\xef\xbb\xbf" + csv.read_bytes())
    write_cohorts(curves, tmp_path / "whole.parquet")
    parquet.write_table(parquet.read_table(tmp_path / "whole.parquet"), binary, row_group_size=40)
    tables = {}
    for name, options in {"one": [f"data.path={csv}"], "csv": [f"data.path={csv}", *cluster],
                        "parquet": [f"data.path={binary}", *cluster]}.items():  # fmt: skip
        process = run_predict(*options, f"bundle={model}", f"out={tmp_path / name}")
        assert process.returncode == 0, process.stderr
        tables[name] = pd.read_parquet(tmp_path / name / "forecasts.parquet")
    assert len(list((tmp_path / "csv" / "forecasts.parquet").glob("part-*"))) > 2
    assert not list(tmp_path.rglob("*.part"))
    keys = ["cohort_start", "Apps", "age"]
    local_table, *spark_tables = (
        table.sort_values(keys, ignore_index=True) for table in tables.values()
    )
    ahead = (curves.observed_age[:, None] < AGES)[curves.observed_age >= 0].sum()
    assert local_table["origin"].iloc[0] == curves.origin.item() and len(local_table) == ahead
    for spark_table in spark_tables:
        pd.testing.assert_frame_equal(local_table, spark_table, rtol=1e-5, check_dtype=False)


@pytest.mark.spark
def test_spark_refuses_as_one_machine_does_and_leaves_what_was_there(
    curves: Curves, pattern_bundle: Path, cluster: list[str], tmp_path: Path
) -> None:
    """A cell that is no number, in the last partition; a cohort in the first and in the last."""
    path, out = tmp_path / "LTV_2024_03_14.csv", tmp_path / "out"
    write_cohorts(curves, path)
    table = pd.read_csv(path, dtype=str)
    older_result = out / "forecasts.parquet" / "older"
    older_result.parent.mkdir(parents=True)
    older_result.touch()
    options = [f"data.path={path}", f"bundle={pattern_bundle}", f"out={out}", "rows=40", *cluster]

    def error_message(wrong: pd.DataFrame) -> str:
        wrong.to_csv(path, index=False)
        process = run_predict(*options)
        assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
        assert [file for file in out.rglob("*") if ".hydra" not in str(file)] == [
            older_result.parent,
            older_result,
        ]
        return process.stderr.partition("error: ")[2]

    bad = table.assign(Spend="1")
    bad.loc[100, "Spend"] = "$3"
    assert "Spend = '$3': expected a plain number such as 1234.5" in error_message(bad)
    twice = error_message(pd.concat([table, table.iloc[[36]]]))
    assert twice.startswith(f"problems in the data: {path}, {table['Date'][36][:10]}, ")
    assert "expected a cohort once in a snapshot" in twice
