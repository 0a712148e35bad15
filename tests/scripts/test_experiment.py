"""A file of overrides comes before the command line; what is kept of a run has no password."""

from pathlib import Path
from typing import Any

import pytest
from command_line.saved_config import run_folder
from factories.commands import one_line_refusal_of, run_command
from factories.configs import compose_config
from omegaconf import OmegaConf

FILE = (
    "expected experiment=FILE with a list of words below the key `overrides:`, such as the "
    "best.yaml of a sweep, got "
)


def write_experiment(path: Path, *overrides: str) -> Path:
    OmegaConf.save({"overrides": list(overrides)}, path)
    return path


def composed_config(folder: Path, script: str, *words: str) -> Any:  # noqa: ANN401 as OmegaConf says
    """The config that a command line composes, as the script says it without doing anything."""
    options = (*words, f"out={folder}", "--cfg", "job", "--resolve")
    process = run_command(f"python scripts/{script}.py", *options)
    assert process.returncode == 0, process.stderr
    return OmegaConf.create(process.stdout)


def test_an_experiment_sets_what_the_command_line_does_not(tmp_path: Path) -> None:
    """In strings, lists and groups; a word of the command line wins, also over a group."""
    path = write_experiment(
        tmp_path / "best.yaml",
        "model=chain_ladder",
        "validation=none",
        "model.half_life=90",
        "model.min_cohorts=3",
        "data.hierarchy=[Apps]",
        "title='one, of two'",
        "seed=3",
        "as_of=2023-06-30",
        "out=elsewhere",
    )
    overrides = ["model=chain_ladder", "model.min_cohorts=4", "validation=rolling", "seed=4"]
    overrides += ["as_of=null"]
    config = composed_config(tmp_path / "run", "train", f"experiment={path}", *overrides)
    assert (config.model.half_life, config.model.min_cohorts, config.model.levels) == (90, 4, 0)
    assert (config.title, config.seed, config.as_of) == ("one, of two", 4, None)
    assert config.data.hierarchy == ["Apps"]
    assert config.validation.origins == 6 and config.out == str(tmp_path / "run")
    assert config.experiment == str(path)
    other_config = composed_config(
        tmp_path / "other", "train", f"experiment={path}", "model=pattern"
    )
    assert other_config.model.name == "pattern" and other_config.model.levels is None
    assert other_config.model.half_life == 90 and other_config.validation.origins == 0


def test_keys_of_its_model_can_be_overridden(tmp_path: Path) -> None:
    path = write_experiment(tmp_path / "best.yaml", "model=chain_ladder", "model.half_life=90")
    config = composed_config(tmp_path / "run", "train", f"experiment={path}", "model.half_life=180")
    assert config.model.half_life == 180


def test_its_title_is_that_of_its_model(tmp_path: Path) -> None:
    path = write_experiment(tmp_path / "best.yaml", "model=chain_ladder")
    assert composed_config(tmp_path / "run", "train", f"experiment={path}").title == "chain_ladder"


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (None, ", which does not exist"),
        ("model: {name: pattern}", ", which has the keys model"),
        ("overrides: {seed: 3}", ", in which overrides: {'seed': 3} is no list of words"),
        ("overrides: seed=3", ", in which overrides: seed=3 is no list of words"),
        ("overrides: [3]", ", in which overrides: [3] is no list of words"),
        ("- seed=3", ", which is a list without the key"),
        ("", ", which has none"),
        ("a: [", ", which is no YAML"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, end: str) -> None:
    path = tmp_path / "best.yaml"
    if content is not None:
        path.write_text(content)
    assert (
        one_line_refusal_of("train", f"experiment={path}", f"out={tmp_path}")
        == f"{FILE}{path}{end}\n"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.half_lif=3", "Could not override 'model.half_lif'"),
        ("model=nonsense", "expected model out of benktander, best, "),
    ],
)
def test_overrides_of_a_file_are_checked(tmp_path: Path, override: str, said: str) -> None:
    path = write_experiment(tmp_path / "best.yaml", "model=pattern", override)
    assert said in refusal("train", f"experiment={path}", f"out={tmp_path / 'run'}")


def refusal(script: str, *options: str) -> str:
    """The lines that a script says when it refuses its options."""
    process = run_command(f"python scripts/{script}.py", *options)
    assert process.returncode == 2 and process.stderr.startswith("error: "), process.stderr
    assert "Traceback" not in process.stderr
    return process.stderr


def test_a_password_is_neither_kept_nor_told(tmp_path: Path) -> None:
    small = ["data.timeline.weeks=30", "data.campaigns.count=3", "model=chain_ladder"]
    address = "postgresql+psycopg://me:secret@127.0.0.1:1/studies"
    storage = f"sweep.storage={address}"
    message = refusal("sweep", *small, storage, "validation.every_weeks=4", f"out={tmp_path}")
    hidden = "postgresql+psycopg://me:***@127.0.0.1:1/studies"
    assert f"that can be opened, got {hidden}: " in message and "secret" not in message

    words = (storage, f"out={tmp_path / 'run'}", "title=t", "sweep.study=s")
    with run_folder(compose_config("sweep", *words), "sweep"):
        config: Any = OmegaConf.load(tmp_path / "run" / ".hydra" / "config.yaml")
        assert config.sweep.storage == hidden


@pytest.mark.parametrize("key", ["sweep.storage", "sweep.storages", "sweep.timeout", "seed"])
def test_a_password_that_is_not_escaped_is_not_told_either(tmp_path: Path, key: str) -> None:
    """The driver then takes its end for the host, and names that; nor where it is of no use."""
    words = ["data.timeline.weeks=30", "data.campaigns.count=3", "model=chain_ladder"]
    address = "postgresql+psycopg://me:s@secret@127.0.0.1:1/studies"
    message = refusal("sweep", *words, f"{key}={address}", f"out={tmp_path}")
    assert "secret" not in message and not list(tmp_path.iterdir())


def test_an_experiment_of_an_earlier_version_says_where_it_runs(tmp_path: Path) -> None:
    """Before 0.2 a model had a seed and a machine."""
    words = ("model=chain_ladder", "validation=none", "model.seed=3", "model.machine.threads=2")
    path = write_experiment(tmp_path / "best.yaml", *words)
    kept = composed_config(tmp_path / "run", "train", f"experiment={path}")
    assert (kept.seed, kept.trainer.threads) == (3, 2)
