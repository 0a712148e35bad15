"""Write a simulated portfolio, as one table or as an analyst's folder of exports, and its truth."""

from pathlib import Path

from launch import data_source, launch
from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Simulate, write."""
    from ltvnet.data.simulation import Simulated
    from ltvnet.operations.simulate_exports import ExportOptions, simulate_exports

    source = data_source(config)
    if not isinstance(source, Simulated):
        raise ValueError(  # noqa: TRY004 the user named the wrong data
            "expected data=simulated or one of its presets: other data have no truth"
        )
    options = ExportOptions(
        as_of=config.as_of,
        table=config.table,
        snapshots=config.snapshots,
        every_weeks=config.every_weeks,
    )
    simulate_exports(source, options, Path(config.out))


if __name__ == "__main__":
    launch(main, "simulate")
