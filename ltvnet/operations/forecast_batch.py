"""Forecast cohorts with a trained bundle and write tables: what `scripts/predict.py` does."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltvnet.data.source import CurvesStream, DataSource
from ltvnet.forecasting.typed_config import check_day
from ltvnet.prediction import batch, bundle, spark


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """How a bundle is applied.

    `as_of` the day at whose end it stands (None: the source's own), `rows` cohorts worked on at a
    time, `threads` of torch, `device` "cpu" or "cuda" for nets, `engine` "local" or "spark", of
    which `cluster` says where it runs (None: it is not asked for); `tables` what is written.
    """

    as_of: str | None
    rows: int
    threads: int
    device: str
    engine: Literal["local", "spark"]
    cluster: spark.SparkCluster | None
    tables: batch.OutputOptions

    def __post_init__(self) -> None:
        """Check the day and counts."""
        check_day(self.as_of, "as_of")
        if min(self.rows, self.threads) < 1:
            raise ValueError(f"expected rows and threads >= 1, got {self.rows} and {self.threads}")


@dataclass(frozen=True)
class ForecastSummary:
    """Outcome of a batch: cohorts by `reason`, what the bundle `corrected` in words, `seconds`."""

    reasons: Counter[str]
    corrected: str
    seconds: float

    def as_text(self) -> str:
        """The summary for a terminal."""
        counts = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        cohorts = f"{self.reasons.total():,} cohorts in {self.seconds:.2f} s"
        return f"{cohorts}: {counts}\n{self.corrected}"


def forecast_batch(
    bundle_folder: Path, source: DataSource, options: ForecastOptions, out: Path
) -> ForecastSummary:
    """Forecast the cohorts of a source with the bundle in a folder; write tables to `out`.

    Raises ValueError for a bundle or data that are not as expected.
    """
    import torch  # takes a second, and the messages of bad options need not wait for it

    torch.set_num_threads(options.threads)
    trained = bundle.load(bundle_folder).to(options.device)
    begun = time.perf_counter()

    if spark.is_spark_engine(options.engine, options.as_of, options.device):
        assert options.cluster is not None
        reasons = spark.predict_with_spark(
            bundle_folder, source, options.tables, options.rows, options.cluster, out
        )
    elif options.as_of is None and isinstance(source, CurvesStream):
        stream = source
        reasons = batch.predict(trained, lambda: stream.curves(options.rows), out, options.tables)
    else:
        history = source.history()
        curves = history.as_of(options.as_of or source.default_origin(history))
        reasons = batch.predict(trained, lambda: [curves], out, options.tables)
    return ForecastSummary(
        reasons, batch.describe_corrections(trained), time.perf_counter() - begun
    )
