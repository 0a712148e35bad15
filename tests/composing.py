"""Configs as the command line composes them."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

CONFIGS = Path(__file__).parent.parent / "configs"


def composed(name: str, *overrides: str) -> DictConfig:
    """The config of a script, as the command line with these overrides composes it."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides=["out=runs/test", *overrides])
