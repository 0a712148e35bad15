"""Starts a script: composes its config, keeps it with the results, tells errors in a message."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def launch(main: Callable[[DictConfig], None], name: str) -> None:
    """Run `main` with the config `name`; a user's error is one message and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1

    def run(config: DictConfig) -> None:
        with told():
            main(kept(config))

    with told():
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)()


@contextmanager
def told() -> Iterator[None]:
    """Turn a user's error into its message and exit code 2; debug=true shows where it arose."""
    try:
        yield
    except USER_ERRORS as error:
        if "debug=true" in sys.argv:
            raise
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        text = str(cause).partition("\n    full_key:")[0]
        sys.stderr.write(f"error: {text}\n")
        sys.exit(2)


def kept(config: DictConfig) -> DictConfig:
    """The config of this run, or of the one to resume, saved with its results."""
    if resume := config.get("resume"):
        config = OmegaConf.create(OmegaConf.load(saved(resume)))
        config.out = config.resume = resume
    OmegaConf.resolve(config)
    saved(config.out).parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, saved(config.out))
    return config


def model_config(config: DictConfig, name: str) -> dict[str, Any]:
    """The config of a model of configs/model by name, with changes out of config.settings."""
    shared = [f"{key}={config[key]}" for key in ("seed", "out")]
    model = compose("train", [f"model={name}", *shared]).model
    if "machine" in model:
        model.machine = config.trainer
    changed = OmegaConf.merge(model, config.settings.get(name, {}))
    values: dict[str, Any] = OmegaConf.to_container(changed, resolve=True)
    return values


def saved(out: str) -> Path:
    """The composed config of a run."""
    return Path(out) / ".hydra" / "config.yaml"
