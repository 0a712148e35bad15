"""Starts a script: composes its config, keeps it with the results, turns errors into messages.

Exit codes: 0 done, 2 the user's error, 3 a model that was worse than the pattern, 4 data in which
check.py found what is refused, 130 stopped.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import hydra
from command_line.help_page import asks_for_help, help_page, overview
from command_line.next_lines import command, resume_command
from command_line.saved_config import (
    MOVED_TARGETS,
    config_path,
    resumed_config,
    run_folder,
    visible_names,
)
from command_line.words import CommandLine, first_key, read_words, resolve_config
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ltvnet.storage import configs_folder, mask_passwords

if TYPE_CHECKING:
    from ltvnet.data.source import DataSource
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.run_context import RunContext

log = logging.getLogger(__name__)

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
CONFIGS = configs_folder()
WORDS = tuple(sys.argv[1:])
"""The words of the command line as typed: what Hydra reads is made of them."""

USER_ERROR = 2
STOPPED = 130
"""Exit codes, as shells have them."""

SOURCE_METHODS = ("history", "default_origin", "truth", "standard_errors")
"""Methods of a `DataSource`."""


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """Values that every script has: its seed, where it writes, whether errors show their place."""

    seed: int
    out: str
    debug: bool


COMMON_KEYS = tuple(field.name for field in fields(CommonSettings))


@runtime_checkable
class HasExitCode(Protocol):
    """An error that schedulers can tell from others."""

    exit_code: int


def launch(main: Callable[[DictConfig], None], name: str) -> None:
    """Run `main` with the config `name`; a user's error is one message and exit code 2."""
    if asks_for_help(WORDS):
        sys.stdout.write(help_page(CONFIGS, name, WORDS))
        return
    signal.signal(signal.SIGTERM, interrupt)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1

    def run(composed: DictConfig) -> None:
        with exit_on_error():
            config = final_config(composed, name)
            check_common(config)
        with exit_on_error(lambda: way_on(name, config)), run_folder(config, name):
            main(config)

    with exit_on_error():
        sys.argv[1:] = command_line(name).overrides
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)()


def interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    """End this process as Ctrl-C does, where a scheduler asks it to end."""
    raise KeyboardInterrupt


@cache
def command_line(name: str) -> CommandLine:
    """Read the command line of this process, for the script `name`."""
    return read_words(WORDS, default_data(name))


def default_data(name: str) -> dict[str, Any]:
    """Return the config of data that a script has without any word, itself without defaults."""
    script: Any = OmegaConf.load(CONFIGS / f"{name}.yaml")
    choices = [str(item.data) for item in script.defaults if "data" in item]
    return plain(OmegaConf.load(CONFIGS / "data" / f"{choices[0]}.yaml")) if choices else {}


def final_config(composed: DictConfig, name: str) -> DictConfig:
    """Return the config of this run, or of the one to resume, all references resolved."""
    words = command_line(name)
    for note in words.notes:
        log.info("%s", note)
    for key, value in words.values.items():
        OmegaConf.update(composed, key, value, merge=False)
    if composed.get("resume"):
        return resumed_config(composed, [first_key(word) for word in words.given])
    return resolve_config(composed)


@contextmanager
def exit_on_error(way_on: Callable[[], str] = str) -> Iterator[None]:
    """Turn a user's error into its message and an exit code; debug=true shows where it arose.

    `way_on` says what to do after Ctrl-C.
    """
    try:
        yield
    except USER_ERRORS as error:
        if "debug=true" in WORDS:
            raise
        sys.stderr.write(f"error: {error_message(error)}\n")
        sys.exit(error.exit_code if isinstance(error, HasExitCode) else USER_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped{way_on()}\n")
        sys.exit(STOPPED)


def way_on(name: str, config: DictConfig) -> str:
    """Say what goes on where a run was stopped."""
    out = Path(config.out)
    if not visible_names(out):
        return "; nothing was written"
    if name == "train" and config_path(config.out).exists():
        return f"; this goes on: {resume_command(out)}"
    if name in ("backtest", "sweep") or config.get("part") is not None:
        words = command_line(name).words_without("out")
        return f"; this goes on: {command(name, *words, f'out={out}')}"
    return "; no file is half written, and the same command begins anew"


def error_message(error: Exception) -> str:
    """Return what the user is told of an error, without passwords."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        names = sorted(name for name in error.options if not name.startswith("_"))
        return f"expected {group} out of {', '.join(names)}, got {choice!r}"
    cause = error.__cause__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        return unknown_key_message(cause)
    if not isinstance(error, InstantiationException) or cause is None:
        cause = error
    text = str(cause).partition("\n    full_key:")[0].partition("\n\nConfig search path")[0]
    return mask_passwords(text)


def unknown_key_message(error: OmegaConfBaseException) -> str:
    """Say which keys stand where an unknown one was given."""
    key = str(error.full_key)
    parent = error.parent_node
    place = key.rpartition(".")[0]
    if not isinstance(parent, DictConfig):
        return f"Could not override {key!r}: expected one value of {place}"
    known = ", ".join(str(name) for name in parent if name != "hydra")
    return f"Could not override {key!r}: expected {place + '.' if place else ''}KEY out of {known}"


# Typed parts of a config


def plain(config: Any, *, resolve: bool = False) -> dict[str, Any]:  # noqa: ANN401 as OmegaConf says
    """Return a config as dictionaries and lists, interpolations resolved if so asked."""
    values: Any = OmegaConf.to_container(config, resolve=resolve)
    return values  # type: ignore[no-any-return]


def section(config: DictConfig, key: str, *, resolve: bool = False) -> dict[str, Any]:
    """Return a section of a config. Raises ValueError where it was taken out or is none."""
    if not isinstance(config.get(key), DictConfig):
        got = config.get(key)
        raise ValueError(f"expected values below {key}, got {key}={got}")  # noqa: TRY004 the user
    return plain(config[key], resolve=resolve)


def check_common(config: DictConfig) -> None:
    """Raise ValueError for wrong values of what every script has."""
    from ltvnet.forecasting.run_context import check_seed
    from ltvnet.forecasting.typed_config import settings_from

    settings_from(CommonSettings, {key: config.get(key) for key in COMMON_KEYS}, "")
    check_seed(config.seed)


def data_source(config: DictConfig) -> "DataSource":
    """Make the source of config.data. Raises ValueError for a class that has moved or is none."""
    from ltvnet.data.source import DataSource

    values = section(config, "data", resolve=True)
    target = str(values.get("_target_", ""))
    for old, new in MOVED_TARGETS.items():
        if target.startswith(old):
            raise ValueError(
                f"expected data._target_={target.replace(old, new)}, got {target}, where the class "
                "stood before version 0.2: change the line in your configs/data"
            )
    check_data(values, target)
    source = instantiate(config.data)
    if not isinstance(source, DataSource):
        raise ValueError(  # noqa: TRY004 the user named the wrong class
            f"expected data._target_ with {', '.join(SOURCE_METHODS)}, got {target}: "
            "ltvnet/data/source.py says what each returns"
        )
    return source


def check_data(values: Mapping[str, Any], target: str) -> None:
    """Raise ValueError for values that are not as the class of data annotates them."""
    from ltvnet.forecasting.typed_config import check_arguments

    module, _, name = target.rpartition(".")
    try:
        made_by = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"expected data._target_=MODULE.CLASS, got {target!r}") from error
    if is_dataclass(made_by) or isfunction(made_by):
        check_arguments(made_by, values, "data")


def model_specs(config: DictConfig) -> dict[str, "ModelSpec"]:
    """Return the specs of config.models by name, with the changes in config.settings."""
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.registry import check_spec
    from ltvnet.operations.configuration import check_keys, list_choices, load_config, merge_configs

    names, known = config.models, list_choices("model")
    if not isinstance(names, ListConfig) or not names or any(name not in known for name in names):
        raise ValueError(
            f"expected models=[NAME,...] with NAME out of {', '.join(known)}, got {names}"
        )
    configs = {name: load_config("model", name) for name in names}
    settings = section(config, "settings")
    check_keys("settings", settings, configs)
    context = run_context(config, None)
    specs = {}
    for name in names:
        changed = merge_configs(configs[name], settings.get(name) or {})
        specs[name] = ModelSpec.from_config(changed)
        check_spec(specs[name], context, f"settings.{name}")
    return specs


def model_spec(config: DictConfig) -> "ModelSpec":
    """Return the spec of config.model. Raises ValueError for what its constructor refuses."""
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.registry import check_spec

    spec = ModelSpec.from_config(section(config, "model"))
    check_spec(spec, run_context(config, None), "model")
    return spec


def run_context(config: DictConfig, folder: Path | None) -> "RunContext":
    """Return seed and hardware of a config, with a folder of checkpoints (None: none are kept)."""
    from ltvnet.forecasting.run_context import HardwareConfig, RunContext
    from ltvnet.forecasting.typed_config import settings_from

    hardware = settings_from(HardwareConfig, section(config, "trainer"), "trainer")
    return RunContext(seed=config.seed, folder=folder, hardware=hardware)


if __name__ == "__main__":
    sys.stdout.write(overview(CONFIGS))
