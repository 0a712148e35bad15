"""Who may import whom, and where the heavy libraries stand."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ltvnet

ROOT = Path(__file__).parent.parent
LINES = [
    ["curves", "metrics", "nets", "files", "space", "recorded"],
    [
        "forecasting",
        "calendar",
        "development",
        "covariates",
        "gathered",
        "sheets",
        "purchases",
        "markup",
    ],
    ["dates", "kappas", "checks", "origins"],
    ["pattern", "table", "ledger", "explanation", "identity"],
    ["windows", "correction", "calibration", "scores", "simulate", "transactions", "predictions"],
    ["draws", "jobs"],
    ["departure"],
    ["training", "stages"],
    ["neural", "baselines"],
    ["backtest", "findings"],
    ["corrected", "figures", "leaderboard"],
    ["bundle", "page", "trials"],
    ["report", "searched"],
    ["batch", "study"],
    ["sweep", "spark"],
]
"""The path of a forecast: a line imports from the lines above it, and knows none of its own."""

PLACE = {module: line for line, modules in enumerate(LINES) for module in modules}


def modules() -> list[Path]:
    return sorted(path for path in (ROOT / "ltvnet").rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(ROOT / "ltvnet").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "ltvnet":
                yield from (f"ltvnet.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_module_has_its_line() -> None:
    found = {module_of(path) for path in modules()} - {"__init__"}
    assert found == set(PLACE), found ^ set(PLACE)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_come_from_the_lines_above(path: Path) -> None:
    own = module_of(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("ltvnet."):
            other = name.split(".")[1]
            inside = own == other and own in ("nets", "baselines")
            assert inside or PLACE[other] < PLACE[own], f"{own} imports {other}"


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("pytorch_lightning", {"ltvnet/departure.py", "ltvnet/training.py"}),
        ("hydra", {"scripts"}),
        ("optuna", {"ltvnet/study.py", "ltvnet/sweep.py"}),
        (
            "duckdb",
            {"ltvnet/transactions.py", "ltvnet/purchases.py", "scripts/benchmarks/cohort_query.py"},
        ),
        ("pyspark", {"ltvnet/spark.py"}),
    ],
)
def test_heavy_libraries_have_a_home(library: str, homes: set[str]) -> None:
    for path in [*modules(), *(ROOT / "scripts").rglob("*.py")]:
        place = str(path.relative_to(ROOT))
        if any(name.split(".")[0] == library for name in imports(path)):
            assert any(place == home or place.startswith(f"{home}/") for home in homes), place


def test_nets_know_nothing_but_torch() -> None:
    for path in (ROOT / "ltvnet" / "models" / "neural" / "nets").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] in {
                "torch",
                "typing",
                "collections",
                "functools",
            } or name.startswith("ltvnet.models.neural.nets"), f"{path.name} imports {name}"


def test_column_names_of_tables_stand_in_few_places() -> None:
    homes = {
        "table.py",
        "predictions.py",
        "sheets.py",
        "checks.py",
        "purchases.py",
        "transactions.py",
    }
    for path in modules():
        if path.name not in homes:
            assert "day_{" not in path.read_text() and '"Users"' not in path.read_text(), path


def test_public_names() -> None:
    assert ltvnet.__all__ == sorted(ltvnet.__all__, key=lambda name: (not name.isupper(), name))
    for name in ltvnet.__all__:
        assert getattr(ltvnet, name) is not None
    with pytest.raises(AttributeError, match="module 'ltvnet' has no attribute 'oracle'"):
        ltvnet.oracle  # noqa: B018 the access is the test
    assert set(dir(ltvnet)) == set(ltvnet.__all__)


def test_importing_is_light() -> None:
    code = "import sys, ltvnet; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_files_are_small_and_functions_short() -> None:
    bodies = []
    for path in [*modules(), *(ROOT / "scripts").glob("*.py")]:
        text = path.read_text()
        assert text.count("\n") <= (
            40 if path.parent.name == "scripts" and path.stem != "launch" else 400
        ), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and node.body[1:] else node.body[0]
                bodies.append(node.body[-1].end_lineno - first.lineno + 1)  # type: ignore[operator]
                assert node.args.kwarg is None, f"{path}: {node.name} takes **kwargs"
    assert max(bodies) <= 60
    assert sorted(bodies)[int(0.9 * len(bodies))] <= 25
