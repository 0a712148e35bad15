"""The YAML reads the same with and without Hydra."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from factories.configs import compose_config
from omegaconf import OmegaConf

import ltvnet
from ltvnet.operations import configuration
from ltvnet.operations.configuration import list_choices, load_config


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("model", "trainer", "validation") for name in list_choices(group)],
)
def test_a_config_is_the_one_that_hydra_composes(group: str, name: str) -> None:
    theirs: Any = OmegaConf.to_container(compose_config("train", f"{group}={name}")[group])
    assert load_config(group, name) == theirs


def test_parts_of_others_are_no_choice() -> None:
    assert "lstm" in list_choices("model") and "_neural" not in list_choices("model")
    with pytest.raises(ValueError, match=r"expected model out of .*lstm.*, got '_neural'"):
        load_config("model", "_neural")


def test_a_model_takes_changes_and_a_seed() -> None:
    model = ltvnet.model("lstm", seed=3, changes={"training": {"epochs": 6}})
    assert model.context.seed == 3
    assert model.spec.arguments["training"]["epochs"] == 6
    assert (
        model.spec.arguments["training"]["rate"] == load_config("model", "lstm")["training"]["rate"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"epoch": 6}}, r"expected changes.training.KEY .*epochs.*, got .*epoch"),
        ({"training": 6}, r"expected changes.training.KEY .*, got changes.training=6"),
        ({"name": {"a": 1}}, r"expected one value of changes.name, got"),
    ],
)
def test_unknown_keys_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ltvnet.model("lstm", changes=changes)


def own_configs(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A folder of configs with a model of the user's own beside the others."""
    shutil.copytree(configuration.configs_folder(), folder / "configs")
    (folder / "configs" / "model" / "own.yaml").write_text(text)
    monkeypatch.setattr(configuration, "configs_folder", lambda: folder / "configs")


def test_interpolations_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_configs(tmp_path, monkeypatch, "defaults: [boosting, _self_]\nrounds: ${leaves}\n")
    assert load_config("model", "own")["rounds"] == load_config("model", "boosting")["leaves"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [boosting]\nrounds: ${nowhere}\n", r"model/own.yaml: .*nowhere"),
        ("defaults: [/trainer: cpu]\n", r"own.yaml: expected names of configs/model in defaults"),
    ],
)
def test_what_cannot_be_composed_is_told(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_configs(tmp_path, monkeypatch, text)
    with pytest.raises(ValueError, match=message):
        load_config("model", "own")


def test_a_model_of_an_earlier_version_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_configs(tmp_path, monkeypatch, "defaults: [boosting]\nseed: 3\n")
    with pytest.raises(ValueError, match=r"config without seed, .*set seed=, trainer= and out="):
        ltvnet.model("own")
