"""Names and docstrings can be read at first sight."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "ltvnet").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

PARTICIPLES = set(
    "alike alone apart begun below beside chosen done drawn found given grown heard held kept "
    "known learned learnt left made meant nested over own said seen sent shown spent spoken taken "
    "told together unseen worn written".split()
)
"""Words that say something of a thing and not what it is; those that end in -ed are refused too."""

RIDDLES = ("The same", "Those", "That ", "What ", "Its ", "Such ")
"""Beginnings of docstrings that are about something the reader has not seen."""


def module_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def function_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def is_bare_participle(name: str) -> bool:
    word = name.strip("_")
    return word in PARTICIPLES or ("_" not in word and word.endswith("ed"))


def top_level_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name.strip("_")
        elif isinstance(node, ast.Assign):
            yield from (
                part.id.strip("_")
                for target in node.targets
                for part in ast.walk(target)
                if isinstance(part, ast.Name)
            )
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id.strip("_")


def first_lines(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            text = (ast.get_docstring(node) or "").strip()
            yield getattr(node, "name", "module"), text.partition("\n")[0]


@pytest.mark.parametrize("path", FILES, ids=module_id)
def test_functions_say_what_they_do_or_return(path: Path) -> None:
    assert [name for name in function_names(path) if is_bare_participle(name)] == []


@pytest.mark.parametrize("name", ["told", "_told", "grown", "learned", "found", "weighted"])
def test_a_bare_participle_is_caught(name: str) -> None:
    assert is_bare_participle(name)


@pytest.mark.parametrize("name", ["forecast_growth", "is_paired", "weighted_mean", "read", "fit"])
def test_verbs_and_nouns_pass(name: str) -> None:
    assert not is_bare_participle(name)


def test_a_top_level_name_means_one_thing() -> None:
    """Underscores tell no meanings apart. Every module has a `log`, and that is one thing."""
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for path in FILES:
        if path.is_relative_to(ROOT / "ltvnet"):
            for name in top_level_names(path):
                homes[name].add(module_id(path))
    assert {name: files for name, files in homes.items() if len(files) > 1 and name != "log"} == {}


@pytest.mark.parametrize("path", FILES, ids=module_id)
def test_docstrings_can_be_read_alone(path: Path) -> None:
    riddles = [(name, line) for name, line in first_lines(path) if line.startswith(RIDDLES)]
    assert riddles == []
