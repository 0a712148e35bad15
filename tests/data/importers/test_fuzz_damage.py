"""Damaged tables: a refusal, or the numbers of all rows that were not touched, and no row less."""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest
from data.importers.test_fuzz_tables import any_exports, assert_helpful, cohorts_of
from factories.any_exports import AnyExport, Key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.table_format import TableFormat

QUICK = 120
LONG = 20_000
"""Examples of a test in the suite, and of the longer run: `bash scripts/test -m slow`."""


def flip_byte(line: str, rng: random.Random) -> str:
    """Put another character in place of one."""
    position = rng.randrange(len(line))
    return line[:position] + rng.choice("0123456789.,;-\"'\t a\n|\\#é") + line[position + 1 :]


def cut_off(line: str, rng: random.Random) -> str:
    """Cut a line off."""
    return line[: rng.randrange(1, len(line))]


def repeat(line: str, rng: random.Random) -> str:
    """Write a line twice."""
    return f"{line}\n{line}"


def swap_cells(line: str, rng: random.Random, separator: str = ",") -> str:
    """Swap two cells of a line."""
    cells = line.split(separator)
    first, second = rng.randrange(len(cells)), rng.randrange(len(cells))
    cells[first], cells[second] = cells[second], cells[first]
    return separator.join(cells)


def open_quote(line: str, rng: random.Random, separator: str = ",") -> str:
    """Put a quotation mark before a cell."""
    cells = line.split(separator)
    position = rng.randrange(len(cells))
    cells[position] = '"' + cells[position]
    return separator.join(cells)


DAMAGES: dict[str, Callable[[str, random.Random], str]] = {
    "another character": flip_byte,
    "a line cut off": cut_off,
    "a line twice": repeat,
    "cells swapped": swap_cells,
    "an open quotation mark": open_quote,
}


def write_damaged(
    export: AnyExport, damage: str, folder: Path, rng: random.Random
) -> tuple[Path, Key]:
    """Write an export with one damaged row; also returns the key of its cohort.

    Cohorts have a column of text behind all others, in which anything may hide.
    """
    path = export.write(folder)
    header, *lines = path.read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line]
    number = rng.randrange(len(lines))
    lines[number] = DAMAGES[damage](lines[number], rng)
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8", newline="")
    return path, sorted_keys(export)[number]


def sorted_keys(export: AnyExport) -> list[Key]:
    """Keys of cohorts in the order of their rows."""
    return [
        (cohort.first, cohort.last, tuple(text for _, text in sorted(cohort.attributes.items())))
        for cohort in export.known_cohorts()
    ]


def assert_others_alike(curves: Curves, export: AnyExport, touched: Key) -> None:
    """All cohorts but one are those that were written, and there are as many."""
    cohorts = cohorts_of(curves)
    expected = export.expected()
    assert len(cohorts) == len(expected)
    for key, cohort in expected.items():
        if key == touched:
            continue
        users, _, values, last_age = cohorts[key]
        assert users == cohort.users
        assert last_age == max(cohort.values, default=-1)
        for age, value in cohort.values.items():
            assert math.isclose(values[age], value, rel_tol=1e-9, abs_tol=1e-12), (key, age)


def run_damages(folder: Path, examples: int) -> Counter[str]:
    """Damage so many exports, and count what became of them; the counts are printed."""
    outcomes: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(any_exports(), st.sampled_from(sorted(DAMAGES)), st.integers(0, 10**6))
    def check_one(export: AnyExport, damage: str, seed: int) -> None:
        export = replace(
            export,
            layout="wide",
            container="csv",
            encoding="utf-8",
            separator=",",
            line_ends=("\n",),
            quote_all=False,
            empty_rows=0,
            repeated_headers=0,
            titles=(),
            totals="",
            told=export.told | {"per", "decimal"} - {"encoding"},  # one cell may decide the sign
            extras=("team",),
            has_text_last=True,
            cohorts=12,
        )
        target = Path(mkdtemp(dir=folder))
        path, touched = write_damaged(export, damage, target, random.Random(seed))
        try:
            history = Files(path=path, format=TableFormat(**export.options)).history()
        except ValueError as error:
            assert_helpful(error, target)
            outcomes["refused"] += 1
            return
        assert damage != "a line twice"
        if "Total" in touched[2]:
            return  # a line of fewer cells that begins so is a sum
        assert_others_alike(history.as_of(str(export.origin)), export, touched)
        outcomes["read"] += 1

    check_one()
    print(f"tried {outcomes.total():,}, {outcomes}")  # noqa: T201 counts that are asked for
    return outcomes


def test_damage_is_refused_or_stays_in_its_row(tmp_path: Path) -> None:
    outcomes = run_damages(tmp_path, QUICK)
    assert outcomes["read"] > 0.05 * outcomes.total()


@pytest.mark.slow
def test_damage_is_refused_or_stays_in_its_row_in_a_long_run(tmp_path: Path) -> None:
    outcomes = run_damages(tmp_path, LONG)
    assert outcomes["read"] > 0.05 * outcomes.total()


@given(st.integers(0, 10**6), st.sampled_from(["csv.gz", "xlsx"]))
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_are_named(
    tmp_path_factory: pytest.TempPathFactory, seed: int, container: str
) -> None:
    """Archives know when a byte was changed; what is not looked at may be anything."""
    rng = random.Random(seed)
    export = AnyExport(seed=seed, cohorts=12, layout="wide", container=container)
    path = export.write(tmp_path_factory.mktemp("damaged"))
    data = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data))]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        curves = Files(path=path).history().as_of(str(export.origin))
    except ValueError as error:
        assert_helpful(error, path.parent)
    else:
        assert len(curves) == len(export.expected())
