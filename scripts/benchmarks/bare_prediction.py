"""The least that a prediction needs: python bare_prediction.py WAY TABLE; prints seconds.

`read` reads the columns of a cohort table, `net` reads them, asks a small network for six numbers
of the last week of each cohort's curve, and writes these. Knows nothing of ltvnet.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

ROWS = 10_000
"""Cohorts at a time."""


def open_stream(table: Path) -> parquet.ParquetFile:
    """Open a file that is read as a stream."""
    return parquet.ParquetFile(table, pre_buffer=False, buffer_size=1 << 16)


def read_columns(table: Path) -> None:
    """Read all columns."""
    for _ in open_stream(table).iter_batches(ROWS):
        pass


def forecast_and_write(table: Path) -> None:
    """Read, forecast and write."""
    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 6))
    day_names = [f"day_{day}" for day in range(8)]
    writer = None
    for batch in open_stream(table).iter_batches(ROWS):
        days = [batch.column(name).to_numpy(zero_copy_only=False) for name in day_names]
        observed = np.stack(days, 1)
        with torch.inference_mode():
            inputs = torch.from_numpy(np.nan_to_num(observed).astype(np.float32))
            forecast = net(inputs).numpy()

        columns = {f"P_{n}": forecast[:, n] for n in range(6)}
        output = pa.table({"Date": batch.column("Date"), **columns})
        writer = writer or parquet.ParquetWriter(table.with_suffix(".bare"), output.schema)
        writer.write_table(output)

    if writer is not None:
        writer.close()
        table.with_suffix(".bare").unlink()


if __name__ == "__main__":
    way, path = sys.argv[1:]
    start = time.perf_counter()
    {"read": read_columns, "net": forecast_and_write}[way](Path(path))
    sys.stdout.write(json.dumps(time.perf_counter() - start) + "\n")
