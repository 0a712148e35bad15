"""What the README says is so: commands compose, quick ones run, the tree is the disk."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("python scripts/")
]


def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *shlex.split(command)[1:], *more]
    environment = os.environ | {"LTVNET_DATA": os.environ.get("LTVNET_DATA", "data")}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command: str, tmp_path: Path) -> None:
    made = tmp_path / "best.yaml"  # a file that another command makes
    made.write_text("overrides: [model=tide]")
    done = run(re.sub(r"experiment=\S+", f"experiment={made}", command), "--cfg", "job")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["train", "backtest", "predict", "prepare", "simulate", "sweep"])
def test_scripts_have_help_and_refuse_unknown_keys(script: str) -> None:
    assert run(f"python scripts/{script}.py", "--help").returncode == 0
    refused = run(f"python scripts/{script}.py", "oot=here")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and "oot" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_quick_run_from_data_to_forecasts(tmp_path: Path) -> None:
    """The commands of the README on a small portfolio, with the pattern."""
    small = "data.timeline.weeks=30 data.campaigns.count=3"
    simulated = f"python scripts/simulate.py {small} as_of=2022-07-31 snapshots=2 out={tmp_path}"
    assert run(simulated).returncode == 0
    files, trained = tmp_path / "Files", tmp_path / "train"
    model = f"python scripts/train.py model=pattern data=files data.path={files} out={trained}"
    done = run(model)
    assert done.returncode == 0, done.stderr
    assert "your data support forecasts to D" in done.stdout
    assert "No cell has matured after 2022-07-31" in done.stdout
    assert f"bundle={trained}/bundle data=files data.path={files} out=." in done.stdout
    predicted = (
        f"python scripts/predict.py bundle={trained}/bundle data.path={files} out={tmp_path}"
    )
    done = run(predicted)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Files_Predictions" / "LTV_predictions_2022_07_31.csv").exists()


def test_the_tree_is_the_disk() -> None:
    tree = next(block for block in BLOCKS if block.startswith("configs/"))
    inside = re.findall(r"^  ([\w/.]+)", tree, flags=re.MULTILINE)
    disk = {p.name + "/" * p.is_dir() for p in (ROOT / "ltvnet").iterdir() if p.name[0] not in "_."}
    assert set(inside) == disk - {"py.typed"}
    nets = {p.name for p in (ROOT / "ltvnet" / "nets").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"(\w+\.py)", tree.partition("nets/")[2].partition("\n")[0])) == nets
    scripts = tree.partition("\nscripts/")[2].partition("\n")[0]
    named = set(re.findall(r"[\w.]+", scripts))
    assert named == {p.name for p in (ROOT / "scripts").iterdir() if p.name[0] != "_"}
    groups = tree.partition("\n")[0].partition("groups ")[2].split()
    assert set(groups) == {p.name for p in (ROOT / "configs").iterdir() if p.is_dir()}


def test_every_reason_is_explained() -> None:
    from ltvnet.forecasting import forecast

    words = set(re.findall(r'\(.*, "(\w+)"\),', Path(forecast.__file__).read_text()))
    explained = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    assert words | {"ok"} <= explained


def test_pictures_exist() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README, flags=re.DOTALL):
        assert (ROOT / path).exists()
