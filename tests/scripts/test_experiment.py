"""A file of overrides comes before the command line; what is kept of a run has no password."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from test_launch import refused
from test_readme import run

FILE = "expected experiment=FILE with a list of overrides, such as the best.yaml of a sweep, got "
STOPPED = "data.campaigns.count=0"
"""Refused once the config has been kept, before anything is simulated."""


def written(path: Path, *overrides: str) -> Path:
    OmegaConf.save({"overrides": list(overrides)}, path)
    return path


def kept(folder: Path, script: str, *words: str) -> Any:  # noqa: ANN401 as OmegaConf says
    """The config that a run keeps, which is refused after that."""
    assert "in data.campaigns, got" in refused(script, *words, STOPPED, f"out={folder}")
    return OmegaConf.load(folder / ".hydra" / "config.yaml")


def test_an_experiment_sets_what_the_command_line_does_not(tmp_path: Path) -> None:
    """In strings, lists and groups; a word of the command line wins, also over a group."""
    path = written(
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
    words = ["model=chain_ladder", "model.min_cohorts=4", "validation=rolling", "seed=4"]
    words += ["as_of=null"]
    config = kept(tmp_path / "run", "train", f"experiment={path}", *words)
    assert (config.model.half_life, config.model.min_cohorts, config.model.levels) == (90, 4, 0)
    assert (config.title, config.seed, config.as_of) == ("one, of two", 4, None)
    assert config.data.hierarchy == ["Apps"] and config.data.campaigns.count == 0
    assert config.validation.origins == 6 and config.out == str(tmp_path / "run")
    assert config.experiment == str(path)
    other = kept(tmp_path / "other", "train", f"experiment={path}", "model=pattern")
    assert other.model.name == "pattern" and other.model.levels is None
    assert other.model.half_life == 90 and other.validation.origins == 0


def test_keys_of_its_model_can_be_overridden(tmp_path: Path) -> None:
    path = written(tmp_path / "best.yaml", "model=chain_ladder", "model.half_life=90")
    config = kept(tmp_path / "run", "train", f"experiment={path}", "model.half_life=180")
    assert config.model.half_life == 180


def test_its_title_is_that_of_its_model(tmp_path: Path) -> None:
    path = written(tmp_path / "best.yaml", "model=chain_ladder")
    assert kept(tmp_path / "run", "train", f"experiment={path}").title == "chain_ladder"


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (None, ", which does not exist"),
        ("model: {name: pattern}", ""),
        ("overrides: {seed: 3}", ""),
        ("overrides: seed=3", ""),
        ("- seed=3", ""),
        ("", ""),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, end: str) -> None:
    path = tmp_path / "best.yaml"
    if content is not None:
        path.write_text(content)
    assert refused("train", f"experiment={path}", f"out={tmp_path}") == f"{FILE}{path}{end}\n"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.half_lif=3", "Could not override 'model.half_lif'"),
        ("model=nonsense", "expected model out of benktander, best, "),
    ],
)
def test_overrides_of_a_file_are_checked(tmp_path: Path, override: str, said: str) -> None:
    path = written(tmp_path / "best.yaml", "model=pattern", override)
    assert said in refusal("train", f"experiment={path}", f"out={tmp_path / 'run'}")


def refusal(script: str, *words: str) -> str:
    """What a script says in several lines when it refuses its options."""
    done = run(f"python scripts/{script}.py", *words)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_password_is_neither_kept_nor_told(tmp_path: Path) -> None:
    small = ["data.timeline.weeks=30", "data.campaigns.count=3", "model=chain_ladder"]
    address = "postgresql+psycopg://me:secret@127.0.0.1:1/studies"
    storage = f"sweep.storage='{address}'"
    said = refusal("sweep", *small, storage, "validation.every_weeks=4", f"out={tmp_path}")
    hidden = "postgresql+psycopg://me:***@127.0.0.1:1/studies"
    assert f"that can be opened, got {hidden}: " in said and "secret" not in said
    config: Any = OmegaConf.load(tmp_path / ".hydra" / "config.yaml")
    assert config.sweep.storage == hidden
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(b"secret" in path.read_bytes() for path in files)
