"""--help says what a script does, with its own options and the comments of the YAML."""

import shlex

import pytest
from command_line.help_page import EXAMPLES, help_page
from command_line.words import read_words
from factories.commands import run_script
from factories.configs import CONFIGS, compose_config

SCRIPTS = ["train", "predict", "backtest", "sweep", "prepare", "check", "simulate"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a page are as long as the terminal lets them be."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("script", [*SCRIPTS, "benchmark"])
def test_a_page_is_short_and_has_examples(script: str) -> None:
    page = help_page(CONFIGS, script, [])
    lines = page.splitlines()
    assert 20 <= len(lines) <= 62
    assert sum(line.startswith("  python scripts/") or "  ltvnet " in line for line in lines) == 3
    assert "Exit codes: 0 done, 2 " in page and "hydra:" not in page and "_target_" not in page


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_of_a_script_is_there(script: str) -> None:
    page = help_page(CONFIGS, script, [])
    config = compose_config(script)
    groups = {"data", "model", "trainer", "validation", "space"}
    shown = {str(key) for key in config if key not in groups}
    assert {key for key in shown if f"  {key}=" not in page and f"  {key}." not in page} == set()
    offered = groups & {str(key) for key in config} - {"space"}
    assert {group for group in groups if f"\n  {group}=  " in page} <= offered
    assert all(f"\n  {group + '=':12}" in page for group in offered)


def test_comments_of_the_yaml_are_shown() -> None:
    page = help_page(CONFIGS, "train", [])
    assert "true: export a model even if it was worse than the pattern" in page
    assert "a cohort table, or a folder with one snapshot a file" in page
    assert "lstm*" in page and "simulated*" in page and "out=runs/train/DATE_TIME" in page


def test_the_options_are_those_of_the_chosen_data() -> None:
    page = help_page(CONFIGS, "train", ["data=transactions", "model=best"])
    assert "data.snapshot=null" in help_page(CONFIGS, "predict", ["data=files"])
    assert "data.burn_in=null" in page and "transactions*" in page and "best*" in page
    assert "of an invoice that stands in several sheets" in " ".join(page.split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_examples_can_be_composed(script: str) -> None:
    default = {"path": "???"} if script in ("predict", "prepare", "check") else {}
    for example in EXAMPLES[script]:
        words = read_words(shlex.split(example), default).overrides
        assert compose_config(script, *words) is not None


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_scripts_print_their_page(word: str) -> None:
    process = run_script("predict", word)
    assert process.returncode == 0 and process.stderr == ""
    assert process.stdout.startswith("Forecasts cohorts.\n\nOptions")


def test_launch_says_which_scripts_there_are() -> None:
    page = run_script("launch", "--help").stdout
    assert all(f"python scripts/{script}.py" in page for script in SCRIPTS)
