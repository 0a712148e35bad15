"""Tables of any dialect, and damaged ones: the numbers that were written, or a refusal."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from factories.any_exports import ROLES, AnyExport, Key, ReadCohort
from factories.dialects import (
    AGE_PATTERNS,
    BETWEEN_DAYS,
    DAY_SPELLINGS,
    NAME_CASES,
    NumberDialect,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.table_format import TableFormat

QUICK = 140
LONG = 20_000
"""Examples of a test in the suite, and of the longer run: `bash scripts/test -m slow`."""

CURRENCIES = ["", "$", "€", "£", "USD", "R$", "kr", "¥", "₩", "원"]
WITHOUT_CENTS = ("¥", "₩", "원")
GRIDS = [
    (0, 1, 3, 7, 14, 30),
    (1, 3, 7, 14, 30, 60, 90),
    (7,),
    (0, 1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360),
]
OPTIONS = ["decimal", "dates", "encoding", "separator"]
"""Options that may be given, though most tables can be read without them."""

DATE_FORMS = {
    "day": ["range", "columns"],
    "week": ["range", "columns", "text", "told", "named"],
    "month": ["range", "columns", "text", "told", "named"],
    "range": ["range", "columns"],
}


@st.composite
def number_dialects(draw: st.DrawFn, separator: str) -> NumberDialect:
    """Numbers with a decimal sign and others that differ from it.

    A dot between thousands of a file with commas between cells would be its decimal sign.
    """
    decimal = draw(st.sampled_from([".", ","]))
    marks = ["", ",", "'", "\u202f"] if decimal == "." else ["", " ", "'", "\xa0", "."]
    if separator == ",":
        marks = [mark for mark in marks if mark != "."]
    return NumberDialect(
        decimal=decimal,
        thousands=draw(st.sampled_from(marks)),
        currency=draw(st.sampled_from(CURRENCIES)),
        is_before=draw(st.booleans()),
        blank=draw(st.sampled_from(["", " "])),
        missing=draw(st.sampled_from(["", "-", "N/A", "null", "NaN", "–"])),
    )


@st.composite
def any_exports(draw: st.DrawFn) -> AnyExport:
    """Exports of any dialect."""
    span = draw(st.sampled_from(sorted(DATE_FORMS)))
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    numbers = draw(number_dialects(separator))
    has_cents = numbers.currency not in WITHOUT_CENTS
    values = draw(st.sampled_from(["cumulative", "cumulative", "increment"]))
    daily = st.integers(1, 30).map(lambda last: tuple(range(last)))
    other_grids = st.sampled_from(GRIDS) | st.lists(
        st.integers(0, 360), min_size=1, max_size=6, unique=True
    ).map(lambda ages: tuple(sorted(ages)))
    return AnyExport(
        seed=draw(st.integers(0, 10**6)),
        cohorts=draw(st.sampled_from([1, 2, 5, 12, 12, 20, 20])),
        layout=draw(st.sampled_from(["wide", "long"])),
        container=draw(st.sampled_from(["csv", "csv.gz", "tsv", "xlsx"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp949", "gbk", "cp1252"])),
        separator=separator,
        line_ends=draw(st.sampled_from([("\n",), ("\r\n",), ("\n", "\r\n")])),
        quote_all=draw(st.booleans()),
        numbers=numbers,
        digits=draw(st.integers(0, 4)) if has_cents else 0,
        level=10 ** draw(st.floats(-2, 5)),
        span=span,
        date_form=draw(st.sampled_from(DATE_FORMS[span])),
        day_spelling=draw(st.sampled_from(sorted(DAY_SPELLINGS))),
        between=draw(st.sampled_from(BETWEEN_DAYS)),
        name_case=draw(st.sampled_from(sorted(NAME_CASES))),
        age_pattern=draw(st.sampled_from(sorted(AGE_PATTERNS))),
        ages=draw(daily if values == "increment" else daily | other_grids),
        values=values,
        per=draw(st.sampled_from(["user", "cohort"])),
        attributes=draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=4)),
        has_users=draw(st.sampled_from([True, True, True, False])),
        has_spend=draw(st.booleans()),
        extras=draw(
            st.lists(
                st.sampled_from(["team", "budget", "retention", "unnamed"]),
                unique=True,
                max_size=3,
            )
        ),
        totals=draw(st.sampled_from(["", "short", "long"])),
        titles=draw(st.sampled_from([(), ("LTV report",), ("LTV", "")])),
        empty_rows=draw(st.integers(0, 2)),
        repeated_headers=draw(st.integers(0, 1)),
        told=frozenset(
            draw(st.lists(st.sampled_from(OPTIONS), unique=True))
            + draw(st.sampled_from([["per"], ["per"], ["per"], ["per"], []]))
        ),
        hides_increments=draw(st.integers(0, 5)) == 5,
        days_old=draw(st.sampled_from([0, 5, 40, 400])),
        is_typed=draw(st.booleans()),
    )


def cohorts_of(curves: Curves) -> dict[Key, tuple[float, float, np.ndarray, int]]:
    """Users, spend, values and last age of cohorts by key."""
    names = sorted(curves.attributes)
    cohorts = {}
    for row in range(len(curves)):
        days = (curves.start[row].astype(object), curves.end[row].astype(object))
        texts = tuple(str(curves.attributes[name][row]) for name in names)
        cohorts[(*days, texts)] = (
            float(curves.users[row]),
            float(curves.spend[row]),
            curves.values[row],
            int(curves.observed_age[row]),
        )
    assert len(cohorts) == len(curves)
    return cohorts


def assert_alike(curves: Curves, expected: dict[Key, ReadCohort]) -> None:
    """The cohorts are those that were written, and no others."""
    cohorts = cohorts_of(curves)
    assert sorted(cohorts) == sorted(expected)
    for key, cohort in expected.items():
        users, spend, values, last_age = cohorts[key]
        assert users == cohort.users
        assert math.isnan(spend) if cohort.spend is None else math.isclose(spend, cohort.spend)
        assert last_age == max(cohort.values, default=-1)
        for age, value in cohort.values.items():
            assert math.isclose(values[age], value, rel_tol=1e-9, abs_tol=1e-12), (key, age)


def run_many(check: Callable[[AnyExport, Path], str], folder: Path, examples: int) -> Counter[str]:
    """Check so many exports, and count what became of them; the counts are printed."""
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(any_exports())
    def check_one(export: AnyExport) -> None:
        outcomes[check(export, Path(mkdtemp(dir=folder)))] += 1

    check_one()
    print(f"tried {outcomes.total():,}, {outcomes}")  # noqa: T201 counts that are asked for
    return outcomes


def assert_helpful(error: ValueError, folder: Path) -> None:
    """A refusal names a file or an option, and has no trace of where it was raised."""
    assert type(error) is ValueError
    assert str(folder) in str(error) or "export_" in str(error) or "data." in str(error)


def check_one_file(export: AnyExport, folder: Path) -> str:
    """Read a file whole and as a stream."""
    path = export.write(folder)
    files = Files(path=path, format=TableFormat(**export.options))
    try:
        history = files.history()
    except ValueError as error:
        assert_helpful(error, folder)
        return "refused"
    assert not export.must_be_refused
    curves = history.as_of(str(export.origin))
    assert_alike(curves, export.expected())
    pieces = list(files.curves(3))
    assert sum(len(piece) for piece in pieces) == len(curves)
    return "read"


def check_two_snapshots(export: AnyExport, folder: Path) -> str:
    """Read a folder of two snapshots as of both days."""
    days = sorted(cohort.last for cohort in export.known_cohorts())
    earlier = days[len(days) // 2]
    export.write(folder)
    export.write(folder, earlier)
    options = export.options
    try:
        history = Files(path=folder, format=TableFormat(**options)).history()
    except ValueError as error:
        assert_helpful(error, folder)
        return "refused"
    assert not export.must_be_refused
    if earlier < export.origin:
        assert_alike(history.as_of(str(earlier)), export.expected(earlier))
    assert_alike(history.as_of(str(export.origin)), export.expected())
    return "read"


CHECKS = {"a file": check_one_file, "snapshots": check_two_snapshots}


@pytest.mark.parametrize("kind", CHECKS)
def test_numbers_come_back_or_are_refused(kind: str, tmp_path: Path) -> None:
    outcomes = run_many(CHECKS[kind], tmp_path, QUICK)
    assert outcomes["refused"] < 0.35 * outcomes.total()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_numbers_come_back_or_are_refused_in_a_long_run(kind: str, tmp_path: Path) -> None:
    outcomes = run_many(CHECKS[kind], tmp_path, LONG)
    assert outcomes["refused"] < 0.35 * outcomes.total()
