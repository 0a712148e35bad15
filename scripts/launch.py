"""Starts a script: composes its config, keeps it with the results, tells errors in a message."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

if TYPE_CHECKING:
    from ltvnet.forecasting.model_spec import ModelSpec
    from ltvnet.forecasting.run_context import RunContext

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException)
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def launch(main: Callable[[DictConfig], None], name: str) -> None:
    """Run `main` with the config `name`; a user's error is one message and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1

    def run(config: DictConfig) -> None:
        with told():
            main(kept(config))

    with told():
        sys.argv[1:] = experiment(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)()


@contextmanager
def told() -> Iterator[None]:
    """Turn a user's error into its message and exit code 2; debug=true shows where it arose."""
    try:
        yield
    except USER_ERRORS as error:
        if "debug=true" in sys.argv:
            raise
        sys.stderr.write(f"error: {message(error)}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command with the same out goes on where it can\n")
        sys.exit(130)  # as shells have it


def message(error: Exception) -> str:
    """What to tell the user of an error."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"expected {group} out of {', '.join(offered(error.options))}, got {choice!r}"
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    return str(cause).partition("\n    full_key:")[0]


def asked(group: str) -> str:
    """What the command line asked of a config group, as it would be typed again."""
    words = HydraConfig.get().overrides.task
    return " ".join(shlex.quote(word) for word in words if re.match(rf"[+~]*{group}[.=]", word))


def repeated(*left_out: str) -> list[str]:
    """The words of the command line, but those of some keys, to be used again."""
    words = HydraConfig.get().overrides.task
    return [word for word in words if re.split(r"[.=]", word.lstrip("+~"))[0] not in left_out]


def offered(names: Iterable[str]) -> list[str]:
    """The configs of a group that stand alone: names that begin with _ are parts of others."""
    return sorted(name for name in names if not name.startswith("_"))


def kept(config: DictConfig) -> DictConfig:
    """The config of this run, or of the one to resume, saved with its results."""
    from ltvnet.storage import mask_passwords

    if config.get("resume"):
        config = resumed(config)
    OmegaConf.resolve(config)
    saved(config.out).parent.mkdir(parents=True, exist_ok=True)
    told = config.copy()
    if "sweep" in told:
        told.sweep.storage = mask_passwords(str(told.sweep.storage))
    OmegaConf.save(told, saved(config.out))
    return config


def experiment(words: Sequence[str]) -> list[str]:
    """The words of a command line; those of the experiment that it names, a file, come first."""
    named = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    if not named or named[-1] in ("", "null"):
        return list(words)
    path = Path(named[-1].strip("'\""))
    try:
        found: Any = OmegaConf.load(path) if path.is_file() else {}
    except YAMLError:
        found = {}
    words_of = plain(found).get("overrides") if isinstance(found, DictConfig) else None
    if not isinstance(words_of, list) or not all(isinstance(word, str) for word in words_of):
        raise ValueError(
            f"expected experiment=FILE with a list of overrides, such as the best.yaml of a sweep, "
            f"got {path}" + ("" if path.is_file() else ", which does not exist")
        )
    return [*words_of, *words]


def resumed(config: DictConfig) -> DictConfig:
    """The config of the run to resume, but for `force` and `debug` of this command line."""
    path = saved(config.resume)
    found: Any = OmegaConf.load(path) if path.is_file() else {}
    if "model" not in found:
        raise ValueError(
            f"expected the folder of a run of scripts/train.py, got resume={config.resume}: "
            f"{path} is no config of one; give the `out` of the run to continue"
        )
    given = [word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task]
    now: dict[str, Any] = {key: config[key] for key in ("force", "debug") if key in given}
    now |= {"out": config.resume, "resume": config.resume}
    return OmegaConf.create(filled(plain(found), plain(config)) | now)


def filled(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A config of an older version, and defaults of keys that came later to models of its kind.

    Data stay as they were: their keys are also names, such as those of a simulated campaign.
    """
    if "_target_" in old or any(old.get(key) != new.get(key) for key in ("name", "kind")):
        return dict(old)
    both = [key for key in old if isinstance(old[key], dict) and isinstance(new.get(key), dict)]
    return dict(new) | dict(old) | {key: filled(old[key], new[key]) for key in both}


def model_specs(config: DictConfig) -> dict[str, "ModelSpec"]:
    """The specs of config.models by name, with the changes to them in config.settings."""
    from ltvnet.forecasting.model_spec import ModelSpec

    configs = model_configs(config)
    return {name: ModelSpec.from_config(values) for name, values in configs.items()}


def model_configs(config: DictConfig) -> dict[str, dict[str, Any]]:
    """The configs of config.models by name, with the changes to them in config.settings."""
    from ltvnet.operations.configuration import check_keys, choices, load_config, merge

    names, known = config.models, choices("model")
    if not isinstance(names, ListConfig) or not names or any(name not in known for name in names):
        raise ValueError(
            f"expected models=[NAME,...] with NAME out of {', '.join(known)}, got {names}"
        )
    models = {name: load_config("model", name) for name in names}
    settings: Any = plain(config)["settings"]
    check_keys("settings", settings, models)
    return {name: merge(models[name], settings.get(name) or {}) for name in names}


def model_spec(config: DictConfig) -> "ModelSpec":
    """The spec of config.model."""
    from ltvnet.forecasting.model_spec import ModelSpec

    return ModelSpec.from_config(plain(config.model))


def run_context(config: DictConfig, folder: Path | None) -> "RunContext":
    """Seed, hardware and folder of checkpoints of a config (None: no checkpoints are written)."""
    from ltvnet.forecasting.run_context import HardwareConfig, RunContext

    hardware = HardwareConfig(**plain(config)["trainer"])
    return RunContext(seed=config.seed, folder=folder, hardware=hardware)


def plain(config: Any, *, resolve: bool = False) -> dict[str, Any]:  # noqa: ANN401 as OmegaConf says
    """A config as dictionaries and lists."""
    values: Any = OmegaConf.to_container(config, resolve=resolve)
    return values  # type: ignore[no-any-return]


def saved(out: str) -> Path:
    """The composed config of a run."""
    return Path(out) / ".hydra" / "config.yaml"
