"""Starts a script: composes its config, keeps it with the results, turns errors into messages."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

if TYPE_CHECKING:
    from ltvnet.data.source import DataSource
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.run_context import RunContext

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
CONFIGS = Path(__file__).resolve().parent.parent / "configs"

SOURCE_METHODS = ("history", "default_origin", "truth", "standard_errors")
"""Methods of a `DataSource`."""

MOVED_TARGETS = {
    "ltvnet.table.": "ltvnet.data.cohort_tables.",
    "ltvnet.transactions.": "ltvnet.data.transactions.",
    "ltvnet.simulate.": "ltvnet.data.simulation.",
}
"""Modules that configs of data named before version 0.2, and where their classes stand now."""


def launch(main: Callable[[DictConfig], None], name: str) -> None:
    """Run `main` with the config `name`; a user's error is one message and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1

    def run(config: DictConfig) -> None:
        with exit_on_user_error():
            main(save_config(config))

    with exit_on_user_error():
        sys.argv[1:] = with_experiment(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)()


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a user's error into its message and exit code 2; debug=true shows where it arose."""
    try:
        yield
    except USER_ERRORS as error:
        if "debug=true" in sys.argv:
            raise
        sys.stderr.write(f"error: {error_message(error)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command with the same out goes on where it can\n")
        sys.exit(130)  # as shells have it


def error_message(error: Exception) -> str:
    """Return what the user is told of an error."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        names = sorted(name for name in error.options if not name.startswith("_"))
        return f"expected {group} out of {', '.join(names)}, got {choice!r}"
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    return str(cause).partition("\n    full_key:")[0]


# The words of the command line


def requested_words(group: str) -> str:
    """Return what the command line says of a config group, as it would be typed again."""
    of_group = re.compile(rf"[+~]*{group}[.=]")
    words = [word for word in HydraConfig.get().overrides.task if of_group.match(word)]
    return shlex.join(words)


def words_without(*keys: str) -> list[str]:
    """Return the words of the command line but those of some keys, to be used again."""
    return [word for word in HydraConfig.get().overrides.task if first_key(word) not in keys]


def first_key(word: str) -> str:
    """Return the key of a config that a word of the command line begins with."""
    return re.split(r"[.=]", word.lstrip("+~"))[0]


def with_experiment(words: Sequence[str]) -> list[str]:
    """Put the words of the experiment that a command line names, a file, before its own."""
    named = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    if not named or named[-1] in ("", "null"):
        return list(words)

    path = Path(named[-1].strip("'\""))
    try:
        loaded: Any = OmegaConf.load(path) if path.is_file() else {}
    except YAMLError:
        loaded = {}
    overrides = plain(loaded).get("overrides") if isinstance(loaded, DictConfig) else None
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        raise ValueError(
            f"expected experiment=FILE with a list of overrides, such as the best.yaml of a sweep, "
            f"got {path}" + ("" if path.is_file() else ", which does not exist")
        )
    return [*map(current_word, overrides), *words]


def current_word(word: str) -> str:
    """Return a word of an experiment with the key of a model's run where it stands now.

    >>> current_word("model.machine.threads=2"), current_word("model.seed=3")
    ('trainer.threads=2', 'seed=3')
    """
    return word.replace("model.machine.", "trainer.", 1).replace("model.seed=", "seed=", 1)


# The config of a run, saved and taken up again


def save_config(config: DictConfig) -> DictConfig:
    """Save the config of this run, or of the one to resume, with its results; return it."""
    from ltvnet.storage import mask_passwords

    if config.get("resume"):
        config = resumed_config(config)
    OmegaConf.resolve(config)
    path = config_path(config.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = config.copy()
    if "sweep" in shown:
        shown.sweep.storage = mask_passwords(str(shown.sweep.storage))
    OmegaConf.save(shown, path)
    return config


def config_path(out: str) -> Path:
    """Return where the composed config of a run is kept."""
    return Path(out) / ".hydra" / "config.yaml"


def resumed_config(config: DictConfig) -> DictConfig:
    """Return the config of the run to resume, with `force` and `debug` of this command line."""
    path = config_path(config.resume)
    saved: Any = OmegaConf.load(path) if path.is_file() else {}
    if "model" not in saved:
        raise ValueError(
            f"expected the folder of a run of scripts/train.py, got resume={config.resume}: "
            f"{path} is no config of one; give the `out` of the run to continue"
        )
    current = updated_config(plain(saved))
    resumed = with_later_defaults(current, plain(config))
    given = [first_key(word) for word in HydraConfig.get().overrides.task]
    for key in ("force", "debug"):
        if key in given:
            resumed[key] = config[key]
    return OmegaConf.create({**resumed, "out": config.resume, "resume": config.resume})


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


# Typed parts of a config


def plain(config: Any, *, resolve: bool = False) -> dict[str, Any]:  # noqa: ANN401 as OmegaConf says
    """Return a config as dictionaries and lists, interpolations resolved if so asked."""
    values: Any = OmegaConf.to_container(config, resolve=resolve)
    return values  # type: ignore[no-any-return]


def section(config: DictConfig, key: str) -> dict[str, Any]:
    """Return a section of a config. Raises ValueError where it was taken out or is none."""
    if not isinstance(config.get(key), DictConfig):
        got = config.get(key)
        raise ValueError(f"expected values below {key}, got {key}={got}")  # noqa: TRY004 the user
    return plain(config[key])


def data_source(config: DictConfig) -> "DataSource":
    """Make the source of config.data. Raises ValueError for a class that has moved or is none."""
    from ltvnet.data.source import DataSource

    target = str(config.data.get("_target_", ""))
    for old, new in MOVED_TARGETS.items():
        if target.startswith(old):
            raise ValueError(
                f"expected data._target_={target.replace(old, new)}, got {target}, where the class "
                "stood before version 0.2: change the line in your configs/data"
            )
    source = instantiate(config.data)
    if not isinstance(source, DataSource):
        raise ValueError(  # noqa: TRY004 the user named the wrong class
            f"expected data._target_ with {', '.join(SOURCE_METHODS)}, got {target}: "
            "ltvnet/data/source.py says what each returns"
        )
    return source


def model_specs(config: DictConfig) -> dict[str, "ModelSpec"]:
    """Return the specs of config.models by name, with the changes in config.settings."""
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.operations.configuration import check_keys, list_choices, load_config, merge_configs

    names, known = config.models, list_choices("model")
    if not isinstance(names, ListConfig) or not names or any(name not in known for name in names):
        raise ValueError(
            f"expected models=[NAME,...] with NAME out of {', '.join(known)}, got {names}"
        )
    configs = {name: load_config("model", name) for name in names}
    settings = section(config, "settings")
    check_keys("settings", settings, configs)
    return {
        name: ModelSpec.from_config(merge_configs(configs[name], settings.get(name) or {}))
        for name in names
    }


def model_spec(config: DictConfig) -> "ModelSpec":
    """Return the spec of config.model."""
    from ltvnet.forecasting.model_spec import ModelSpec

    return ModelSpec.from_config(plain(config.model))


def run_context(config: DictConfig, folder: Path | None) -> "RunContext":
    """Return seed and hardware of a config, with a folder of checkpoints (None: none are kept)."""
    from ltvnet.forecasting.run_context import HardwareConfig, RunContext
    from ltvnet.forecasting.typed_config import settings_from

    hardware = settings_from(HardwareConfig, section(config, "trainer"), "trainer")
    return RunContext(seed=config.seed, folder=folder, hardware=hardware)
