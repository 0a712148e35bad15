"""Write a simulated portfolio, as one table or as an analyst's folder of exports, and its truth."""

from pathlib import Path

from launch import data_source, launch
from omegaconf import DictConfig

EXPORT_KEYS = ("as_of", "table", "snapshots", "every_weeks")
"""Keys of configs/simulate.yaml that are those of ExportOptions."""


def main(config: DictConfig) -> None:
    """Simulate, write."""
    from ltvnet.data.simulation import Simulated
    from ltvnet.forecasting.typed_config import settings_from
    from ltvnet.operations.simulate_exports import ExportOptions, simulate_exports

    source = data_source(config)
    if not isinstance(source, Simulated):
        raise ValueError(  # noqa: TRY004 the user named the wrong data
            "expected data=simulated or one of its presets: other data have no truth"
        )
    options = settings_from(ExportOptions, {key: config[key] for key in EXPORT_KEYS}, "")
    simulate_exports(source, options, Path(config.out))


if __name__ == "__main__":
    launch(main, "simulate")
