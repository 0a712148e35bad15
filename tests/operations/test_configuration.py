"""The YAML reads the same with and without Hydra."""

from typing import Any

import pytest
from factories.configs import compose_config
from omegaconf import OmegaConf

import ltvnet
from ltvnet.operations.configuration import choices, load_config


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group in ("model", "trainer", "validation") for name in choices(group)],
)
def test_a_config_is_the_one_that_hydra_composes(group: str, name: str) -> None:
    theirs: Any = OmegaConf.to_container(compose_config("train", f"{group}={name}")[group])
    assert load_config(group, name) == theirs


def test_parts_of_others_are_no_choice() -> None:
    assert "lstm" in choices("model") and "_neural" not in choices("model")
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
