"""Cohort tables read in Python: of files by the defaults of `Files`, and of pandas data frames.

Shapes: N rows of a table.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import History
from ltvnet.data.importers.extension_columns import period_texts
from ltvnet.data.importers.table_format import TableFormat

log = logging.getLogger(__name__)


def read(
    cohorts: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    hierarchy: Sequence[str] | None = None,
    attributes: Sequence[str] | None = None,
    snapshot: str | None = None,
    format: TableFormat | None = None,  # noqa: A002 the name that data.format has
) -> History:
    """Read the history in a cohort table, a folder of snapshots, or a data frame.

    Options are those of `Files`, which has more. A frame is read as a file with its columns would
    be; an index with a name is a column. Raises ValueError as `Files.history` does.
    """
    source = Files(
        path="the frame" if isinstance(cohorts, pd.DataFrame) else cohorts,
        columns=columns,
        attributes=attributes,
        snapshot=snapshot,
        format=format or TableFormat(),
    )
    if hierarchy is not None:
        source = replace(source, hierarchy=hierarchy)
    return _read_frame(cohorts, source) if isinstance(cohorts, pd.DataFrame) else source.history()


def _read_frame(frame: pd.DataFrame, source: Files) -> History:
    """Read a data frame by the options of a source."""
    with TemporaryDirectory(prefix="ltvnet-") as folder:
        path = Path(folder) / "frame.parquet"
        parquet.write_table(table_of_frame(frame), path)
        try:
            return replace(source, path=path).history()
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), str(source.path))) from error


def table_of_frame(frame: pd.DataFrame) -> pa.Table:
    """Make a table of a data frame, with the columns that can be one's attributes or numbers.

    Periods become the days that they cover. Intervals and other objects are left out, which is
    logged. Raises ValueError for two columns of one name.
    """
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [str(name) for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the frame: expected columns of different names, got twice {repeated}")

    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    left_out = []
    for position, name in enumerate(names):
        column = _column_of_series(frame.iloc[:, position])
        if column is None:
            left_out.append(f"{name} ({frame.dtypes.iloc[position]})")
        else:
            columns[name] = column
    if left_out:
        log.info("the frame: left out, as neither text nor numbers: %s", ", ".join(left_out))
    return pa.table(columns)


def _column_of_series(series: "pd.Series[str]") -> pa.Array | pa.ChunkedArray | None:
    """Make a column of a series (N,); None where its values are neither text, numbers nor days.

    A series of text and numbers becomes text.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.PeriodDtype):
        return pa.array(period_texts(pd.PeriodIndex(series)))
    if isinstance(dtype, pd.CategoricalDtype):
        return _column_of_series(series.astype(dtype.categories.dtype))
    if isinstance(dtype, pd.IntervalDtype):
        return None
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        is_plain = series.map(lambda cell: isinstance(cell, str | int | float) or pd.isna(cell))
        if not is_plain.all():
            return None
        return pa.array(series.map(str, na_action="ignore"), pa.string(), from_pandas=True)
