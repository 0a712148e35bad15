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


def opened(table: Path) -> parquet.ParquetFile:
    """A file that is read as a stream."""
    return parquet.ParquetFile(table, pre_buffer=False, buffer_size=1 << 16)


def read(table: Path) -> None:
    """Read all columns."""
    for _ in opened(table).iter_batches(ROWS):
        pass


def net(table: Path) -> None:
    """Read, forecast and write."""
    torch.set_num_threads(1)
    small = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 6))
    names = [f"day_{day}" for day in range(8)]
    writer = None
    for batch in opened(table).iter_batches(ROWS):
        seen = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names], 1)
        with torch.inference_mode():
            said = small(torch.from_numpy(np.nan_to_num(seen).astype(np.float32))).numpy()
        columns = {f"P_{n}": said[:, n] for n in range(6)}
        told = pa.table({"Date": batch.column("Date"), **columns})
        writer = writer or parquet.ParquetWriter(table.with_suffix(".bare"), told.schema)
        writer.write_table(told)
    if writer is not None:
        writer.close()
        table.with_suffix(".bare").unlink()


if __name__ == "__main__":
    way, path = sys.argv[1:]
    begun = time.perf_counter()
    {"read": read, "net": net}[way](Path(path))
    sys.stdout.write(json.dumps(time.perf_counter() - begun) + "\n")
