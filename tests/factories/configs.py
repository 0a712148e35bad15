"""Configs of models as configs/ composes them, small enough to be fitted in a moment.

A test that needs another value says so: `BOOSTING | {"rounds": 1}`.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ltvnet.correction.walk_forward import StageSwitches

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"

Config = Mapping[str, Any]


def compose_config(script: str, *overrides: str) -> DictConfig:
    """The config of a script, as the command line with these overrides composes it."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(script, overrides=["out=runs/test", *overrides])


def as_dict(config: DictConfig) -> dict[str, Any]:
    """A composed config as plain values."""
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return values


@cache
def group_config(group: str, name: str) -> dict[str, Any]:
    """Values of configs/GROUP/NAME.yaml."""
    return as_dict(compose_config("train", f"{group}={name}")[group])


def model_config(name: str, **changes: object) -> dict[str, Any]:
    """The model of configs/model/NAME.yaml, with some values changed."""
    return deepcopy(group_config("model", name)) | changes


def arguments_of(config: Config) -> dict[str, Any]:
    """Arguments of the class of a model: its config without the name."""
    return {key: config[key] for key in config if key != "name"}


# Test portfolios earn little: a tenth of the usual revenue makes a segment credible.
PATTERN = model_config("pattern", credibility=10.0, level_credibility=10.0)
CHAIN_LADDER = model_config("chain_ladder", credibility=10.0, level_credibility=10.0)
PLAIN_PATTERN = PATTERN | {"tilt": False, "calendar": False, "trend": False}
"""The pattern with segments and levels, but without tilt and dates."""

TRIANGLE_LADDER = CHAIN_LADDER | {"min_cohorts": 1}
"""The chain ladder of the textbooks: a factor of a single cohort counts."""

LSTM_NET = model_config("lstm")["net"] | {"units": [6, 4], "dense": 8, "embedding": 2}
MLP_NET = model_config("mlp")["net"] | {"hidden": [8, 6], "embedding": 2}
TIDE_LAYERS: dict[str, int] = {
    "hidden": 8,
    "encoder": 1,
    "decoder": 1,
    "projection_hidden": 6,
    "projection": 3,
    "decoded": 4,
    "temporal_hidden": 5,
}
TIDE_NET = model_config("tide")["net"] | {"layers": TIDE_LAYERS, "embedding": 2}

TRAINING = model_config("lstm")["training"] | {
    "epochs": 2,
    "warm_epochs": 1,
    "patience": 2,
    "batch_size": 128,
    "min_steps": 1,
    "rate": 0.01,
    "average": 0.5,
    "loss": "deviance",
    "unseen": 0.1,
}
HARDWARE = group_config("trainer", "cpu") | {"log_every": 5}
COVARIATES = model_config("lstm")["covariates"]

LSTM = model_config(
    "lstm",
    net=LSTM_NET,
    pattern=PATTERN,
    training=TRAINING,
)
BENKTANDER = model_config("benktander", pattern=PATTERN)
BOOSTING = model_config("boosting", rounds=8, leaves=4, rate=0.2, min_rows=20, pattern=PATTERN)
GROWTH_LSTM = model_config(
    "growth_lstm",
    net={"units": [4, 3], "dense": 4, "dropout": 0.1},
    epochs=1,
    windows=2000,
    batch_size=256,
    rate=0.01,
    pattern=PATTERN,
)
MIXTURE: Config = {
    "name": "best",
    "bases": {"one": BENKTANDER | {"half_life": 90.0}, "other": PATTERN},
}

VALIDATION = group_config("validation", "rolling")
PLAN = VALIDATION["plan"] | {"ages": [7]}
"""How past days are replayed: fitted anew, from a warm start, in one process."""

EXPANDING = VALIDATION["plan"] | {"ages": [], "warm": False}
"""Days that are fitted cold, and forecast from the cohorts' own ages only."""

ALL_STAGES = StageSwitches(**VALIDATION["learning"])


def corrected_config(
    base: Config, every_weeks: int, origins: int, **changes: object
) -> dict[str, Any]:
    """A model whose past is replayed on some days, to learn blend, correction and intervals."""
    return {
        "name": "corrected",
        "base": base,
        "every_weeks": every_weeks,
        "origins": origins,
        "plan": PLAN,
        "learning": VALIDATION["learning"],
        "ledger": None,
    } | changes
