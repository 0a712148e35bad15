"""Which models a config is of, and the name of all that their forecasts depend on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ltvnet.backtesting.origins import Plan
from ltvnet.data.curves import History
from ltvnet.forecasting.model_config import bases

FORECASTS = 3
"""Part of an identity in a ledger: raise it when the same config would forecast otherwise."""


def identity(config: Mapping[str, Any], history: History, plan: Plan, first: np.datetime64) -> str:
    """Name of a model in a ledger: its kind, and a hash of all that its forecasts are of.

    The model's config without the folder and, but for its precision, the machine it runs on, the
    plan without its workers, the first origin, the history, and the code's FORECASTS.
    """
    digest, models = hashlib.sha256(), [{**base, "folder": None} for base in bases(config)]
    for base in models:
        base["machine"] = base.get("machine", {}).get("precision")
    chosen = {key: value for key, value in asdict(plan).items() if key != "workers"}
    data = [history.hierarchy, history.lag_days, list(map(str, history.index.names))]
    text = json.dumps([FORECASTS, models, chosen, str(first), data], sort_keys=True, default=_plain)
    digest.update(text.encode())
    digest.update(history.index.to_frame(index=False).to_csv(index=False).encode())
    further = [history.series[name] for name in sorted(history.series)]
    for array in (history.snapshot, history.users, history.spend, history.values, *further):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return f"{config.get('net', {}).get('kind', config['name'])}-{digest.hexdigest()[:12]}"


def _plain(value: Any) -> dict[str, Any] | list[Any]:  # noqa: ANN401 what JSON does not know
    return dict(value) if isinstance(value, Mapping) else list(value)
