"""Purchases in random dialects: the same cohorts to the bit, or a question, never other numbers."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from factories.shop import transactions_of
from hypothesis import given, settings
from hypothesis import strategies as st

Line = tuple[int, int, int]
"""Customer, minutes since the beginning of 2023, cents."""

DATE_FORMATS = (
    "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d %H:%M", "%d.%m.%Y %H:%M",
    "%d.%m.%y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%y %I:%M %p", "%d %b %Y %H:%M",
    "%b %d, %Y %H:%M:%S", "%Y년 %m월 %d일 %H:%M", "%Y-%m-%d %H:%M:%S +0900",
)  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How an export is written."""

    separator: str
    decimal: str
    thousands: str
    currency: str
    date_format: str
    newline: str
    encoding: str
    quoting: int

    def export(self, lines: list[Line]) -> bytes:
        """Write lines as a CSV file."""
        text = io.StringIO()
        writer = csv.writer(
            text, delimiter=self.separator, quoting=self.quoting, lineterminator=self.newline
        )
        writer.writerow(["customer_id", "date", "amount"])
        for customer, minute, cents in lines:
            date = datetime(2023, 1, 1) + timedelta(minutes=minute)
            writer.writerow([customer, date.strftime(self.date_format), self.amount(cents)])
        return text.getvalue().encode(self.encoding)

    def amount(self, cents: int) -> str:
        """Write an amount of money."""
        signs = str.maketrans({",": self.thousands, ".": self.decimal})
        return f"{cents / 100:,.2f}".translate(signs) + self.currency


dialects = st.builds(
    Dialect,
    separator=st.sampled_from(",;\t|"),
    decimal=st.sampled_from(".,"),
    thousands=st.sampled_from(["", "'", " "]),
    currency=st.sampled_from(["", " EUR"]),
    date_format=st.sampled_from(DATE_FORMATS),
    newline=st.sampled_from(["\n", "\r\n", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp949"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
line_lists = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 500 * 1440), st.integers(-5_000, 3_000_000)),
    min_size=1,
    max_size=30,
)

QUESTIONS = r"data\.format\.(dates|decimal|encoding)|expected a header|no line is left"


def read_or_ask(path: Path, choices: Mapping[str, object]) -> tuple[list[str], np.ndarray] | str:
    """The cohorts of a file and their values, or the question that reading it asks."""
    try:
        history = transactions_of(path, choices).history()
    except ValueError as error:
        return str(error)
    return list(history.start.astype(str)), history.values


def check_dialect(lines: list[Line], dialect: Dialect) -> bool:
    """Check that a dialect gives the cohorts of a typed table; return whether it was read."""
    frame = pd.DataFrame(lines, columns=["customer_id", "minute", "cents"])
    date = pd.Timestamp("2023-01-01") + pd.to_timedelta(frame["minute"], unit="min")
    frame = frame.assign(date=date, amount=frame["cents"] / 100)
    with TemporaryDirectory() as name:
        folder = Path(name)
        frame[["customer_id", "date", "amount"]].to_parquet(folder / "a.parquet")
        (folder / "a.csv").write_bytes(dialect.export(lines))
        choices = {"cache": name, "period": "day", "doubtful": "keep", "until": "2026-01-01"}
        expected = read_or_ask(folder / "a.parquet", choices)
        read = read_or_ask(folder / "a.csv", choices)
    if isinstance(read, str):
        assert re.search(QUESTIONS, read), read
        return False
    assert read[0] == expected[0]
    np.testing.assert_array_equal(read[1], expected[1])
    return True


@given(line_lists, dialects)
@settings(max_examples=25, deadline=None)
def test_any_dialect_gives_the_same_cohorts_or_is_asked_about(
    lines: list[Line], dialect: Dialect
) -> None:
    check_dialect(lines, dialect)


@pytest.mark.slow
@given(line_lists, dialects)
@settings(max_examples=1000, deadline=None)
def test_many_dialects_give_the_same_cohorts_or_are_asked_about(
    lines: list[Line], dialect: Dialect
) -> None:
    check_dialect(lines, dialect)
