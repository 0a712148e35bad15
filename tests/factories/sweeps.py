"""A sweep of the chain ladder on three past days."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from factories.configs import (
    CHAIN_LADDER,
    EXPANDING,
    VALIDATION,
    as_dict,
    compose_config,
)

SWEEP_DATE = np.datetime64("2024-05-30")


SWEEP_VALIDATION: Mapping[str, Any] = VALIDATION | {
    "origins": 3,
    "plan": EXPANDING | {"ages": [7, 30]},
}
"""Three days, 13 weeks apart."""


SWEEP_CONFIG: Mapping[str, Any] = {"model": CHAIN_LADDER, "validation": SWEEP_VALIDATION, "seed": 0}


SWEEP_SPACE: Mapping[str, Any] = {
    "model": {"half_life": [None, 60.0, 180.0], "min_cohorts": {"low": 2, "high": 9}}
}


def _sweep_settings() -> dict[str, Any]:
    config = compose_config("sweep", "sweep.study=one", "sweep.storage=memory", "sweep.trials=5")
    settings = as_dict(config.sweep)
    del settings["held_out"]  # how many days the script leaves out, which no study needs to know
    return settings


SWEEP_SETTINGS = _sweep_settings()
"""How a study of five trials is searched."""
