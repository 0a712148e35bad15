"""Prediction tables out, as streams: each writer writes a forecast and hands it on.

A table appears when the last forecast was taken, whole, or not at all.

Legend: N cohorts, A ages 0..360, H ages asked for, C cells that are forecast.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.arrays import Categorical, Floats
from ltvnet.data.cohort_tables import ColumnArrays, key_columns
from ltvnet.data.columns import SPEND
from ltvnet.data.curves import AGES, EVERY_AGE, HORIZONS, NODE_AGES, NODES, Curves
from ltvnet.data.output_columns import attribute_column
from ltvnet.forecasting.explanation import TERMS, Explanation
from ltvnet.forecasting.forecast import Forecast, return_on_spend
from ltvnet.forecasting.interpolation import InterpolationShape
from ltvnet.forecasting.rollup import Rollup
from ltvnet.prediction.csv_tables import CsvWriter, round_money, round_significant
from ltvnet.storage import atomic_write

FIRST_WEEK_DAYS = 7
"""Forecasts of D1 to D7 are told if a cohort is younger than so many days."""

WideFormat = Literal["csv", "parquet"]
WideStage = Literal["", "_Final"]

WIDE_STAGES: tuple[WideStage, WideStage] = ("", "_Final")
"""Endings of the folders of the two wide tables: of raw and of final means."""


@dataclass(frozen=True)
class OutputPaths:
    """Paths of tables in a folder: one file a table, or the numbered `part` of each table."""

    folder: Path
    part: int | None = None

    @property
    def long_table(self) -> Path:
        """`forecasts.parquet`, or a part in the folder `forecasts`."""
        return self._numbered_path("forecasts", ".parquet")

    @property
    def explanations(self) -> Path:
        """`explanations.csv`, or a part in the folder `explanations`."""
        return self._numbered_path("explanations", ".csv")

    def wide_table(self, stage: WideStage, origin: np.datetime64, kind: WideFormat) -> Path:
        """Path of a wide table: of raw ("") or final means, in a format of WIDE_WRITERS."""
        date = str(origin).replace("-", "_")
        part = "" if self.part is None else f"_{self.part:05}"
        name = f"LTV_predictions{stage.lower()}_{date}{part}.{kind}"
        return self.folder / f"Files_Predictions{stage}" / name

    def _numbered_path(self, name: str, suffix: str) -> Path:
        if self.part is None:
            return self.folder / f"{name}{suffix}"
        return self.folder / name / f"{self.part:05}{suffix}"


def remove_stale_parts(folder: Path, parts: int, origin: np.datetime64) -> None:
    """Remove parts numbered `parts` or higher, which an earlier run of more cohorts left.

    Wide tables of other origins stay.
    """
    date = str(origin).replace("-", "_")
    patterns = {
        "forecasts": r"(\d{5})\.parquet",
        "forecasts/_finished": r"(\d{5})\.json",
        "explanations": r"(\d{5})\.csv",
        "Files_Predictions*": rf"LTV_predictions(?:_final)?_{date}_(\d{{5}})\.(?:csv|parquet)",
    }
    for subfolder, pattern in patterns.items():
        for path in folder.glob(f"{subfolder}/*"):
            match = re.fullmatch(pattern, path.name)
            if match and int(match[1]) >= parts:
                path.unlink()


def find_older_tables(folder: Path, origin: np.datetime64, written: Iterable[Path]) -> list[Path]:
    """Find tables of an origin that stand beside those just `written`, in another format or cut.

    A run of other options left them; nobody can see that they are of other forecasts. A folder of
    parts is named as one. Wide tables of other origins are no concern.
    """
    date = str(origin).replace("-", "_")
    wide_name = re.compile(rf"LTV_predictions(?:_final)?_{date}(?:_\d{{5}})?\.(?:csv|parquet)")
    written_paths = set(written)
    older = [
        path
        for path in sorted(folder.glob("Files_Predictions*/*"))
        if wide_name.fullmatch(path.name) and path not in written_paths
    ]
    for name, suffix in (("forecasts", ".parquet"), ("explanations", ".csv")):
        parts = set((folder / name).glob(f"*{suffix}"))
        if parts and not parts & written_paths:
            older.append(folder / name)
        whole = folder / f"{name}{suffix}"
        if whole.exists() and whole not in written_paths:
            older.append(whole)
    return older


def _open_parquet(path: Path, schema: pa.Schema) -> parquet.ParquetWriter:
    """Open a writer that looks for repeated cells in all columns but those of fractions."""
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    return parquet.ParquetWriter(path, schema, use_dictionary=repeated)


WIDE_WRITERS = {"csv": CsvWriter, "parquet": _open_parquet}
"""Formats of the wide tables, and the writer that each is opened with."""


ShapeOfCurves = Callable[[Curves], InterpolationShape]
"""Function from cohorts to the shape in which their means grow between nodes."""


def write_wide(
    forecasts: Iterable[Forecast],
    paths: OutputPaths,
    kind: WideFormat,
    shape_of_curves: ShapeOfCurves | None,
    *,
    first_week: bool,
) -> Iterator[Forecast]:
    """Write the tables of raw and of final means, one row a cohort, in a format of WIDE_WRITERS.

    They are `Files_Predictions/LTV_predictions_YYYY_MM_DD.csv` and
    `Files_Predictions_Final/LTV_predictions_final_YYYY_MM_DD.csv`; the latter also has Spend, and
    at `HORIZONS` ROAS, P10 and P90, blank until calibrated. Cells are revenue per user, to
    float32; those of ages already observed repeat the observed value. Blank are ages beyond those
    that the data support, and observed ones that were not exported. D1 to D7 are columns only with
    `first_week`. Forecasts are of all ages from 1 to 360 or, where `shape_of_curves` is given, of
    NODES. Raises ValueError for forecasts that are not.
    """
    first_age = 1 if first_week else FIRST_WEEK_DAYS + 1
    needed_ages = np.arange(1, AGES) if shape_of_curves is None else NODE_AGES

    with ExitStack() as stack:
        writers: list[CsvWriter | parquet.ParquetWriter] = []
        pending: list[Future[None]] = []
        for forecast in forecasts:
            if not np.isin(needed_ages, forecast.ages).all():
                expected = f"all ages 1..{AGES - 1}" if shape_of_curves is None else "all of NODES"
                raise ValueError(f"expected forecasts of {expected}: {forecast.ages}")
            is_rounded = kind == "csv"
            raw_and_final = _wide_tables(
                forecast, first_age, shape_of_curves, is_rounded=is_rounded
            )

            if not writers:
                for stage, table in zip(WIDE_STAGES, raw_and_final, strict=True):
                    path = paths.wide_table(stage, forecast.curves.origin, kind)
                    unfinished = stack.enter_context(atomic_write(path))
                    writer = WIDE_WRITERS[kind](unfinished, table.schema)
                    writers.append(stack.enter_context(writer))
                # Entered last, so that it ends first: no file is closed while it is written to.
                threads = stack.enter_context(ThreadPoolExecutor(len(writers)))

            for future in pending:
                future.result()
            pending = [
                threads.submit(writer.write, table)
                for writer, table in zip(writers, raw_and_final, strict=True)
            ]
            yield forecast

        for future in pending:
            future.result()


def _wide_tables(
    forecast: Forecast, first_age: int, shape_of_curves: ShapeOfCurves | None, *, is_rounded: bool
) -> tuple[pa.Table, pa.Table]:
    """The rows of the wide tables of raw and of final means for one forecast.

    Money is to float32, or to the significant digits that people read.
    """
    digits = round_significant if is_rounded else _keep_digits
    curves = forecast.curves
    key = _arrow_columns(_table_key(curves))
    spend = _arrow_columns({SPEND: curves.spend})
    observed_age = _arrow_columns({"observed_age": curves.observed_age})
    reason = _arrow_columns({"reason": forecast.reason})

    raw_means, final_means = _daily_means(forecast, shape_of_curves)
    _blank_unsupported(raw_means, forecast)
    raw = _age_columns("P", digits(raw_means), range(first_age, AGES))
    final = raw
    if final_means is not raw_means:
        _blank_unsupported(final_means, forecast)
        final = _age_columns("P", digits(final_means), range(first_age, AGES))

    at_horizons = {
        name: _arrow_array(digits(cells))
        for name, cells in _horizon_columns(forecast, final_means).items()
    }
    raw_table = pa.table({**key, **observed_age, **raw, **reason})
    final_table = pa.table({**key, **spend, **observed_age, **final, **at_horizons, **reason})
    return raw_table, final_table


def _keep_digits(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values as they are."""
    return values


def _age_columns(
    name: str, by_age: NDArray[np.float32], ages: Iterable[int]
) -> dict[str, pa.Array]:
    """Columns of some ages, of values by age (A, N)."""
    return {f"{name}_D{age}": _arrow_array(by_age[age]) for age in ages}


def _table_key(curves: Curves) -> ColumnArrays:
    """Columns that say which cohort a row is, and how large; see `attribute_column`."""
    return {
        attribute_column(name) if name in curves.attributes else name: cells
        for name, cells in key_columns(curves).items()
    }


def _blank_unsupported(daily_means: NDArray[np.float32], forecast: Forecast) -> None:
    """Blank the means (A, N) that nothing supports.

    These are forecasts of ages beyond those that the data support, and values of observed ages
    that were not exported: at these stand those of earlier ages.
    """
    observed_age = forecast.curves.observed_age
    for age in range(max(forecast.last_supported_age, 0) + 1, AGES):
        daily_means[age, observed_age < age] = np.nan
    for age in np.flatnonzero(~forecast.curves.is_exported(EVERY_AGE)).tolist():
        daily_means[age, observed_age >= age] = np.nan


def _arrow_columns(columns: ColumnArrays) -> dict[str, pa.Array]:
    return {name: _arrow_array(cells) for name, cells in columns.items()}


def _fill_observed(forecast: Forecast, values: Floats) -> Floats:
    """Forecast `values` (N, H), and what was observed at the ages before them."""
    curves = forecast.curves
    is_exported = curves.is_exported(forecast.ages)
    observed = np.where(is_exported, curves.values[:, forecast.ages], np.nan)
    cells: Floats = np.where(forecast.is_ahead, values, observed)
    return cells


def _daily_means(
    forecast: Forecast, shape_of_curves: ShapeOfCurves | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw and final means of every day, with what was observed before: (A, N) each.

    Both are one object where a shape is given and nothing was corrected.
    """
    if shape_of_curves is not None:
        nodes = forecast.at(NODES)
        node_means = [nodes.raw.mean]
        if not np.array_equal(nodes.raw.mean, nodes.final.mean, equal_nan=True):
            node_means.append(nodes.final.mean)
        daily_means = shape_of_curves(forecast.curves).daily_means(forecast.curves, node_means)
        return daily_means[0], daily_means[-1]

    every_age = forecast.at(range(1, AGES))
    raw = _daily_cells(every_age, every_age.raw.mean)
    final = _daily_cells(every_age, every_age.final.mean)
    return raw, final


def _daily_cells(forecast: Forecast, mean: Floats) -> NDArray[np.float32]:
    """Means (N, A - 1) from D1 on as rows by age: (A, N)."""
    cells = _fill_observed(forecast, mean).T.astype(np.float32, order="C")
    return np.concatenate((cells[:1], cells))  # a row for D0, which no table has


def _horizon_columns(forecast: Forecast, daily_means: NDArray[np.float32]) -> ColumnArrays:
    """ROAS, P10 and P90 at HORIZONS by column name: (N,) each, in float32.

    ROAS is of the means (A, N) that the table has, NaN without spend; P10 and P90 are NaN until
    calibrated. All are NaN at ages beyond those that the data support.
    """
    forecast = forecast.at(HORIZONS)
    roas = return_on_spend(forecast.curves, daily_means[list(HORIZONS)].T)
    columns: ColumnArrays = {
        f"ROAS_D{age}": roas[:, index].astype(np.float32) for index, age in enumerate(HORIZONS)
    }

    bounds = {"P10": forecast.final.p10, "P90": forecast.final.p90}
    cells = {
        name: _fill_observed(forecast, bound).astype(np.float32) for name, bound in bounds.items()
    }
    for bound in cells.values():
        is_unknown = forecast.is_extrapolated if forecast.is_calibrated else True
        bound[np.broadcast_to(is_unknown, bound.shape)] = np.nan

    for index, age in enumerate(HORIZONS):
        for name, bound in cells.items():
            columns[f"{name}_D{age}"] = bound[:, index]
    return columns


def write_long(
    forecasts: Iterable[Forecast], path: Path, bundle_identity: str
) -> Iterator[Forecast]:
    """Write `forecasts.parquet`, a row for each cell that is forecast.

    A row group a forecast: the columns of `Forecast.long_columns`, and the identity of the bundle.
    """
    with atomic_write(path) as unfinished, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = forecast_rows(forecast, bundle_identity)
            if writer is None:
                writer = stack.enter_context(_open_parquet(unfinished, table.schema))
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield forecast

        if writer is None:
            raise ValueError(f"{path}: expected forecasts to write, got none: no cohort had begun")


def forecast_rows(forecast: Forecast, bundle_identity: str) -> pa.Table:
    """Build the rows (C,) of `forecasts.parquet` for one forecast: see `write_long`."""
    columns = {name: _arrow_array(cells) for name, cells in forecast.long_columns().items()}
    rows = len(columns["age"])
    return pa.table({**columns, "bundle": pa.repeat(bundle_identity, rows)})


def _arrow_array(cells: NDArray[Any] | Categorical) -> pa.Array:
    """Cells (C,) as Arrow has them: NaN is null, codes are the text that they stand for."""
    if isinstance(cells, Categorical):
        return pa.array(cells.values, pa.string()).take(pa.array(cells.codes))
    return pa.array(cells, from_pandas=True)


def write_explanations(
    forecasts: Iterable[Forecast], path: Path, explain: Callable[[Forecast], Explanation]
) -> Iterator[Forecast]:
    """Write `explanations.csv`: why each cohort's forecast differs from its segment's.

    A row a cohort: the key, users, observed age, `horizon`, `segment` (what a typical cohort of it
    would have), TERMS and the `forecast` that they add up to, revenue per user to float32, the
    forecast with the digits that the wide table has, and the same in words. Blank without a
    complete age.
    """
    with atomic_write(path) as unfinished, ExitStack() as stack:
        writer = None
        for forecast in forecasts:
            table = _explanation_rows(explain(forecast))
            if writer is None:
                writer = stack.enter_context(CsvWriter(unfinished, table.schema))
            writer.write(table)
            yield forecast

        if writer is None:
            raise ValueError(
                f"{path}: expected forecasts to explain, got none: no cohort had begun"
            )


def _explanation_rows(explanation: Explanation) -> pa.Table:
    """The rows (N,) of `explanations.csv`: see `write_explanations`."""
    curves = explanation.curves
    amounts = {
        "segment": explanation.segment_mean,
        **dict(zip(TERMS, explanation.terms.T, strict=True)),
        "forecast": explanation.forecast,
    }
    columns: ColumnArrays = {
        "observed_age": curves.observed_age,
        "horizon": np.full(len(curves), explanation.horizon),
        **{name: cells.astype(np.float32) for name, cells in amounts.items()},
        "explanation": explanation.sentences(),
    }
    columns["forecast"] = round_significant(columns["forecast"])
    return pa.table(_arrow_columns({**_table_key(curves), **columns}))


def write_rollup(rollup: Rollup, path: Path) -> None:
    """Write `rollup.csv`: sums in currency over the cohorts of each segment and in total.

    A row for each segment and each of `HORIZONS` that was forecast, but for sums with a cohort
    whose forecast is extrapolated, or whose age was not exported. `cohorts` in the sums and
    `cohorts_left_out` for want of a complete age, `users`, `spend` where known, `observed_revenue`
    up to that age, `forecast_revenue` (final mean, with what was observed), and `p10`, `p90` of
    that sum, blank where the past does not tell: bounds of cohorts do not add up, as they share a
    part of their errors. `uncalibrated` marks those of another horizon. `roas` is the revenue of
    the cohorts with spend over that spend, `roas_users_share` the share of users that they have.
    """
    table = rollup.with_total()
    table = table[~table["is_unsupported"]].drop(columns="is_unsupported")
    columns: ColumnArrays = {str(name): table[name].to_numpy() for name in table}
    for name, cells in columns.items():
        if cells.dtype == np.float64:
            columns[name] = round_money(cells)
    rows = pa.table(_arrow_columns(columns))
    with atomic_write(path) as unfinished, CsvWriter(unfinished, rows.schema) as writer:
        writer.write(rows)
