"""Batch prediction by Spark: the rows of `forecasts.parquet`, partition by partition.

Every machine needs this package. A path is any that Spark reads or writes, such as s3a://.

Shapes: H ages asked for.
"""

import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ltvnet.data.checks import DUPLICATE_COHORT
from ltvnet.data.cohort_tables import Files
from ltvnet.data.columns import END, START
from ltvnet.data.curves import parse_day, validate_ages
from ltvnet.data.source import DataSource
from ltvnet.data.table_files import date_in_name
from ltvnet.prediction import batch, bundle, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


log = logging.getLogger(__name__)

BundleFiles = tuple[tuple[str, bytes], ...]
"""The files of a bundle: name and bytes of each."""

_TOLD = "[told]"  # around what a worker tells the user, which arrives inside its traceback


@dataclass(frozen=True, kw_only=True)
class SparkCluster:
    """Where Spark runs: `master`, such as local[2] (None: where spark-submit says), `conf` its
    settings, and `out` the folder of forecasts (None: `forecasts.parquet` where the run writes).
    """

    master: str | None
    conf: Mapping[str, Any] | None
    out: str | None

    @contextmanager
    def session(self, rows: int) -> Iterator["SparkSession"]:
        """A session that hands on `rows` cohorts at a time; stopped at the end if it was started.

        Raises ValueError without pyspark or Java, and for what Spark or a worker tells the user.
        """
        try:
            from pyspark.errors import PySparkException, PySparkRuntimeError, PythonException
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ValueError("engine=spark needs pyspark: pip install 'ltvnet[spark]'") from error
        if self.master is not None and self.master.startswith("local"):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        running = SparkSession.getActiveSession()
        own = {
            "spark.sql.execution.arrow.maxRecordsPerBatch": rows,
            "spark.sql.caseSensitive": True,  # an attribute may be named as a column is
            "spark.log.level": "FATAL",  # what went wrong is raised, and told once
            "spark.ui.showConsoleProgress": sys.stderr.isatty(),
        }
        builder = SparkSession.builder.appName("ltvnet").config(map={**own, **(self.conf or {})})
        try:
            started = (builder.master(self.master) if self.master else builder).getOrCreate()
        except PySparkRuntimeError as error:
            raise ValueError(
                f"Spark did not start, which needs Java 17 or newer: {error}"
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
                yield started
        except PySparkException as error:
            if len(parts := str(error).split(_TOLD)) > 2:
                raise ValueError(parts[1]) from error
            if isinstance(error, PythonException):
                raise
            raise ValueError(str(error).partition("\n")[0]) from error
        finally:
            if running is None:
                started.stop()


@dataclass(frozen=True)
class PartitionJob:
    """What each partition is forecast with, on whatever machine.

    `source` how tables are read, `date` their as-of day and `names` their attributes, the same in
    all partitions; `ages` (H,) of forecasts, `contents` of the bundle.
    """

    source: Files
    as_of: np.datetime64
    attribute_names: list[str]
    ages: Sequence[int]
    contents: BundleFiles

    def forecast_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of `forecasts.parquet` for the cohorts in a partition."""
        with mark_user_errors():
            trained = load_from_files(self.contents)
            place = Path(f"{self.source.path}, partition {_partition()}")
            for curves in self.source.parse_tables(
                to_tables(batches), place, self.as_of, self.attribute_names
            ):
                forecast = trained.forecaster.predict(curves, self.ages)
                yield from tables.forecast_rows(forecast, trained.identity).to_batches()


@lru_cache(maxsize=1)  # of a worker process, which takes many partitions
def load_from_files(contents: BundleFiles) -> bundle.Bundle:
    """A bundle read from its files, which need not be on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents:
            Path(folder, name).write_bytes(content)
        return bundle.load(folder)


def last_complete_day(source: Files, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The last day on which any age in a partition was complete, as a row."""
    with mark_user_errors():
        place = Path(f"{source.path}, partition {_partition()}")
        last = source.last_complete_day(to_tables(batches), place)
    yield pa.record_batch({"day": pa.array(np.array([last]))})


def to_tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches as tables."""
    return (pa.Table.from_batches([batch]) for batch in batches)


def _partition() -> int:
    from pyspark import TaskContext

    number: int = TaskContext.get().partitionId()
    return number


@contextmanager
def mark_user_errors() -> Iterator[None]:
    """Mark what a worker tells the user."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_TOLD}{error}{_TOLD}") from error


def is_spark_engine(engine: str, as_of: str | None, device: str) -> bool:
    """Whether Spark is to forecast. Raises ValueError for an unknown engine and what it cannot."""
    if engine not in ("local", "spark"):
        raise ValueError(f"expected engine=local or spark, got {engine!r}")
    if engine == "spark" and as_of is not None:
        raise ValueError(f"engine=spark reads a table of one day: set data.snapshot, not {as_of=}")
    if engine == "spark" and device != "cpu":
        raise ValueError(
            f"engine=spark forecasts on the CPUs of a cluster: set device=cpu, not {device}"
        )
    return engine == "spark"


def predict_with_spark(
    folder: Path,
    source: DataSource,
    asked: batch.OutputOptions,
    rows: int,
    cluster: SparkCluster,
    out: Path,
) -> Counter[str]:
    """Forecast all cohorts of a table that Spark reads with the bundle in a folder, at `ages`.

    The table is of one day: that of `source.snapshot`, or in its name, or else its last complete
    one. Of the tables `asked` for the long one is written, in `out` or where the cluster says,
    whole or not at all, as a folder of Parquet files. Returns how many cohorts have which reason,
    of those with an age ahead. Raises ValueError as batch.predict does.
    """
    if asked.explain or asked.ledger is not None:
        raise ValueError("engine=spark writes forecasts.parquet: set explain=false and ledger=null")
    if not isinstance(source, Files):
        raise ValueError("engine=spark reads cohort tables: set data=files")  # noqa: TRY004 the user
    trained = bundle.load(folder)
    target = (cluster.out or f"file://{(out / 'forecasts.parquet').absolute()}").rstrip("/")
    with cluster.session(rows) as session:
        frame = _read(session, str(source.path))
        part, sample = _planned(
            frame, source, validate_ages(asked.ages).tolist(), trained, folder, rows
        )
        made = frame.mapInArrow(part.forecast_batches, session.createDataFrame(sample).schema)
        written = f"{target}.part"
        try:
            made.write.mode("overwrite").parquet(written)
            reasons = _counted(session.read.parquet(written), part)
            _renamed(session, written, target)
        finally:
            _removed(session, written)
    return reasons


def _read(session: "SparkSession", path: str) -> "DataFrame":
    """A table of one day, cells of a CSV as text."""
    if ".csv" in Path(path.lower()).suffixes:
        return session.read.csv(path, header=True, mode="FAILFAST", escape='"')
    return session.read.parquet(path)


def _planned(
    frame: "DataFrame",
    source: Files,
    ages: Sequence[int],
    trained: bundle.Bundle,
    folder: Path,
    rows: int,
) -> tuple[PartitionJob, pa.Table]:
    """What each partition needs, and forecasts of the first rows."""
    path, first = Path(f"{source.path}, first rows"), frame.limit(rows).toArrow()
    if not len(first):
        raise ValueError(f"{path}: expected at least one cohort, got no rows")
    date = _as_of(frame, source)
    curves = next(source.parse_tables([first], path, date), None)
    if curves is None:
        raise ValueError(f"{path}: expected cohorts that had begun by {date} in its first rows")
    batch.check_compatibility(trained, curves)
    contents = tuple(
        (name, Path(folder, name).read_bytes())
        for name in (bundle.MANIFEST_FILE, bundle.STATE_FILE, bundle.ARRAYS_FILE)
    )
    part = PartitionJob(source, date, list(curves.attributes), ages, contents)
    return part, tables.forecast_rows(trained.forecaster.predict(curves, ages), trained.identity)


def _as_of(frame: "DataFrame", source: Files) -> np.datetime64:
    """The day of a table, the same for all partitions."""
    path = Path(source.path)
    if source.snapshot is not None:
        return parse_day(source.snapshot)
    if (date := date_in_name(path)) is not None:
        return date
    days = frame.mapInArrow(partial(last_complete_day, source), "day date")
    last = days.agg({"day": "max"}).first()[0]
    if last is None:
        raise ValueError(f"{path}: no value tells its as-of date; set data.snapshot")
    log.info("%s: as of %s, its last complete day (else set data.snapshot)", path, last)
    return parse_day(last)


def _counted(made: "DataFrame", part: PartitionJob) -> Counter[str]:
    """Reasons of the cohorts in forecasts. Raises ValueError for a cohort that is there twice."""
    from pyspark.sql import functions

    names = [START, END, *part.attribute_names]
    keys = [functions.col(f"`{name}`") for name in names]
    last = made.where(made["age"] == part.ages[-1])  # a row of each cohort that has rows
    cohorts = last.groupBy(*keys).agg(functions.count("age").alias("times"))
    if twice := cohorts.where("times > 1").select(*keys).head(1):
        raise ValueError(
            f"problems in the data: {part.source.path}, {', '.join(map(str, twice[0]))}: {DUPLICATE_COHORT}"
        )
    return Counter({row[0]: row[1] for row in last.groupBy("reason").count().collect()})


def _renamed(session: "SparkSession", written: str, target: str) -> None:
    """Put a folder in the place of another, wherever they are; that one goes when it is done."""
    files, (new, place, old) = _files(session, written, target, f"{target}.old")
    files.delete(old, True)  # noqa: FBT003 all that is in it; as Hadoop has it
    there = files.exists(place) and files.rename(place, old)
    if not files.rename(new, place):
        if there:
            files.rename(old, place)
        raise OSError(f"{written} cannot be renamed to {target}: see who else writes there")
    files.delete(old, True)  # noqa: FBT003


def _removed(session: "SparkSession", folder: str) -> None:
    files, (found,) = _files(session, folder)
    files.delete(found, True)  # noqa: FBT003


def _files(session: "SparkSession", *paths: str) -> tuple[Any, list[Any]]:
    """The file system of paths, of whatever kind, and the paths as it has them."""
    context: Any = session.sparkContext
    found = [context._jvm.org.apache.hadoop.fs.Path(path) for path in paths]
    return found[0].getFileSystem(context._jsc.hadoopConfiguration()), found
