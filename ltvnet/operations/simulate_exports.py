"""Write a simulated portfolio as an analyst would export it: what `scripts/simulate.py` does."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ltvnet.backtesting.origins import evenly_spaced_origins
from ltvnet.data.cohort_tables import write_cohorts
from ltvnet.data.curves import DAYS_PER_WEEK, parse_day
from ltvnet.data.simulation import Simulated
from ltvnet.forecasting.typed_config import check_day

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Which exports are written.

    Up to `as_of` (None: the last cohort has passed D360), one `table` of that name, or, where
    there are to be `snapshots`, so many files in a folder `Files`, `every_weeks` apart.
    """

    as_of: str | None
    table: str
    snapshots: int
    every_weeks: int

    def __post_init__(self) -> None:
        """Check the day and counts."""
        check_day(self.as_of, "as_of")
        if self.snapshots < 0 or self.every_weeks < 1:
            raise ValueError(
                f"expected snapshots >= 0 and every_weeks >= 1, got {self.snapshots} and "
                f"{self.every_weeks}"
            )


def simulate_exports(source: Simulated, options: ExportOptions, out: Path) -> None:
    """Write what was known on each day of export, and `truth.parquet`, the expected curves.

    Raises ValueError for exports from before the first cohort was acquired.
    """
    history = source.history()
    last = history.last_day if options.as_of is None else parse_day(options.as_of)
    first = last - max(options.snapshots - 1, 0) * options.every_weeks * DAYS_PER_WEEK
    if first < history.end.min():
        raise ValueError(f"expected exports from {history.end.min()} on, got {first}: take fewer")

    for date in evenly_spaced_origins(first, last, options.every_weeks * DAYS_PER_WEEK):
        export = f"Files/[MKT]_LTV_Analysis_{str(date).replace('-', '_')}.csv"
        path = out / (export if options.snapshots else options.table)
        write_cohorts(history.as_of(date), path)
        log.info("%s: what was known on %s", path, date)
    write_cohorts(source.truth(), out / "truth.parquet")
    log.info("%s: expected revenue per user at every age", out / "truth.parquet")
