"""Rooms: who may import whom, and where the heavy libraries stand."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ltvnet

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ltvnet"

ALLOWED: dict[str, set[str]] = {
    "storage": set(),
    "metrics": set(),
    "data": {"storage"},
    "forecasting": {"data"},
    "models/pattern": {"forecasting", "data"},
    "models/neural": {"models/pattern", "forecasting", "data", "storage"},
    "models/baselines": {"models/pattern", "forecasting", "data"},
    "backtesting": {"forecasting", "data", "storage", "metrics"},
    "correction": {"backtesting", "models/pattern", "forecasting", "data"},
    "tuning": {"correction", "backtesting", "forecasting", "data", "storage", "metrics"},
    "prediction": {
        "correction", "backtesting", "models/pattern", "forecasting", "data", "storage",
    },
    "reports": {
        "tuning", "correction", "backtesting", "forecasting", "data", "storage", "metrics",
    },
    "operations": {
        "reports", "prediction", "tuning", "correction", "backtesting", "models/baselines",
        "models/neural", "models/pattern", "forecasting", "data", "storage", "metrics",
    },
}  # fmt: skip
"""The subpackages from the ground up, and what each may import beside itself."""

REGISTRIES = {
    "ltvnet/forecasting/registry.py": {
        "models/pattern", "models/neural", "models/baselines", "correction",
    },
}  # fmt: skip
"""Files that name classes of other subpackages by text, which is what a registry is for."""

LIBRARIES = {
    "pytorch_lightning": [
        "ltvnet/models/neural/training.py", "ltvnet/models/neural/training_module.py",
    ],
    "hydra": ["scripts"],
    "optuna": ["ltvnet/tuning"],
    "duckdb": ["ltvnet/data", "scripts/benchmarks/cohort_query.py"],
    "matplotlib": ["ltvnet/reports"],
    "tensorboard": ["ltvnet/reports", "ltvnet/tuning"],
    "pyspark": ["ltvnet/prediction/spark.py"],
    "lightgbm": ["ltvnet/models/baselines/boosting.py"],
}  # fmt: skip
"""Heavy libraries, and the files or folders that may import them."""


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The subpackage of a dotted module of ltvnet, such as "models/neural"; "" for the package."""
    words = module.split(".")[1:]
    depth = 2 if words[:1] == ["models"] else 1
    return "/".join(words[:depth])


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(source: str) -> Iterator[str]:
    """Modules that a source imports, at the top, inside of functions, or by their name as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "ltvnet.relative"  # no row of the table allows it
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.count(".") == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"ltvnet(\.\w+)+(:\w+)?", node.value):
                yield node.value.partition(":")[0]


def forbidden_imports(source: str, path: str, room: str) -> list[str]:
    """Imports of a source in a subpackage that the table does not allow."""
    allowed = {room} | ALLOWED[room] | REGISTRIES.get(path, set())
    modules = [name for name in imported_modules(source) if name.startswith("ltvnet.")]
    return [name for name in modules if room_of(name) not in allowed]


def test_every_subpackage_is_in_the_table() -> None:
    rooms = {room_of(module_of(path)) for path in package_files()} - {""}
    assert rooms - {"models"} == set(ALLOWED)


def test_the_table_has_no_circle() -> None:
    """Each row names rows above it only."""
    rooms = list(ALLOWED)
    for place, room in enumerate(rooms):
        assert ALLOWED[room] <= set(rooms[:place]), room


@pytest.mark.parametrize("path", package_files(), ids=module_of)
def test_imports_are_in_the_table(path: Path) -> None:
    room = room_of(module_of(path))
    if room in ("", "models"):
        return  # the lazy names of the package, and a docstring
    name = path.relative_to(ROOT).as_posix()
    assert forbidden_imports(path.read_text(), name, room) == []


@pytest.mark.parametrize(
    "source",
    [
        "from ltvnet.reports.findings import headline",
        "from ltvnet import reports",
        "import ltvnet.reports.findings",
        "def f():\n    from ltvnet.reports import findings",
        'NETS = {"page": "ltvnet.reports.findings:Headline"}',
        'import_module("ltvnet.reports.findings")',
    ],
)
def test_a_wrong_import_is_caught(source: str) -> None:
    assert len(forbidden_imports(source, "ltvnet/backtesting/replay.py", "backtesting")) == 1
    assert forbidden_imports(source, "ltvnet/operations/train_model.py", "operations") == []


def test_relative_imports_are_refused() -> None:
    for source in ("from ..reports import findings", "from . import ledger"):
        assert forbidden_imports(source, "ltvnet/operations/tune.py", "operations") != []


def test_modules_of_a_subpackage_import_each_other_without_circles() -> None:
    graph = {
        module_of(path): {
            name
            for name in imported_modules(path.read_text())
            if room_of(name) == room_of(module_of(path)) and name.startswith("ltvnet.")
        }
        for path in package_files()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle of imports: {' -> '.join((*above, module))}"
        if module in graph and module not in done:
            for other in graph[module]:
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("library", LIBRARIES)
def test_heavy_libraries_have_a_home(library: str) -> None:
    for path in [*package_files(), *(ROOT / "scripts").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        imports = {module.split(".")[0] for module in imported_modules(path.read_text())}
        if library in imports:
            assert name.startswith(tuple(LIBRARIES[library])), name


def test_the_docstring_of_a_room_says_what_is_where() -> None:
    """It names each module of the room, and so does one that is added."""
    for init in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(init.read_text())) or ""
        modules = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
        if init.parent != PACKAGE:
            missing = {name for name in modules if not re.search(rf"\b{name}\b", said)}
            assert not missing, f"{init}: {missing}"


def test_nets_know_nothing_but_torch() -> None:
    known = {"torch", "typing", "collections", "functools"}
    for path in (PACKAGE / "models" / "neural" / "nets").glob("*.py"):
        for name in imported_modules(path.read_text()):
            ours = name.startswith("ltvnet.models.neural.nets")
            assert ours or name.split(".")[0] in known, f"{path.name} imports {name}"


def test_column_names_of_tables_stand_in_one_place() -> None:
    homes = {
        "data/columns.py",
        "data/cohort_rows.py",
        "data/cohort_tables.py",
        "data/checks.py",
        "prediction/tables.py",
    }
    for path in package_files():
        if path.relative_to(PACKAGE).as_posix() not in homes:
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


def function_lines(path: Path) -> Iterator[tuple[str, int]]:
    """Lines of the body of each function, its docstring apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            last = body[-1].end_lineno
            assert last is not None
            yield node.name, last - body[0].lineno + 1


@pytest.mark.parametrize("path", package_files(), ids=module_of)
def test_files_have_500_lines_and_functions_50(path: Path) -> None:
    assert path.read_text().count("\n") <= 500
    assert [(name, lines) for name, lines in function_lines(path) if lines > 50] == []


def test_scripts_compose_call_and_print() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert path.stem == "launch" or path.read_text().count("\n") <= 50, path


def test_no_function_takes_any_keyword() -> None:
    for path in [*package_files(), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.args.kwarg is None, f"{path}: {node.name} takes **kwargs"
