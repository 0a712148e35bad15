"""Write a simulated portfolio, as one table or as an analyst's folder of exports, and its truth."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from launch import launch
from omegaconf import DictConfig

log = logging.getLogger("simulate")


def main(config: DictConfig) -> None:
    """Simulate, write."""
    from ltvnet.backtesting.origins import origins
    from ltvnet.data.cohort_tables import write_cohorts
    from ltvnet.data.curves import day
    from ltvnet.data.simulation import WEEK, Simulated

    source = instantiate(config.data)
    if not isinstance(source, Simulated):
        raise ValueError(  # noqa: TRY004 the user named the wrong data
            "expected data=simulated or one of its presets: other data have no truth"
        )
    history, out = source.history(), Path(config.out)
    last = history.last_day if config.as_of is None else day(config.as_of)
    first = last - max(config.snapshots - 1, 0) * config.every_weeks * WEEK
    if first < history.end.min():
        raise ValueError(f"expected exports from {history.end.min()} on, got {first}: take fewer")
    for date in origins(first, last, config.every_weeks * WEEK):
        export = f"Files/[MKT]_LTV_Analysis_{str(date).replace('-', '_')}.csv"
        path = out / (export if config.snapshots else config.table)
        write_cohorts(history.as_of(date), path)
        log.info("%s: what was known on %s", path, date)
    write_cohorts(source.truth(), out / "truth.parquet")
    log.info("%s: expected revenue per user at every age", out / "truth.parquet")


if __name__ == "__main__":
    launch(main, "simulate")
