"""The base models that a model configuration is made of, and their names."""

from collections.abc import Mapping
from typing import Any

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
