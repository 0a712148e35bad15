"""The YAML of `configs`, read with or without Hydra, and models made of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import ValidationConfig
from ltvnet.forecasting.model_spec import Config, ModelSpec
from ltvnet.forecasting.run_context import HardwareConfig, RunContext
from ltvnet.storage import configs_folder


def list_choices(group: str) -> list[str]:
    """List the configs of a group that stand alone: names that begin with _ are parts of others."""
    names = (path.stem for path in (configs_folder() / group).glob("*.yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def load_config(group: str, name: str) -> dict[str, Any]:
    """Compose a config such as `load_config("model", "lstm")` of its defaults lists, without Hydra.

    Understands what the YAML of a group uses: names of the same group, `name@key.of.the.config`
    to place one deeper, and `_self_`. Raises ValueError for a name that is not there.
    """
    if name not in list_choices(group):
        known = ", ".join(list_choices(group))
        raise ValueError(f"expected {group} out of {known}, got {name!r}")
    composed = _compose(group, name)
    try:
        values: Any = OmegaConf.to_container(OmegaConf.create(composed), resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"configs/{group}/{name}.yaml: {reason}") from error
    return values  # type: ignore[no-any-return]


def _compose(group: str, name: str) -> dict[str, Any]:
    """Merge a file with the files of its defaults list, in the order of the list."""
    path = configs_folder() / group / f"{name}.yaml"
    file_values: Any = OmegaConf.to_container(OmegaConf.load(path))
    defaults: Sequence[object] = file_values.pop("defaults", [])
    if "_self_" not in defaults:
        defaults = [*defaults, "_self_"]  # as Hydra has it: a file's own values come last

    composed: dict[str, Any] = {}
    for default in defaults:
        if not isinstance(default, str) or default.startswith(("/", "override ")):
            raise ValueError(
                f"{path}: expected names of configs/{group} in defaults, got {default!r}"
            )
        part, _, key = default.partition("@")
        values = file_values if default == "_self_" else _compose(group, part)
        composed = merge_configs(composed, _nest(values, key))
    return composed


def _nest(values: Config, key: str) -> Config:
    """Place values at a key with dots, "" for the top."""
    if not key:
        return values
    first, _, further = key.partition(".")
    return {first: _nest(values, further)}


def merge_configs(base: Config, changes: Config) -> dict[str, Any]:
    """Return a config with changes at any depth; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge_configs(merged[key], value) if both else value
    return merged


def model(
    name: str,
    *,
    validation: str = "rolling",
    trainer: str = "cpu",
    seed: int = 0,
    changes: Config | None = None,
    ledger: str | Path | None = None,
) -> Corrected:
    """Make a model of `configs/model` that learns from its own past, as `scripts/train.py` does.

    `validation` and `trainer` name configs of these groups; `changes` are other values of the
    model's config, such as {"training": {"epochs": 6}}; `ledger` a folder that keeps past
    forecasts (None: they are not kept). Then `model.fit(history, day)` and
    `model.predict(history.as_of(day))`. Raises ValueError for an unknown name or key.
    """
    config = load_config("model", name)
    check_keys("changes", changes or {}, config)
    context = RunContext(
        seed=seed, folder=None, hardware=HardwareConfig(**load_config("trainer", trainer))
    )
    return Corrected(
        ModelSpec.from_config(merge_configs(config, changes or {})),
        context,
        ValidationConfig.from_config(load_config("validation", validation)),
        None if ledger is None else Path(ledger),
    )


def check_keys(path: str, changes: object, known: object) -> None:
    """Raise ValueError for changes, at any depth, to keys that a config does not have."""
    if not isinstance(known, Mapping):
        if isinstance(changes, Mapping):
            raise ValueError(  # noqa: TRY004 the user wrote it
                f"expected one value of {path}, got {changes}"
            )
        return
    keys = f"expected {path}.KEY with KEY out of {', '.join(known)}"
    if not isinstance(changes, Mapping):
        raise ValueError(f"{keys}, got {path}={changes}")  # noqa: TRY004 the user wrote it
    for key, value in changes.items():
        if key not in known:
            raise ValueError(f"{keys}, got {path}.{key}")
        check_keys(f"{path}.{key}", value, known[key])
