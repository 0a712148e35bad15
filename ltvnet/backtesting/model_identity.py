"""The name of a model in a ledger: a hash of all that its forecasts depend on."""

from dataclasses import asdict
from typing import Any

import numpy as np

from ltvnet.backtesting.origins import ReplayPlan
from ltvnet.data.curves import History
from ltvnet.data.fingerprints import Fingerprint
from ltvnet.forecasting.model_spec import ModelSpec, as_json
from ltvnet.forecasting.registry import find_registration
from ltvnet.forecasting.run_context import RunContext

FORECAST_VERSION = 4
"""Part of an identity in a ledger: raise it when the same spec would forecast otherwise."""


def model_identity(
    spec: ModelSpec, context: RunContext, history: History, plan: ReplayPlan, first: np.datetime64
) -> str:
    """Name of a model in a ledger: its kind, and a hash of all that its forecasts depend on.

    The hash is of the spec, the seed and the precision where the model takes them (folder, threads
    and devices change nothing), the plan without its workers, the first origin, the history, and
    FORECAST_VERSION.
    """
    models = [_with_context(model, context) for model in spec.models.values()]
    plan_settings = {key: value for key, value in asdict(plan).items() if key != "workers"}
    data_settings = [history.hierarchy, history.lag_days, list(map(str, history.index.names))]
    description = [FORECAST_VERSION, models, plan_settings, str(first), data_settings]

    fingerprint = Fingerprint()
    fingerprint.add_json(description, sort_keys=True, default=as_json)
    fingerprint.add_keys(history.index)
    fingerprint.add_arrays(history.snapshot, history.users, history.spend, history.values)
    fingerprint.add_arrays(*(history.series[name] for name in sorted(history.series)))
    return f"{spec.kind}-{fingerprint.hex(12)}"


def _with_context(spec: ModelSpec, context: RunContext) -> dict[str, Any]:
    """Return a model's config with the part of the context that its forecasts depend on.

    The keys are those that ledgers have been named by since format 3.
    """
    takes = find_registration(spec.name).takes
    config = spec.as_config()
    if takes != "nothing":
        config = {**config, "seed": context.seed}

    precision = context.hardware.precision if takes == "context" else None
    return {**config, "folder": None, "machine": precision}
