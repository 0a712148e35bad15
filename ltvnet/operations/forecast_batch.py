"""Forecast cohorts with a trained bundle and write tables: what `scripts/predict.py` does."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ltvnet.data.curves import Curves
from ltvnet.data.source import CountsRows, CurvesStream, DataSource
from ltvnet.forecasting.typed_config import check_day
from ltvnet.operations.origin_day import find_origin
from ltvnet.prediction import batch, bundle, spark
from ltvnet.prediction.correction_summary import describe_corrections
from ltvnet.reports.findings import Verdict
from ltvnet.storage import atomic_write

SUMMARY_FILE = "summary.json"
"""Name of the file that says in short what was forecast, and how far to trust it."""


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
    """Outcome of a batch, and how far to trust it.

    Cohorts by `reason`, what the bundle `corrected` in words, `seconds`; `model` its name,
    `trained_as_of` its day, `bundle_identity`, `reach` the last age that its data support and
    `verdict` on its past (both None in bundles of earlier versions); `as_of` the day of the data
    (None: spark has not told).
    """

    reasons: Counter[str]
    corrected: str
    seconds: float
    model: str
    trained_as_of: str
    bundle_identity: str
    reach: int | None
    verdict: Verdict | None
    as_of: str | None

    def as_text(self) -> str:
        """The summary for a terminal."""
        counts = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        cohorts = f"{self.reasons.total():,} cohorts in {self.seconds:.2f} s"
        lines = [f"{cohorts}: {counts}", self.corrected]
        if self.verdict is not None:
            trained = f"{self.model}, trained as of {self.trained_as_of}"
            lines.append(f"verdict on {trained}: {self.verdict.as_text()}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `summary.json` into a folder."""
        entries: dict[str, Any] = {
            "verdict": None if self.verdict is None else self.verdict.as_entry(),
            "as_of": self.as_of,
            "reach": self.reach,
            "model": self.model,
            "trained_as_of": self.trained_as_of,
            "bundle": self.bundle_identity,
            "cohorts": self.reasons.total(),
            "reasons": dict(self.reasons.most_common()),
            "corrected": self.corrected,
        }
        with atomic_write(folder / SUMMARY_FILE) as path:
            path.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def forecast_batch(
    bundle_folder: Path, source: DataSource, options: ForecastOptions, out: Path
) -> ForecastSummary:
    """Forecast the cohorts of a source with the bundle in a folder; write tables to `out`.

    Beside them `summary.json` says in short what was forecast, and how far to trust it.

    Raises ValueError for a bundle or data that are not as expected.
    """
    import torch  # takes a second, and the messages of bad options need not wait for it

    torch.set_num_threads(options.threads)
    trained = bundle.load(bundle_folder).to(options.device)
    begun = time.perf_counter()
    days = _DaysOfPieces()

    if spark.is_spark_engine(options.engine, options.as_of, options.device):
        assert options.cluster is not None
        reasons = spark.predict_with_spark(
            bundle_folder, source, options.tables, options.rows, options.cluster, out
        )
    elif options.as_of is None and isinstance(source, CurvesStream):
        stream = source
        expected_rows = stream.expected_rows() if isinstance(stream, CountsRows) else None
        reasons = batch.predict(
            trained,
            lambda: days.note(stream.curves(options.rows)),
            out,
            options.tables,
            expected_rows,
        )
    else:
        history = source.history()
        curves = history.as_of(find_origin(source, history, options.as_of))
        reasons = batch.predict(trained, lambda: days.note([curves]), out, options.tables)
    summary = ForecastSummary(
        reasons=reasons,
        corrected=describe_corrections(trained),
        seconds=time.perf_counter() - begun,
        model=str(trained.manifest.get("title", trained.model_name)),
        trained_as_of=str(trained.as_of),
        bundle_identity=trained.identity,
        reach=trained.manifest.get("reach"),
        verdict=Verdict.from_entry(trained.manifest.get("verdict")),
        as_of=days.last,
    )
    summary.write(out)
    return summary


class _DaysOfPieces:
    """The day that pieces of cohorts stand at, noted as they pass by."""

    last: str | None = None

    def note(self, pieces: Iterable[Curves]) -> Iterator[Curves]:
        """Yield pieces, and keep the day of the last one."""
        for piece in pieces:
            self.last = str(piece.origin)
            yield piece
