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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from ltvnet.data.checks import DUPLICATE_COHORT
from ltvnet.data.cohort_tables import Files
from ltvnet.data.columns import END, START
from ltvnet.data.curves import Curves, parse_day, validate_ages
from ltvnet.data.output_columns import attribute_column
from ltvnet.data.source import DataSource
from ltvnet.data.table_files import date_in_name
from ltvnet.prediction import batch, bundle, tables
from ltvnet.prediction.compatibility import check_compatibility, check_level

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


log = logging.getLogger(__name__)

BundleFiles = tuple[tuple[str, bytes], ...]
"""The files of a bundle: name and bytes of each."""

Engine = Literal["local", "spark"]

_ERROR_MARK = "[told]"  # around a worker's message to the user, which arrives in its traceback


@dataclass(frozen=True, kw_only=True)
class SparkCluster:
    """Where Spark runs and writes.

    `master` such as local[2] (None: where spark-submit says), `conf` its settings, and `out` the
    folder of forecasts (None: `forecasts.parquet` where the run writes).
    """

    master: str | None
    conf: Mapping[str, Any] | None
    out: str | None

    @contextmanager
    def session(self, rows: int) -> Iterator["SparkSession"]:
        """Open a session that hands on `rows` cohorts at a time.

        It is stopped at the end unless it was running before. Raises ValueError without pyspark or
        Java, and for what Spark or a worker tells the user.
        """
        try:
            from pyspark.errors import PySparkException, PySparkRuntimeError, PythonException
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise ValueError("engine=spark needs pyspark: pip install 'ltvnet[spark]'") from error

        if self.master is not None and self.master.startswith("local"):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        running_session = SparkSession.getActiveSession()
        settings = {**_session_settings(rows), **(self.conf or {})}
        builder = SparkSession.builder.appName("ltvnet").config(map=settings)
        if self.master:
            builder = builder.master(self.master)
        try:
            session = builder.getOrCreate()
        except PySparkRuntimeError as error:
            raise ValueError(
                f"Spark did not start, which needs Java 17 or newer: {error}"
            ) from error

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")
                yield session
        except PySparkException as error:
            marked_parts = str(error).split(_ERROR_MARK)
            if len(marked_parts) > 2:
                raise ValueError(marked_parts[1]) from error
            if isinstance(error, PythonException):
                raise
            raise ValueError(str(error).partition("\n")[0]) from error
        finally:
            if running_session is None:
                session.stop()


def _session_settings(rows: int) -> dict[str, Any]:
    return {
        "spark.sql.execution.arrow.maxRecordsPerBatch": rows,
        "spark.sql.caseSensitive": True,  # an attribute may be named as a column is
        "spark.log.level": "FATAL",  # what went wrong is raised, and told once
        "spark.ui.showConsoleProgress": sys.stderr.isatty(),
    }


@dataclass(frozen=True)
class PartitionJob:
    """Work on one partition, on whatever machine: it holds all that the forecast needs.

    `source` reads tables, `as_of` is their day and `attribute_names` their attributes, the same in
    all partitions; `ages` (H,) of forecasts, `contents` of the bundle.
    """

    source: Files
    as_of: np.datetime64
    attribute_names: list[str]
    ages: Sequence[int]
    contents: BundleFiles

    def forecast_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `forecasts.parquet` for the cohorts in a partition."""
        with mark_user_errors():
            trained = load_from_files(self.contents)
            location = _partition_location(self.source)
            for curves in self.source.parse_tables(
                to_tables(batches), location, self.as_of, self.attribute_names
            ):
                forecast = trained.forecaster.predict(curves, self.ages)
                yield from tables.forecast_rows(forecast, trained.identity).to_batches()


@lru_cache(maxsize=1)  # of a worker process, which takes many partitions
def load_from_files(contents: BundleFiles) -> bundle.Bundle:
    """Read a bundle from the contents of its files, which need not be on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents:
            Path(folder, name).write_bytes(content)
        return bundle.load(folder)


def last_complete_day(source: Files, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield a row with the last day on which any age in a partition was complete."""
    with mark_user_errors():
        last_day = source.last_complete_day(to_tables(batches), _partition_location(source))
    yield pa.record_batch({"day": pa.array(np.array([last_day]))})


def to_tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Make each batch a table."""
    return (pa.Table.from_batches([batch]) for batch in batches)


def _partition_location(source: Files) -> Path:
    """The path of a table and the number of this partition, for messages."""
    return Path(f"{source.path}, partition {partition_number()}")


def partition_number() -> int:
    """Number of the partition that this worker is at."""
    from pyspark import TaskContext

    number: int = TaskContext.get().partitionId()
    return number


@contextmanager
def mark_user_errors() -> Iterator[None]:
    """Mark the message of a ValueError, so that it is found in the traceback of a worker."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{_ERROR_MARK}{error}{_ERROR_MARK}") from error


def is_spark_engine(engine: Engine, as_of: str | None, device: str) -> bool:
    """Return whether Spark is to forecast.

    Raises ValueError for an unknown engine, and for a day or a device that Spark cannot take.
    """
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
    options: batch.OutputOptions,
    rows: int,
    cluster: SparkCluster,
    out: Path,
) -> Counter[str]:
    """Forecast all cohorts of a table that Spark reads with the bundle in a folder.

    The table is of one day: that of `source.snapshot`, or in its name, or else its last complete
    one. Of the tables in `options` the long one is written, in `out` or where the cluster says,
    whole or not at all, as a folder of Parquet files. Returns how many cohorts have which reason,
    of those with an age ahead. Raises ValueError as batch.predict does.
    """
    if options.explain or options.ledger is not None:
        raise ValueError("engine=spark writes forecasts.parquet: set explain=false and ledger=null")
    if not isinstance(source, Files):
        raise ValueError("engine=spark reads cohort tables: set data=files")  # noqa: TRY004 the user
    trained = bundle.load(folder)
    ages = validate_ages(options.ages).tolist()
    target = (cluster.out or f"file://{(out / 'forecasts.parquet').absolute()}").rstrip("/")

    with cluster.session(rows) as session:
        frame = _read_table(session, str(source.path))
        first_curves = _parse_first_rows(frame, source, rows)
        check_compatibility(trained, first_curves)
        check_level(trained, first_curves, options.scale)
        job, sample = _plan_job(source, ages, trained, folder, first_curves)
        schema = session.createDataFrame(sample).schema
        forecasts = frame.mapInArrow(job.forecast_batches, schema)
        unfinished = f"{target}.part"
        try:
            forecasts.write.mode("overwrite").parquet(unfinished)
            reasons = _count_reasons(session.read.parquet(unfinished), job)
            replace_folder(session, unfinished, target)
        finally:
            _remove_folder(session, unfinished)
    return reasons


def _read_table(session: "SparkSession", path: str) -> "DataFrame":
    """Read a table of one day, cells of a CSV as text."""
    if ".csv" in Path(path.lower()).suffixes:
        return session.read.csv(path, header=True, mode="FAILFAST", escape='"')
    return session.read.parquet(path)


def _parse_first_rows(frame: "DataFrame", source: Files, rows: int) -> Curves:
    """Parse the first rows of a table. Raises ValueError where none of them had begun."""
    location = Path(f"{source.path}, first rows")
    first_rows = frame.limit(rows).toArrow()
    if not len(first_rows):
        raise ValueError(f"{location}: expected at least one cohort, got no rows")

    as_of = _as_of(frame, source)
    curves = next(source.parse_tables([first_rows], location, as_of), None)
    if curves is None:
        raise ValueError(
            f"{location}: expected cohorts that had begun by {as_of} in its first rows"
        )
    return curves


def _plan_job(
    source: Files,
    ages: Sequence[int],
    trained: bundle.Bundle,
    folder: Path,
    curves: Curves,
) -> tuple[PartitionJob, pa.Table]:
    """Collect what each partition needs, and forecast the first rows as a sample."""
    contents = tuple(
        (name, Path(folder, name).read_bytes())
        for name in (bundle.MANIFEST_FILE, bundle.STATE_FILE, bundle.ARRAYS_FILE)
    )
    job = PartitionJob(source, curves.origin, list(curves.attributes), ages, contents)
    sample = trained.forecaster.predict(curves, ages)
    return job, tables.forecast_rows(sample, trained.identity)


def _as_of(frame: "DataFrame", source: Files) -> np.datetime64:
    """The day of a table, the same for all partitions."""
    path = Path(source.path)
    if source.snapshot is not None:
        return parse_day(source.snapshot)
    date = date_in_name(path)
    if date is not None:
        return date

    days = frame.mapInArrow(partial(last_complete_day, source), "day date")
    last_day = days.agg({"day": "max"}).first()[0]
    if last_day is None:
        raise ValueError(f"{path}: no value tells its as-of date; set data.snapshot")
    log.info("%s: as of %s, its last complete day (else set data.snapshot)", path, last_day)
    return parse_day(last_day)


def _count_reasons(forecasts: "DataFrame", job: PartitionJob) -> Counter[str]:
    """Count cohorts by the reason of their first age. Raises ValueError for a cohort twice."""
    from pyspark.sql import functions

    names = [START, END, *map(attribute_column, job.attribute_names)]
    keys = [functions.col(f"`{name}`") for name in names]
    # Every cohort that has rows has one at the last age, but its first one has its own reason.
    is_last_age = functions.col("age") == job.ages[-1]
    cohorts = forecasts.groupBy(*keys).agg(
        functions.count_if(is_last_age).alias("times"),
        functions.min_by("reason", "age").alias("reason"),
    )

    repeated = cohorts.where("times > 1").select(*keys).head(1)
    if repeated:
        cohort = ", ".join(map(str, repeated[0]))
        raise ValueError(f"problems in the data: {job.source.path}, {cohort}: {DUPLICATE_COHORT}")
    return Counter({row[0]: row[1] for row in cohorts.groupBy("reason").count().collect()})


def replace_folder(session: "SparkSession", written: str, target: str) -> None:
    """Put the folder `written` in the place of `target`, wherever they are.

    The older one is put back where that fails, and removed where it does not.
    """
    files, (new_path, target_path, old_path) = hadoop_paths(
        session, written, target, f"{target}.old"
    )
    files.delete(old_path, True)  # noqa: FBT003 all that is in it; as Hadoop has it
    was_there = files.exists(target_path) and files.rename(target_path, old_path)
    if not files.rename(new_path, target_path):
        if was_there:
            files.rename(old_path, target_path)
        raise OSError(f"{written} cannot be renamed to {target}: see who else writes there")
    files.delete(old_path, True)  # noqa: FBT003


def _remove_folder(session: "SparkSession", folder: str) -> None:
    files, (path,) = hadoop_paths(session, folder)
    files.delete(path, True)  # noqa: FBT003


def hadoop_paths(session: "SparkSession", *paths: str) -> tuple[Any, list[Any]]:
    """The file system of paths, of whatever kind, and the paths as it has them."""
    context: Any = session.sparkContext
    converted = [context._jvm.org.apache.hadoop.fs.Path(path) for path in paths]
    file_system = converted[0].getFileSystem(context._jsc.hadoopConfiguration())
    return file_system, converted
