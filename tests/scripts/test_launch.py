"""A wrong command line is told in one line with exit code 2; a run is resumed as it was."""

from pathlib import Path

import pytest
from factories.commands import run_command
from factories.configs import CONFIGS, compose_config
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

SMALL = ["data.timeline.weeks=30", "data.campaigns.count=3"]
MODELS = "expected models=[NAME,...] with NAME out of benktander, best, boosting, "


def refused(script: str, *options: str) -> str:
    """The one line with which a script refuses its options."""
    process = run_command(f"python scripts/{script}.py", *options)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1
    return process.stderr.removeprefix("error: ")


@pytest.mark.parametrize(
    ("option", "begin", "end"),
    [
        ("models=[]", MODELS, "got []"),
        ("models=[nonsense]", MODELS, "got ['nonsense']"),
        ("models=[_neural]", MODELS, "got ['_neural']"),
        ("models=lstm", MODELS, "got lstm"),
        (
            "+settings.lsmt.training.epochs=6",
            "expected settings.KEY with KEY out of pattern, lstm, ",
            "got settings.lsmt",
        ),
        (
            "+settings.pattern.nonsense=6",
            "expected settings.pattern.KEY with KEY out of name, levels, credibility, ",
            "got settings.pattern.nonsense",
        ),
        (
            "+settings.lstm.training.epoch=6",
            "expected settings.lstm.training.KEY with KEY out of epochs, ",
            "got settings.lstm.training.epoch",
        ),
        (
            "+settings.lstm.training=6",
            "expected settings.lstm.training.KEY with KEY out of epochs, ",
            "got settings.lstm.training=6",
        ),
        (
            "+settings.pattern.levels.a=6",
            "expected one value of settings.pattern.levels, ",
            "got {'a': 6}",
        ),
        ("ages=null", "expected ages=[] or whole days such as [7,30], ", "got None"),
        ("window=52", "expected window=expanding or sliding:52w, ", "got 52"),
    ],
)
def test_options_of_a_backtest_are_checked(
    tmp_path: Path, option: str, begin: str, end: str
) -> None:
    message = refused("backtest", option, f"out={tmp_path}")
    assert message.startswith(begin) and message.endswith(f"{end}\n")


@pytest.mark.parametrize(
    ("script", "group", "some"),
    [
        ("train", "model", "benktander, best, boosting, "),
        ("train", "validation", "none, rolling"),
        ("backtest", "trainer", "auto, cpu, ddp, gpu"),
        ("simulate", "data", "cdnow, files, "),
    ],
)
def test_choices_are_named(script: str, group: str, some: str) -> None:
    message = refused(script, f"{group}=nonsense")
    assert message.startswith(f"expected {group} out of {some}")
    assert message.endswith(", got 'nonsense'\n")


def test_models_take_what_the_command_line_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CONFIGS.parent / "scripts"))
    from launch import model_specs, run_context

    overrides = ["models=[pattern,lstm]", "out='runs/a=1,b'", "seed=7", "trainer=gpu"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("backtest", [*overrides, "+settings.lstm.training.epochs=6"])
    specs, context = model_specs(config), run_context(config, None)
    lstm = compose_config("train", "model=lstm").model
    assert specs["pattern"].as_config() == lstm.pattern
    assert (context.seed, context.hardware.accelerator) == (7, "gpu")
    assert specs["lstm"].arguments["training"] == {**lstm.training, "epochs": 6}


def write_config(folder: Path, config: object) -> Path:
    path = folder / ".hydra" / "config.yaml"
    path.parent.mkdir()
    OmegaConf.save(config, path)
    return path


@pytest.mark.parametrize("content", [None, {"models": ["pattern"]}])
def test_only_runs_of_train_are_resumed(tmp_path: Path, content: object) -> None:
    if content:
        write_config(tmp_path, content)
    message = refused("train", f"resume={tmp_path}", f"out={tmp_path / 'other'}")
    assert message == (
        f"expected the folder of a run of scripts/train.py, got resume={tmp_path}: "
        f"{tmp_path}/.hydra/config.yaml is no config of one; "
        "give the `out` of the run to continue\n"
    )


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    """Before 0.2 models had seed, machine and folder, and classes of data stood elsewhere."""
    words = [*SMALL, "model=pattern", "validation=none", "title=old", "as_of=2022-07-31"]
    old = compose_config("train", *words)
    OmegaConf.resolve(old)
    current = OmegaConf.to_container(old)
    later = {"machine": {"threads": 1}, "seed": 0, "folder": "x"}
    saved = OmegaConf.create(current)
    saved.model = {**saved.model, **later}
    saved.data._target_ = "ltvnet.simulate.Simulated"
    saved.data.timeline._target_ = "ltvnet.simulate.Timeline"
    path = write_config(tmp_path, saved)
    done = run_command("python scripts/train.py", f"resume={tmp_path}")
    assert done.returncode == 0, done.stderr
    folder = {"out": str(tmp_path), "resume": str(tmp_path)}
    assert OmegaConf.load(path) == {**current, **folder}


def test_data_of_an_earlier_version_are_told_where_their_class_stands(tmp_path: Path) -> None:
    said = refused("train", "data._target_=ltvnet.table.Files", f"out={tmp_path}")
    assert "expected data._target_=ltvnet.data.cohort_tables.Files" in said


def test_an_older_run_is_resumed_with_its_own_config(tmp_path: Path) -> None:
    """It lacks keys that came later; of the command line, only `force` and `debug` are heard."""
    overrides = [*SMALL, "model=pattern", "validation=none", "title=old", "seed=3", "debug=true"]
    old = compose_config("train", *overrides, "as_of=2022-07-31")
    OmegaConf.resolve(old)
    expected = OmegaConf.to_container(old)
    old = OmegaConf.create(expected)
    del old.force, old.resume, old.validation.learning, old.data.effects.owners.Apps.casino
    del expected["data"]["effects"]["owners"]["Apps"]["casino"]
    path = write_config(tmp_path, old)
    process = run_command("python scripts/train.py", f"resume={tmp_path}", "force=true", "seed=9")
    assert process.returncode == 0, process.stderr
    folder = {"out": str(tmp_path), "resume": str(tmp_path)}
    assert OmegaConf.load(path) == {**expected, **folder, "force": True}


def test_a_class_that_is_no_source_of_data_is_refused(tmp_path: Path) -> None:
    words = ["~data", "+data._target_=collections.Counter"]
    message = refused("prepare", *words, f"out={tmp_path}")
    assert "data._target_ with history, default_origin" in message and "Counter" in message
