"""Columns of text to numbers, with one decimal sign for all cells of all files.

`NumberEvidence` looks at the cells of all files and decides the sign, or says why it cannot;
`NumberFormat` parses with it. Cells that are plain numbers cost little more than Arrow's cast of
them; only others are looked at one by one, each distinct text once.

Shapes: N cells.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Floats
from ltvnet.data.importers.number_texts import (
    MISSING_MARKS,
    CellExample,
    DecimalSign,
    common_currencies,
    is_missing_mark,
    is_number_fault,
    take_apart,
)

_SLICE = 1 << 16  # cells that are tried together: a cell that is not plain slows down its slice

_PROBE = 256  # of them are cast first: each cell that fails costs 20 times one that does not

_GROUPED_WITH_POINT = r"^-?(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]*)?$"
_GROUPED_WITH_COMMA = r"^-?(?:[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+)(?:,[0-9]*)?$"
_GROUPED = {"point": _GROUPED_WITH_POINT, "comma": _GROUPED_WITH_COMMA}
"""Cells with a sign, thousands and a decimal part at most, which Arrow can parse by itself."""

_COMMON_MARKS = pa.array(sorted(MISSING_MARKS | {mark.upper() for mark in MISSING_MARKS} | {"NaN"}))


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a data set are written: their decimal sign."""

    decimal: DecimalSign

    def parse(self, cells: pa.ChunkedArray | pa.Array) -> tuple[Floats, Bools]:
        """Parse text cells: the numbers (N,), NaN where empty, and a mask (N,) of unreadable ones.

        Percent is divided by 100. A cell is empty when it is null or says that nothing is known,
        such as "" or "N/A"; it is unreadable when it is neither empty nor a finite number.
        """
        values = np.empty(len(cells))
        is_unreadable = np.zeros(len(cells), dtype=bool)
        begin = 0
        for piece in _slices(cells):
            rows = slice(begin, begin + len(piece))
            begin += len(piece)
            plain_values = _cast_plain(self.with_point(piece))
            if plain_values is None:
                values[rows], is_unreadable[rows] = self._parse_odd(piece)
            else:
                values[rows] = plain_values
        return values, is_unreadable

    def with_point(self, cells: pa.Array) -> pa.Array | None:
        """Return plain cells with a decimal point; None where that might change numbers."""
        if self.decimal == "point":
            return cells
        return None if b"." in _cell_bytes(cells) else pc.replace_substring(cells, ",", ".")

    def _parse_odd(self, cells: pa.Array) -> tuple[Floats, Bools]:
        """Parse cells (N,) of which some are no plain numbers."""
        cells, _ = _without_marks(cells)
        plain_values = _cast_plain(self.with_point(cells))
        if plain_values is not None:
            return plain_values, np.zeros(len(cells), dtype=bool)

        values = np.full(len(cells), np.nan)
        is_grouped = _matches(cells, _GROUPED[self.decimal])
        group_mark = "," if self.decimal == "point" else "."
        digits = pc.replace_substring(cells.filter(pa.array(is_grouped)), group_mark, "")
        digits = pc.replace_substring(digits, ",", ".")
        values[is_grouped] = digits.cast(pa.float64()).to_numpy(zero_copy_only=False)

        is_other = cells.is_valid().to_numpy(zero_copy_only=False) & ~is_grouped
        codes, texts = _distinct_texts(cells.filter(pa.array(is_other)))
        known = np.array([self._parse_text(text) for text in texts] or [np.nan])
        is_empty = np.array([is_missing_mark(text) for text in texts] or [False])
        values[is_other] = known[codes]

        is_filled = is_grouped.copy()
        is_filled[is_other] = ~is_empty[codes]
        values[np.isinf(values)] = np.nan
        return values, is_filled & np.isnan(values)

    def _parse_text(self, text: str) -> float:
        """Parse one text; NaN where it is no number with that decimal sign."""
        number = take_apart(text)
        value = number.value(self.decimal) if number else None
        return np.nan if value is None else value


@dataclass
class NumberEvidence:
    """Cells that tell how the numbers of all files are written, collected block by block.

    `with_point`, `with_comma` the first cell that is a number with that decimal sign only, and
    `ambiguous` the first that is another number with either, by its only sign: "." or ",";
    `currencies` counts cells by the sign or code of their currency, of which `currency_examples`
    has the first, `missing_marks` cells that say
    that nothing is known (not the empty ones), `percents` cells in percent.
    """

    with_point: CellExample | None = None
    with_comma: CellExample | None = None
    ambiguous: dict[str, CellExample] = field(default_factory=dict)
    currencies: Counter[str] = field(default_factory=Counter)
    currency_examples: dict[str, CellExample] = field(default_factory=dict)
    missing_marks: Counter[str] = field(default_factory=Counter)
    percents: int = 0

    @property
    def decided_sign(self) -> DecimalSign | None:
        """Decimal sign that the cells so far decide; a later cell can only contradict it."""
        if self.with_point:
            return "point"
        return "comma" if self.with_comma else None

    def add(self, cells: pa.ChunkedArray | pa.Array, where: str) -> None:
        """Look at cells of numbers (N,) of which all stand at `where`, as in "a.csv, Spend"."""
        for piece in _slices(cells):
            if self._add_if_plain(piece, where):
                continue
            filled, marks = _without_marks(piece)
            self.missing_marks.update(marks)
            if not self._add_if_plain(filled, where):
                self._add_odd(filled, where)

    def decide(self, separator: str | None, decimal: DecimalSign | None = None) -> NumberFormat:
        """Decide the decimal sign for all cells, of files whose cells the separator parts.

        A dot is the decimal sign of a file whose cells commas part, unless a cell contradicts it.
        `decimal` is the sign that the user gave, if any: then cells are not asked. Raises
        ValueError where cells contradict each other, where two numbers can be meant and no cell
        tells which, and where amounts are in several currencies.
        """
        self._check_currencies()
        if decimal:
            return NumberFormat(decimal)
        if self.with_point and self.with_comma:
            problem = f"{self.with_point} has a decimal point, {self.with_comma} a decimal comma"
            raise ValueError(
                f"expected one decimal sign in all files, but {problem}; correct them, or set "
                "data.format.decimal=point or comma, and all cells of the other kind are listed"
            )
        if self.decided_sign:
            return NumberFormat(self.decided_sign)
        if self.ambiguous and not (separator == "," and "." in self.ambiguous):
            self._refuse_ambiguous()
        return NumberFormat("point")

    def _refuse_ambiguous(self) -> None:
        """Raise ValueError for a cell that has two readings."""
        example = next(iter(self.ambiguous.values()))
        number = take_apart(example.text)
        assert number is not None
        readings = number.readings()
        raise ValueError(
            f"{example} can be {readings['point']:.15g} or {readings['comma']:.15g}, and no other "
            f"cell tells which; set data.format.decimal=point for {readings['point']:.15g}, or "
            f"data.format.decimal=comma for {readings['comma']:.15g}"
        )

    def _check_currencies(self) -> None:
        """Raise ValueError unless one currency can be meant by all signs and codes."""
        words = list(self.currencies)
        if words and not common_currencies(words):
            words = [word for word, _ in self.currencies.most_common()]
            counts = ", ".join(f"{word} in {self.currencies[word]} cells" for word in words)
            examples = " and ".join(str(self.currency_examples[word]) for word in words[:2])
            raise ValueError(
                f"expected amounts in one currency, got {counts}, such as {examples}; "
                "convert them to one, or import each currency by itself"
            )

    def _add_if_plain(self, cells: pa.Array, where: str) -> bool:
        """Note what cells tell if they are plain numbers, all with points or all with commas."""
        if _is_digits_and_points(cells) or _cast_plain(cells) is not None:
            self._add_plain(cells, ".", where)
            return True
        if _cast_plain(NumberFormat("comma").with_point(cells)) is not None:
            self._add_plain(cells, ",", where)
            return True
        return False

    def _add_plain(self, cells: pa.Array, sign: str, where: str) -> None:
        """Note what numbers tell that have at most one sign beside digits, exponent and minus."""
        is_known = self.with_point if sign == "." else self.with_comma
        if is_known or sign.encode() not in _cell_bytes(cells):
            return
        sign_pattern = re.escape(sign)
        beside_digit = rf"[0-9]{sign_pattern}|{sign_pattern}[0-9]"
        with_sign = cells.filter(pa.array(_matches(cells, beside_digit)))
        is_ambiguous = _matches(with_sign, rf"^[-+]?[1-9][0-9]{{0,2}}{sign_pattern}[0-9]{{3}}$")
        if not is_ambiguous.all():
            text = with_sign[int(np.argmin(is_ambiguous))].as_py()
            self._note_reading("point" if sign == "." else "comma", CellExample(text, where))
        elif len(is_ambiguous):
            self.ambiguous.setdefault(sign, CellExample(with_sign[0].as_py(), where))

    def _add_odd(self, cells: pa.Array, where: str) -> None:
        """Note what cells without marks of missing ones tell, of which some are not plain."""
        reads_with_point = _matches(cells, _GROUPED_WITH_POINT)
        reads_with_comma = _matches(cells, _GROUPED_WITH_COMMA)
        either_only = reads_with_point ^ reads_with_comma
        both = reads_with_point & reads_with_comma  # integers, and one sign before three digits
        if example := _first_cell(cells, either_only & reads_with_point, where):
            self._note_reading("point", example)
        if example := _first_cell(cells, either_only & reads_with_comma, where):
            self._note_reading("comma", example)
        for sign in ".,":
            if example := _first_cell(cells, both & _matches(cells, re.escape(sign)), where):
                self.ambiguous.setdefault(sign, example)

        is_other = cells.is_valid().to_numpy(zero_copy_only=False) & ~(either_only | both)
        codes, texts = _distinct_texts(cells.filter(pa.array(is_other)))
        counts = np.bincount(codes, minlength=len(texts))
        for text, count in zip(texts, counts.tolist(), strict=True):
            self._add_text(text, count, where)

    def _add_text(self, text: str, count: int, where: str) -> None:
        """Note what a text tells that stands in so many cells."""
        if is_missing_mark(text):
            self.missing_marks[text.strip()] += count
        number = take_apart(text)
        if number is None:
            return
        example = CellExample(text, where)
        self.percents += count * number.is_percent
        if number.currency:
            self.currencies[number.currency] += count
            self.currency_examples.setdefault(number.currency, example)

        readings = number.readings()
        if len(readings) == 1:
            self._note_reading(next(iter(readings)), example)
        elif readings["point"] != readings["comma"]:
            self.ambiguous.setdefault("." if "." in number.body else ",", example)

    def _note_reading(self, sign: DecimalSign, example: CellExample) -> None:
        """Keep a cell that is a number with one decimal sign only, unless there is one before."""
        if sign == "point":
            self.with_point = self.with_point or example
        else:
            self.with_comma = self.with_comma or example


def looks_numeric(texts: Sequence[str]) -> Bools:
    """Mark texts (N,) that stand where numbers do, in any dialect: "35.5%", "$3", "-", "#DIV/0!".

    >>> looks_numeric(["1.234,5", "n/a", "KR", "2025-01-06"]).tolist()
    [True, True, False, False]
    """
    is_numeric = [
        take_apart(text) is not None or is_missing_mark(text) or is_number_fault(text)
        for text in texts
    ]
    return np.array(is_numeric, dtype=bool)


def _slices(cells: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    """Yield the cells as arrays of strings that are not too long."""
    if cells.type != pa.string():
        cells = cells.cast(pa.string())
    chunks = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
    for chunk in chunks:
        for begin in range(0, len(chunk), _SLICE):
            yield chunk.slice(begin, _SLICE)


def _first_cell(cells: pa.Array, mask: Bools, where: str) -> CellExample | None:
    """Return the first cell that a mask (N,) marks, if any."""
    return CellExample(cells[int(np.argmax(mask))].as_py(), where) if mask.any() else None


def _cell_bytes(cells: pa.Array) -> bytes:
    """Return the text of all cells, one after the other."""
    _, offset_buffer, text_buffer = cells.buffers()
    if text_buffer is None:
        return b""
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)
    first, last = offsets[[cells.offset, cells.offset + len(cells)]]
    return bytes(memoryview(text_buffer)[first:last])


def _is_digits_and_points(cells: pa.Array) -> bool:
    """Return whether all cells hold digits and at most one point, which is quick to see."""
    text = _cell_bytes(cells)
    if text.translate(None, b"0123456789."):
        return False
    cells_with_point = pc.sum(pc.match_substring(cells, ".")).as_py() or 0
    return text.count(b".") == int(cells_with_point)


def _cast_plain(cells: pa.Array | None) -> Floats | None:
    """Cast cells to numbers (N,), NaN where null; None unless all others are finite numbers."""
    if cells is None or _cell_bytes(cells).translate(None, b"0123456789.-+eE"):
        return None
    try:
        cells[:_PROBE].cast(pa.float64())
        numbers = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values: Floats = numbers.to_numpy(zero_copy_only=False)
    is_finite = np.isfinite(values)
    return values if len(values) - np.count_nonzero(is_finite) == cells.null_count else None


def _without_marks(cells: pa.Array) -> tuple[pa.Array, Counter[str]]:
    """Replace marks of missing cells by nulls, and trim the rest; marks are counted if any."""
    trimmed = pc.utf8_trim_whitespace(cells)
    is_mark = pc.is_in(trimmed, value_set=_COMMON_MARKS)
    counts = Counter(
        {
            entry["values"]: entry["counts"]
            for entry in trimmed.filter(is_mark).value_counts().to_pylist()
            if entry["values"]
        }
    )
    return pc.if_else(is_mark, pa.scalar(None, pa.string()), trimmed), counts


def _matches(cells: pa.Array, pattern: str) -> Bools:
    """Mark cells (N,) in which a pattern is found; null ones are not."""
    is_match = pc.match_substring_regex(cells, pattern).fill_null(fill_value=False)
    mask: Bools = is_match.to_numpy(zero_copy_only=False)
    return mask


def _distinct_texts(cells: pa.Array) -> tuple[NDArray[np.int32], list[str]]:
    """Encode cells without nulls as codes (N,) of distinct texts."""
    encoded = cells.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
