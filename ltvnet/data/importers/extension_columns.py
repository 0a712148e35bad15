"""Columns of Parquet files that pandas wrote in types of its own: periods and intervals.

Shapes: N rows of a table.
"""

import json

import numpy as np
import pandas as pd
import pyarrow as pa

_PERIOD = "pandas.period"


def extension_of(field: pa.Field) -> str:
    """Return the name of a type that somebody added to those of Arrow; "" for Arrow's own.

    The type is known or not, as pandas registers it only once it is used.
    """
    if isinstance(field.type, pa.BaseExtensionType):
        name: str = field.type.extension_name
        return name
    metadata = field.metadata or {}
    return str(metadata.get(b"ARROW:extension:name", b"").decode())


def is_readable(field: pa.Field) -> bool:
    """Return whether the cells of a column can be read as text, numbers or days."""
    return extension_of(field) in ("", _PERIOD)


def with_plain_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows with periods as the days that they cover."""
    for position, field in enumerate(batch.schema):
        if extension_of(field) == _PERIOD:
            texts = pa.array(period_texts(_periods(batch.column(position), field)), pa.string())
            batch = batch.set_column(position, field.name, texts)
    return batch


def _periods(column: pa.Array, field: pa.Field) -> pd.PeriodIndex:
    """Read a column of periods (N,), NaT where empty."""
    if isinstance(field.type, pa.BaseExtensionType):
        options = field.type.__arrow_ext_serialize__()
        column = column.storage
    else:
        options = field.metadata[b"ARROW:extension:metadata"]
    frequency = json.loads(options)["freq"]
    ordinals = column.fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
    return pd.PeriodIndex(pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(frequency)))


def period_texts(periods: pd.PeriodIndex) -> list[str | None]:
    """Write periods (N,) as "first~last" day, or as the day where it is one; None where unknown."""
    first = periods.start_time.strftime("%Y-%m-%d")
    last = periods.end_time.strftime("%Y-%m-%d")
    texts = np.where(first == last, first, first + "~" + last)
    return [
        None if is_unknown else str(text)
        for text, is_unknown in zip(texts, periods.isna(), strict=True)
    ]
