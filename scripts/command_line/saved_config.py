"""The folder of a run: one run at a time, its config kept beside its results, and resumed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from command_line.words import escape_interpolations, resolve_config
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from ltvnet.storage import atomic_write, lock_folder, mask_passwords

MOVED_TARGETS = {
    "ltvnet.table.": "ltvnet.data.cohort_tables.",
    "ltvnet.transactions.": "ltvnet.data.transactions.",
    "ltvnet.simulate.": "ltvnet.data.simulation.",
}
"""Modules that configs of data named before version 0.2, and where their classes stand now."""

SHARED_SCRIPTS = ("sweep",)
"""Scripts of which several runs may work in one folder: their study tells them apart."""


@contextmanager
def run_folder(config: DictConfig, script: str) -> Iterator[None]:
    """Keep a run's folder for it alone, with its config; a run that writes nothing leaves none.

    Raises ValueError for a folder in which another run is writing.
    """
    out = Path(config.out)
    with ExitStack() as stack:
        stack.enter_context(remove_made_folders(out))
        if script not in SHARED_SCRIPTS:
            stack.enter_context(lock_folder(out, f"{script}.py"))
        if keeps_config(config):
            stack.enter_context(kept_config(config))
        yield


def keeps_config(config: DictConfig) -> bool:
    """Return whether the config is kept with the results.

    It is not where these go into the current folder, which is not that of a run; but a run that
    can be resumed needs it.
    """
    return "resume" in config or Path(config.out).resolve() != Path.cwd()


@contextmanager
def remove_made_folders(folder: Path) -> Iterator[None]:
    """Remove the folders that a run leaves empty, of those that were not there before."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


@contextmanager
def kept_config(config: DictConfig) -> Iterator[None]:
    """Keep the config in the folder of its run, unless the run leaves nothing else there."""
    path = config_path(config.out)
    is_new = not path.exists()
    names_before = visible_names(Path(config.out))
    shown = config.copy()
    if "sweep" in shown:
        shown.sweep.storage = mask_passwords(str(shown.sweep.storage))
    with atomic_write(path) as part:
        OmegaConf.save(shown, part)

    try:
        yield
    finally:
        if is_new and visible_names(Path(config.out)) <= names_before:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def visible_names(folder: Path) -> set[str]:
    """Return the names in a folder, but for hidden ones: those of what a run writes."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def config_path(out: str) -> Path:
    """Return where the composed config of a run is kept."""
    return Path(out) / ".hydra" / "config.yaml"


def resumed_config(config: DictConfig, given_keys: Sequence[str]) -> DictConfig:
    """Return the config of the run to resume, with `force` and `debug` where these were given."""
    path = config_path(config.resume)
    try:
        saved: Any = OmegaConf.load(path) if path.is_file() else {}
    except YAMLError as error:
        raise ValueError(f"{path} is no YAML, so that no run can be resumed: {error}") from error
    if "model" not in saved or "data" not in saved:
        raise ValueError(
            f"expected the folder of a run of scripts/train.py, got resume={config.resume}: "
            f"{path} is no config of one; give the `out` of the run to continue"
        )
    current = updated_config(as_values(saved))
    resumed = with_later_defaults(current, as_values(config))
    for key in ("force", "debug"):
        if key in given_keys:
            resumed[key] = config[key]
    folder = escape_interpolations(config.resume, references=True)
    return resolve_config(OmegaConf.create({**resumed, "out": folder, "resume": folder}))


def updated_config(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of an earlier version with its keys and classes where they stand now."""
    model = without_context(saved["model"])
    if "bases" in model:
        model["bases"] = {name: without_context(base) for name, base in model["bases"].items()}
    return {**saved, "model": model, "data": with_current_targets(saved["data"])}


def without_context(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's config without what says where it runs."""
    from ltvnet.forecasting.model_spec import CONTEXT_KEYS

    return {key: value for key, value in model.items() if key not in CONTEXT_KEYS}


def with_current_targets(data: Any) -> Any:  # noqa: ANN401 any value of a config
    """Return a config of data whose classes, at any depth, are named where they stand now."""
    if not isinstance(data, Mapping):
        return data
    current = {key: with_current_targets(value) for key, value in data.items()}
    for old, new in MOVED_TARGETS.items():
        if str(current.get("_target_", "")).startswith(old):
            current["_target_"] = current["_target_"].replace(old, new)
    return current


def with_later_defaults(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return an older config with the defaults of keys that came later to models of its kind.

    Data stay as they were: their keys are also names, such as those of a simulated campaign.
    """
    if "_target_" in old or any(old.get(key) != new.get(key) for key in ("name", "kind")):
        return dict(old)
    filled = {**new, **old}
    for key, value in old.items():
        if isinstance(value, dict) and isinstance(new.get(key), dict):
            filled[key] = with_later_defaults(value, new[key])
    return filled


def as_values(config: DictConfig) -> dict[str, Any]:
    """Return a config as dictionaries and lists."""
    values: Any = OmegaConf.to_container(config)
    return values  # type: ignore[no-any-return]
