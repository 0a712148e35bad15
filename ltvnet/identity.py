"""Which models a config is of, and the name of all that their forecasts depend on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ltvnet.curves import History
from ltvnet.origins import Plan

FORECASTS = 3
"""Part of an identity in a ledger: raise it when the same config would forecast otherwise."""

MIXTURE = "best"
"""Name of a config that is several models, not a forecaster of its own."""

MOST_BASES = 8
"""Models in a mixture: of more there are too many weights to choose from."""


def bases(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configs of the models behind a config: those of a mixture, or itself.

    Raises ValueError for a mixture of fewer than two or more than MOST_BASES, or on patterns that
    differ: `pattern`, `reason` and `reach` of its forecasts are those of all its models.
    """
    if config["name"] != MIXTURE:
        return [config]
    if len(config["bases"]) < 2:
        raise ValueError(f"expected at least two bases, got {', '.join(config['bases']) or 'none'}")
    if len(config["bases"]) > MOST_BASES:
        raise ValueError(f"expected at most {MOST_BASES} bases, got {len(config['bases'])}")
    _same_pattern(config["bases"])
    return list(config["bases"].values())


def names(config: Mapping[str, Any]) -> list[str]:
    """The names of the models behind a config, in the order of `bases`."""
    return list(config["bases"]) if config["name"] == MIXTURE else [config["name"]]


def _same_pattern(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError unless all models stand on one pattern; that of a pattern is itself."""
    under = [(name, model.get("pattern", model)) for name, model in models.items()]
    under = [(name, pattern) for name, pattern in under if pattern["name"] == "pattern"]
    for name, pattern in under:
        first, other = under[0]
        if unlike := [k for k in {**other, **pattern} if pattern.get(k) != other.get(k)]:
            raise ValueError(
                f"expected all bases on the same pattern, got that of {name} unlike that of "
                f"{first} in {', '.join(unlike)}"
            )


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
