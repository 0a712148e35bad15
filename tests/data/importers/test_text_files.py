"""Text files: whatever their encoding, separator and titles, every line is a row or told."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltvnet.data.importers.encodings import detect_encoding
from ltvnet.data.importers.text_files import (
    LineCounts,
    detect_dialect,
    line_numbers,
    read_text_batches,
)

ROWS = [["Date", "Campaign", "Users"], ["2024-01-01", "spring", "12"], ["2024-01-08", "#1", "7"]]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows_of(path: Path, counts: LineCounts | None = None) -> list[list[str | None]]:
    """All rows below the header, cell by cell."""
    batches = read_text_batches(path, detect_dialect(path), counts)
    return [list(row) for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("title", ["", "LTV report\n\n", "Report,March\nFrom,2024-01-01\n"])
def test_separator_and_header_are_found(tmp_path: Path, separator: str, title: str) -> None:
    text = title + "\n".join(separator.join(row) for row in ROWS)
    path = written(tmp_path / "a.csv", text)
    dialect = detect_dialect(path)
    assert dialect.separator == separator
    assert dialect.columns == ("Date", "Campaign", "Users")
    assert rows_of(path) == ROWS[1:]


def test_the_mark_of_excel_states_the_separator(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "sep=;\r\na,b;c\r\n1,2;3\r\n")
    assert rows_of(path) == [["1,2", "3"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_found(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "a.csv", "날짜,城市\n2024-01-01,Köln\n", encoding)
    assert detect_dialect(path).columns == ("날짜", "城市")
    assert rows_of(path) == [["2024-01-01", "Köln"]]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp949", ["날짜", "캠페인", "설치수", "비용"]),
        ("cp949", ["Date", "봄 이벤트", "서울", "3"]),
        ("gbk", ["日期", "活动", "用户", "费用"]),
        ("gbk", ["Date", "活动一", "活动二", "3"]),
        ("cp1252", ["Date", "Montant dépensé", "Größe", "3 €"]),
        ("cp1252", ["Date", "München", "Año", "3"]),
    ],
)
def test_older_encodings_are_told_apart(tmp_path: Path, encoding: str, words: list[str]) -> None:
    path = written(tmp_path / "a.csv", ",".join(words) + "\n1,2,3,4\n", encoding)
    assert detect_encoding(path) == encoding
    assert detect_dialect(path).columns == tuple(words)


def test_bytes_far_below_decide_the_encoding_too(tmp_path: Path) -> None:
    """The first two million bytes of this file are ASCII."""
    path = written(tmp_path / "a.csv", "a,b\n" + "1,2\n" * 500_000 + "Zürich,2\n", "cp1252")
    assert detect_encoding(path) == "cp1252"


def test_bytes_of_no_encoding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n\x81\xff\x81,2\n")
    with pytest.raises(ValueError, match="expected text in UTF-8, .*save it as 'CSV UTF-8'"):
        detect_dialect(path)


@pytest.mark.parametrize("separator", ["ab", "", "ü", '"', "7", "x"])
def test_a_separator_that_is_no_sign_is_refused(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "a.csv", "a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv: expected data\.format\.separator, one sign"):
        detect_dialect(path, separator=separator)


@pytest.mark.parametrize("separator", ["tab", "\\t", "\t"])
def test_a_tab_may_be_written_as_a_word(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "a.csv", "a,b\tc\n1,2\t3\n")
    assert detect_dialect(path, separator=separator).columns == ("a,b", "c")


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "klingon"])
@pytest.mark.parametrize("rows", [1, 300_000])
def test_a_wrong_word_for_the_encoding_is_told(tmp_path: Path, encoding: str, rows: int) -> None:
    """The letter that is not ASCII may stand behind the beginning that is looked at."""
    path = written(tmp_path / "a.csv", "a,b\n" + "1,2\n" * rows + "Zürich,2\n")
    with pytest.raises(ValueError, match=rf"a\.csv: expected text in {encoding}, see data\.format"):
        list(read_text_batches(path, detect_dialect(path, encoding=encoding)))


def test_a_damaged_gzip_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: the gzip file is cut off or damaged"):
        detect_dialect(path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_a_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.csv: expected a header"):
        detect_dialect(written(tmp_path / "a.csv", text))


def test_mixed_ends_of_lines_and_signs_of_comments_are_data(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,amount\n#N/A,1\r\n#2,2\n3,3\r\n\n")
    assert rows_of(path) == [["#N/A", "1"], ["#2", "2"], ["3", "3"]]


def test_repeated_headers_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,amount\n1,2\nid,amount\n3,4\n id , amount\n")
    counts = LineCounts()
    assert rows_of(path, counts) == [["1", "2"], ["3", "4"]]
    assert counts.repeated_headers == 2


def test_a_second_table_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,amount\n1,2\nid,amount,city\n3,4,Ulm\n")
    with pytest.raises(ValueError, match="line 3: another header, of 3 columns instead of 2"):
        rows_of(path)


def test_short_totals_are_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "day,country,spend\n2024-01-01,KR,2\nTotal: account,2\n")
    counts = LineCounts()
    assert rows_of(path, counts) == [["2024-01-01", "KR", "2"]]
    assert counts.totals == 1


def test_ragged_lines_are_refused_with_their_lines(tmp_path: Path) -> None:
    """The quoted cell of line 2 goes on to line 3."""
    path = written(tmp_path / "a.csv", 'id,name\n1,"a\nb"\n\n2,x,y\n3\n')
    with pytest.raises(ValueError, match="line 5: expected 2 cells .* got 3\n.*line 6: .* got 1"):
        rows_of(path)


def test_lines_of_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'title\n\nid,name\n1,"a\nb"\n\n2,x\n3,y\n')
    assert line_numbers(path, detect_dialect(path), [0, 1, 2]) == [5, 7, 8]


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs", "Cc"]),
    max_size=6,
)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6),
    separator=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_every_cell_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    separator: str,
    encoding: str,
) -> None:
    """Whatever cells hold, quoted as the csv module does, each row has them as they are."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    body = [(first, second, "2024-01-01", "7") for first, second in rows]
    writer.writerows([("first", "second", "date", "amount"), *body])
    path = written(tmp_path_factory.mktemp("cells") / "a.csv", text.getvalue(), encoding)
    dialect = detect_dialect(path)
    assert (dialect.separator, dialect.header_line) == (separator, 1)
    assert [[cell or "" for cell in row] for row in rows_of(path)] == [list(row) for row in body]
