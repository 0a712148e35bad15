"""Commands to run next can be pasted, and are about the data of the run."""

import shlex
from pathlib import Path

import pytest
from command_line.next_lines import (
    data_words,
    predict_command,
    resume_command,
    train_command,
)
from command_line.words import read_words
from factories.configs import CONFIGS, as_dict, compose_config


def data_of(*words: str) -> dict[str, object]:
    return as_dict(compose_config("train", *read_words(words, {}).overrides).data)


@pytest.fixture(autouse=True)
def train_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/train.py"])


@pytest.mark.parametrize(
    "words",
    [
        ["data=files", "data.path=Files (2)"],
        ["data=files", "data.path=[MKT] it's 한글.csv", "data.columns={Date: 날짜}"],
        ["data=files", "data.path=a", "data.revenue=net", "data.attributes=[Country,'a b']"],
        ["data=transactions", "data.path=orders/*.csv", "data.by=[국가]", "data.where=a = 'b'"],
        ["data=transactions", "data.path=o.csv", "data.engine.threads=1"],
    ],
)
def test_the_words_of_data_choose_them_again(words: list[str]) -> None:
    data = data_of(*words)
    again = data_words(data)
    assert again[0].startswith("data=") and data_of(*again) == data
    assert len(again) <= len(words) + 1


def test_the_bundle_is_applied_to_the_data_of_the_run() -> None:
    out = Path("runs/it's (1)")
    line = predict_command(out, data_of("data=files", "data.path=Files [a]"))
    assert line is not None
    assert shlex.split(line) == [
        "python",
        "scripts/predict.py",
        "bundle=runs/it's (1)/bundle",
        "data=files",
        "data.path=Files [a]",
        "out=.",
    ]
    assert compose_config("predict", *read_words(shlex.split(line)[2:], {"path": ""}).overrides)


def test_simulated_data_have_no_cohorts_to_forecast() -> None:
    assert predict_command(Path("runs/a"), data_of("data=simulated_drift")) is None


def test_commands_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train_command(Path("a b/c.csv")) == (
        "python scripts/train.py data=files 'data.path=a b/c.csv'"
    )
    assert resume_command(Path("runs/$x")) == "python scripts/train.py 'resume=runs/$x'"
    monkeypatch.setattr("sys.argv", ["ltvnet train"])
    assert resume_command(Path("runs/x")) == "ltvnet train resume=runs/x"


def test_choices_of_data_are_all_known() -> None:
    """Each choice is found again as itself, so the line is as short as it can be."""
    for name in ("files", "transactions"):
        assert (CONFIGS / "data" / f"{name}.yaml").is_file()
        assert data_words(data_of(f"data={name}", "data.path=x")) == [f"data={name}", "data.path=x"]
