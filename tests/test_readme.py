"""The README is true: commands compose, quick ones run, the tree is the disk."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / page for page in ("README.md", "configs/README.md", "scripts/benchmarks/README.md")]
README = PAGES[0].read_text()


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


COMMANDS = sorted(
    {
        line.partition("#")[0].strip()
        for page in PAGES
        for block in code_blocks(page)
        for line in block.splitlines()
        if line.startswith("python scripts/")
    }
)


def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, *shlex.split(command)[1:], *more]
    environment = os.environ | {"LTVNET_DATA": os.environ.get("LTVNET_DATA", "data")}
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command: str, tmp_path: Path) -> None:
    experiment = tmp_path / "best.yaml"  # a file that another command makes
    experiment.write_text("overrides: [model=tide]")
    process = run(re.sub(r"experiment=\S+", f"experiment={experiment}", command), "--cfg", "job")
    assert process.returncode == 0, process.stderr


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
    process = run(model)
    assert process.returncode == 0, process.stderr
    assert "your data support forecasts to D" in process.stdout
    assert "No cell has matured after 2022-07-31" in process.stdout
    assert f"bundle={trained}/bundle data=files data.path={files} out=." in process.stdout
    predicted = (
        f"python scripts/predict.py bundle={trained}/bundle data.path={files} out={tmp_path}"
    )
    process = run(predicted)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "Files_Predictions" / "LTV_predictions_2022_07_31.csv").exists()


def test_every_readme_is_met_here() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    names = {name for name in tracked.splitlines() if Path(name).name == "README.md"}
    assert names <= {page.relative_to(ROOT).as_posix() for page in PAGES}


def test_the_readme_is_short() -> None:
    assert README.count("\n") < 200


def test_the_tree_is_the_disk() -> None:
    tree = next(block for block in code_blocks(PAGES[0]) if block.startswith("configs/"))
    rooms = re.findall(r"^  ([\w/.]+)", tree, flags=re.MULTILINE)
    disk = {p.name + "/" * p.is_dir() for p in (ROOT / "ltvnet").iterdir() if p.name[0] not in "_."}
    assert set(rooms) == disk - {"py.typed"}

    models = tree.partition("\n  models/")[2].partition("\n  backtesting/")[0]
    kinds = {p.name + "/" for p in (ROOT / "ltvnet" / "models").iterdir() if p.name[0] != "_"}
    assert kinds <= set(models.split())

    scripts = tree.partition("\nscripts/")[2].partition("\n")[0]
    named = set(re.findall(r"[\w.]+", scripts))
    assert named == {p.name for p in (ROOT / "scripts").iterdir() if p.name[0] != "_"}
    groups = tree.partition("\n")[0].partition("groups ")[2].split()
    assert set(groups) == {p.name for p in (ROOT / "configs").iterdir() if p.is_dir()}


def test_every_choice_is_named_beside_its_class() -> None:
    table = PAGES[1].read_text().partition("| group |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    for group in ("model", "data", "trainer", "validation"):
        choices = {path.stem for path in (ROOT / "configs" / group).glob("[!_]*.yaml")}
        assert choices <= named, choices - named
    for path in re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)`", table):
        assert (ROOT / "ltvnet" / path).exists(), path


def test_every_reason_is_explained() -> None:
    from ltvnet.forecasting import forecast

    reasons = set(re.findall(r'\(.*, "(\w+)"\),', Path(forecast.__file__).read_text()))
    explained = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    assert reasons | {"ok"} <= explained


def test_links_and_pictures_lead_somewhere() -> None:
    for page in PAGES:
        for path in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert path.startswith("http") or (page.parent / path).exists(), f"{page}: {path}"
