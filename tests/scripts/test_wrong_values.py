"""Any wrong value of any key is one message that names the key, and never a traceback.

Each script is walked up to the function of `operations` that it calls, which is not called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from typing import Any

import pytest
from factories.configs import CONFIGS, as_dict, compose_config
from launch import USER_ERRORS, data_source, error_message, model_spec
from omegaconf import DictConfig, OmegaConf

from ltvnet.tuning.search_space import SearchSpace

WRONG_VALUES = ("abc", -1, 1.5, [], {}, None, True, 10**30, float("nan"), ["a", 1], "???")

OPERATIONS = {
    "train": "ltvnet.operations.train_model.train_model",
    "predict": "ltvnet.operations.forecast_batch.forecast_batch",
    "backtest": "ltvnet.operations.compare_models.compare_models",
    "sweep": "ltvnet.operations.tune.tune",
    "prepare": "ltvnet.operations.prepare_cohorts.prepare_cohorts",
    "check": "ltvnet.operations.check_data.check_data",
    "simulate": "ltvnet.operations.simulate_exports.simulate_exports",
}
"""The function that each script calls once all values of its config have their types."""

WORDS = {
    "train": ["data=files", "data.path=table.csv", "title=t"],
    "predict": ["data.path=table.csv", "bundle=b"],
    "backtest": ["data=files", "data.path=table.csv"],
    "sweep": ["data=files", "data.path=table.csv", "title=t", "sweep.study=s"],
    "prepare": ["data.path=table.csv"],
    "check": ["data.path=table.csv"],
    "simulate": [],
}

MODELS = sorted(
    path.stem for path in (CONFIGS / "model").glob("*.yaml") if not path.stem.startswith("_")
)


class ReachedError(Exception):
    """All values had their types: the work would begin."""


def stop(*_: object) -> None:
    raise ReachedError


def keys_of(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Every key with dots, of sections and of values, but for those of Hydra."""
    for name, value in values.items():
        if name.startswith("_"):
            continue
        yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{above}{name}.")


def replace_value(values: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    """A config with another value at a key with dots."""
    changed: dict[str, Any] = deepcopy(dict(values))
    *sections, last = key.split(".")
    place = changed
    for name in sections:
        place = place[name]
    place[last] = value
    return changed


def complaints(
    values: Mapping[str, Any],
    keys: Sequence[str],
    build: Callable[[DictConfig], object],
    *,
    section: str | None = None,
) -> tuple[list[str], int]:
    """What is wrong with the messages of wrong values, and how many values were refused.

    A message names the last part of the key, or the section if one is given.
    """
    wrong = []
    refused = 0
    for key in keys:
        for value in WRONG_VALUES:
            config = OmegaConf.create(replace_value(values, key, value))
            try:
                build(config)
            except ReachedError:
                continue
            except USER_ERRORS as error:
                refused += 1
                message = error_message(error)
                names_key = (section or key.rpartition(".")[2]) in message
                if not names_key or "\n" in message or "()" in message or "argument" in message:
                    wrong.append(f"{key}={value!r}: {message}")
            except Exception as error:
                wrong.append(f"{key}={value!r}: {type(error).__name__}: {error}")
    return wrong, refused


@pytest.mark.parametrize("script", OPERATIONS)
def test_values_of_scripts(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPERATIONS[script], stop)
    values = as_dict(compose_config(script, *WORDS[script]))
    elsewhere = ("data", "model", "space", "hydra", "experiment", "resume")
    own = {key: value for key, value in values.items() if key not in elsewhere}
    main = import_module(script).main
    launch = import_module("launch")
    monkeypatch.setattr(launch, "WORDS", ())

    def build(config: DictConfig) -> None:
        launch.check_common(config)
        main(config)

    with pytest.raises(ReachedError):
        build(OmegaConf.create(values))
    wrong, refused = complaints(values, [*keys_of(own), "data"], build)
    assert wrong == [] and refused >= 10


@pytest.mark.parametrize("data", ["simulated", "files", "transactions"])
def test_values_of_data(data: str) -> None:
    words = ["data.path=table.csv"] if data != "simulated" else []
    values = {"data": as_dict(compose_config("train", f"data={data}", *words).data)}
    if data == "simulated":  # one value of each kind of attribute, as others are alike
        effects = values["data"]["effects"]
        effects["owners"] = {"Apps": {"puzzle": effects["owners"]["Apps"]["puzzle"]}}
        effects["markets"] = {"OS": {"ios": effects["markets"]["OS"]["ios"]}}
    wrong, refused = complaints(values, list(keys_of(values)), data_source)
    assert wrong == [] and refused >= 10


@pytest.mark.parametrize("model", MODELS)
def test_values_of_models(model: str) -> None:
    """Those of the pattern are tried once, where it stands alone."""
    config = compose_config("train", f"model={model}", "title=t")
    values = {"trainer": as_dict(config.trainer), "seed": 0, "model": as_dict(config.model)}
    keys = [key for key in keys_of({"model": values["model"]}) if ".pattern." not in key]
    wrong, refused = complaints(values, keys, model_spec)
    assert wrong == [] and refused >= 10


@pytest.mark.parametrize("model", ["lstm", "power_law"])
def test_values_of_the_pattern_below_a_model(model: str) -> None:
    config = compose_config("train", f"model={model}", "title=t")
    values = {"trainer": as_dict(config.trainer), "seed": 0, "model": as_dict(config.model)}
    keys = [key for key in keys_of(values) if ".pattern." in key]
    wrong, refused = complaints(values, keys, model_spec)
    assert wrong == [] and refused >= 10


@pytest.mark.parametrize("model", ["lstm", "best", "benktander"])
def test_values_of_spaces(model: str) -> None:
    config = as_dict(compose_config("sweep", f"model={model}", "title=t", "sweep.study=s"))
    values = {"space": config["space"]}

    def build(changed: DictConfig) -> None:
        SearchSpace.parse(as_dict(changed)["space"], config)

    wrong, refused = complaints(values, list(keys_of(values)), build, section="space")
    assert wrong == [] and refused >= 10


@pytest.mark.parametrize(
    ("build", "key", "known"),
    [
        (model_spec, "model.foo", "model.KEY with KEY out of levels, credibility"),
        (model_spec, "model.pattern.foo", "expected"),
        (data_source, "data.foo", "data.KEY with KEY out of path, "),
    ],
)
def test_unknown_keys(build: Callable[[DictConfig], object], key: str, known: str) -> None:
    config = as_dict(compose_config("train", "model=pattern", *WORDS["train"]))
    if key == "model.pattern.foo":
        config["model"] = as_dict(compose_config("train", "model=lstm", "title=t").model)
    with pytest.raises(ValueError, match=f"{known}.*got {key}"):
        build(OmegaConf.create(replace_value(config, key, 1)))
