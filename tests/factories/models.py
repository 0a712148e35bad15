"""Unfitted models of configs, and where they are fitted: on one thread of the CPU."""

from pathlib import Path

import numpy as np

from factories.configs import HARDWARE, Config
from ltvnet.backtesting.ledger import Ledger
from ltvnet.backtesting.model_identity import model_identity
from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.backtesting.replay import Replay
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import ValidationConfig
from ltvnet.data.curves import History
from ltvnet.forecasting.forecaster import Forecaster
from ltvnet.forecasting.model_spec import ModelSpec
from ltvnet.forecasting.registry import create_forecaster
from ltvnet.forecasting.run_context import HardwareConfig, RunContext

CPU = HardwareConfig(**HARDWARE)


def make_run_context(seed: int = 0, folder: Path | None = None, **hardware: object) -> RunContext:
    """A seed, a folder and one thread of the CPU, with some settings of the hardware changed."""
    return RunContext(seed=seed, folder=folder, hardware=HardwareConfig(**HARDWARE | hardware))


def make_forecaster(config: Config, seed: int = 0) -> Forecaster:
    """An unfitted forecaster of a config that writes nothing."""
    return create_forecaster(ModelSpec.from_config(config), make_run_context(seed))


def make_replay(
    config: Config,
    history: History,
    origins: list[np.datetime64],
    plan: ReplayPlan,
    ledger: Ledger | Path,
) -> Replay:
    """Past days to be replayed with the model of a config; the ledger also as a folder."""
    kept = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
    spec = ModelSpec.from_config(config)
    return Replay(spec, make_run_context(), history, origins, plan, kept)


def identity_of(
    config: Config, history: History, plan: ReplayPlan, first: np.datetime64, seed: int = 0
) -> str:
    """The name in a ledger of the model of a config."""
    return model_identity(
        ModelSpec.from_config(config), make_run_context(seed), history, plan, first
    )


def make_corrected(config: Config, kind: type[Corrected] = Corrected) -> Corrected:
    """An unfitted `Corrected` of a config with `base`, `ledger` and the keys of validation."""
    ledger = None if config["ledger"] is None else Path(config["ledger"])
    keys = ("origins", "every_weeks", "plan", "learning")
    validation = ValidationConfig.from_config({key: config[key] for key in keys})
    return kind(ModelSpec.from_config(config["base"]), make_run_context(), validation, ledger)
