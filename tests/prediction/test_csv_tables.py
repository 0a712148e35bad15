"""CSV tables open in Excel, and their numbers have sensible digits in their old order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ltvnet.prediction.csv_tables import CsvWriter, round_money, round_significant

MONEY = st.floats(0, 2.0**40, width=32)


def test_a_table_has_the_mark_of_utf_8_once(tmp_path: Path) -> None:
    table = pa.table({"Campaign": ["여름", "NA"], "users": [1.0, None]})
    path = tmp_path / "a.csv"
    with CsvWriter(path, table.schema) as writer:
        writer.write(table)
        writer.write(table)
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and content.count(b"\xef\xbb\xbf") == 1
    frame = pd.read_csv(path, keep_default_na=False, na_values={"users": ""})
    assert list(frame) == ["Campaign", "users"]
    assert frame["Campaign"].tolist() == ["여름", "NA"] * 2
    assert frame["users"].isna().tolist() == [False, True] * 2


@given(arrays.arrays(np.float32, st.integers(0, 40), elements=MONEY))
def test_six_digits_of_any_size(values: np.ndarray) -> None:
    values = np.sort(np.where(values < 1e-30, 0, values))
    rounded = round_significant(values)
    for value, result in zip(values, rounded, strict=True):
        assert abs(float(result) - float(value)) <= 6e-6 * float(value)
        digits = str(result).partition("e")[0].replace(".", "").strip("0")
        assert len(digits) <= 6 or result >= 1e6
    assert (np.diff(rounded) >= 0).all()


def test_blanks_and_signs_stay() -> None:
    values = np.array([[np.nan, -1.23456789], [0.0, 1e-42]], np.float32)
    expected = np.array([[np.nan, -1.23457], [0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(round_significant(values), expected)
    amounts = np.array([np.nan, -1234567.891, 0.000123456789])
    np.testing.assert_array_equal(round_money(amounts), [np.nan, -1234567.89, 0.000123457])


@given(arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(0, 1e12)))
def test_money_keeps_its_cents_and_its_order(amounts: np.ndarray) -> None:
    amounts = np.sort(amounts)
    rounded = round_money(amounts)
    assert (np.abs(rounded - amounts) <= 0.005 + 1e-15 * amounts).all()
    assert (np.diff(rounded) >= 0).all()
