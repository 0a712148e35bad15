"""An installed ltvnet works away from its checkout: the YAML is in the wheel."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from factories.cohorts import weekly_history

from ltvnet.data.cohort_tables import write_cohorts

ROOT = Path(__file__).parent.parent

FOUR_LINES = """
import sys
import ltvnet

history = ltvnet.read("cohorts.csv")
model = ltvnet.model("pattern")
model.fit(history, "2024-02-29")
forecast = model.predict(history.as_of("2024-02-29"), ages=[30, 90, 180, 360])

assert forecast.final.mean.shape == (len(forecast.curves), 4)
assert ltvnet.model("lstm").spec.kind == "lstm"
assert list(ltvnet.model("best").spec.members) == ["lstm", "departure", "boosting"]
assert "hydra" not in sys.modules
print(ltvnet.__file__)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the built wheel, and this one's dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, *build, str(copy_of_sources(folder / "sources"))], check=True)

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    interpreter = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = ["--python", str(interpreter), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, str(wheel)], check=True)

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    dependencies = folder / "env" / "lib" / version / "site-packages" / "dependencies.pth"
    dependencies.write_text(sysconfig.get_path("purelib"))
    return interpreter


def copy_of_sources(folder: Path) -> Path:
    """Copy what a wheel is built of, as building leaves files beside it."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("ltvnet", "configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_four_lines_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    write_cohorts(weekly_history(60).as_of("2024-02-29"), tmp_path / "cohorts.csv")
    command = [python, "-I", "-c", FOUR_LINES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(python.parent.parent) in done.stdout


def test_commands_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    """As the scripts of a checkout; what is to be run next is told as it was called."""
    write_cohorts(weekly_history(60).as_of("2024-02-29"), tmp_path / "cohorts_2024-02-29.csv")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-I", str(python.parent / "ltvnet"), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    trained = run("train", "model=pattern", "validation=none", "data.path=cohorts_2024-02-29.csv")
    assert trained.returncode == 0, trained.stderr
    following = trained.stdout.partition("next: ltvnet ")[2].split()
    predicted = run(*following)
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "rollup.csv").exists()

    assert run("predict", "--help").stdout.startswith("Forecasts cohorts.")
    assert "with SCRIPT out of " in run().stdout
    refused = run("nonsense")
    assert refused.returncode == 2 and "expected ltvnet SCRIPT out of " in refused.stderr


def test_every_subpackage_is_in_the_wheel() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    disk = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "ltvnet").rglob("__init__.py")
    }
    beside = {"ltvnet.configs", "ltvnet.scripts", "ltvnet.scripts.command_line"}
    assert set(packages) == disk | beside
