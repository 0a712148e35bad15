"""What tests make models of: specs of configs, and where they are fitted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

Config = Mapping[str, Any]

HARDWARE = HardwareConfig(
    accelerator="cpu", devices=1, strategy="auto", threads=1, log_every=5, precision="32-true"
)


def run_context(seed: int = 0, folder: Path | None = None) -> RunContext:
    """A seed and a folder on one thread of the CPU."""
    return RunContext(seed=seed, folder=folder, hardware=HARDWARE)


def forecaster(config: Config, seed: int = 0) -> Forecaster:
    """An unfitted forecaster of a config that writes nothing."""
    return create_forecaster(ModelSpec.from_config(config), run_context(seed))


def past_replay(
    config: Config,
    history: History,
    origins: Sequence[np.datetime64],
    plan: ReplayPlan,
    ledger: Ledger | Path,
) -> Replay:
    """Past days to be replayed with the model of a config; `ledger` also as a folder."""
    kept = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
    return Replay(ModelSpec.from_config(config), run_context(), history, origins, plan, kept)


def identity_of(
    config: Config, history: History, plan: ReplayPlan, first: np.datetime64, seed: int = 0
) -> str:
    """The name in a ledger of the model of a config."""
    return model_identity(ModelSpec.from_config(config), run_context(seed), history, plan, first)


def corrected_model(config: Config, kind: type[Corrected] = Corrected) -> Corrected:
    """An unfitted `Corrected` of a config with `base`, `ledger` and the keys of validation."""
    ledger = None if config["ledger"] is None else Path(config["ledger"])
    validation = ValidationConfig.from_config(config)
    return kind(ModelSpec.from_config(config["base"]), run_context(), validation, ledger)
