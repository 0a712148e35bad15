"""Make a cohort table of purchases, with its standard errors: see configs/prepare.yaml."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from launch import launch
from omegaconf import DictConfig

log = logging.getLogger("prepare")


def main(config: DictConfig) -> None:
    """Read purchases, write cohorts."""
    import pandas as pd

    from ltvnet.data.cohort_tables import keys, write_cohorts
    from ltvnet.storage import whole

    source = instantiate(config.data)
    if not hasattr(source, "standard_errors"):
        raise ValueError("expected purchases, as data=transactions has, got cohorts or none")
    history, out = source.history(), Path(config.out)
    curves = history.as_of(history.last_day)
    write_cohorts(curves, out / "cohorts.csv")
    errors = source.standard_errors().loc[curves.index].add_prefix("day_").reset_index(drop=True)
    with whole(out / "standard_errors.csv") as part:
        pd.DataFrame({**keys(curves), **errors}).to_csv(part, index=False)
    log.info("%s: cohorts.csv, and standard_errors.csv of the same curves", out)


if __name__ == "__main__":
    launch(main, "prepare")
