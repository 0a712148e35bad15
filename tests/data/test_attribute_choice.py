"""Which columns of text are attributes, and what is said of those that are not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history

from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import History


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """A table of weekly cohorts of two apps."""
    write_cohorts(weekly_history(30).as_of("2024-02-01"), tmp_path / "a.csv")
    return pd.read_csv(tmp_path / "a.csv")


def add_column(frame: pd.DataFrame, name: str, values: Sequence[str] | str) -> pd.DataFrame:
    """A table with a further column."""
    column = pd.Series(values, index=frame.index, name=name, dtype=object)
    return pd.concat([frame, column], axis=1)


def read(folder: Path, *frames: pd.DataFrame, **options: object) -> History:
    """The history of exports a week apart, each a table."""
    (folder / "Files").mkdir(exist_ok=True)
    for week, frame in enumerate(frames):
        date = np.datetime64("2024-02-01") + 7 * week
        frame.to_csv(folder / "Files" / f"x_{date}.csv", index=False)
    return Files(path=folder / "Files", **options).history()  # type: ignore[arg-type]


def test_all_columns_of_text_are_attributes(tmp_path: Path, frame: pd.DataFrame) -> None:
    history = read(
        tmp_path,
        add_column(frame, "Team", ["red" if app == "a" else "blue" for app in frame["Apps"]]),
    )
    assert sorted(history.attributes) == ["Apps", "Team"]


@pytest.mark.parametrize(
    "values",
    [
        [f"{share:.1f}%" for share in np.linspace(3, 90, 60)],
        [f"₩{amount}" for amount in range(60)],
        [f"{share:.1f} %" for share in np.repeat([3.0, 4.0], 30)],
        [f"adset {number}" for number in range(60)],
    ],
    ids=["percent", "won", "few percentages", "a name a row"],
)
def test_columns_that_are_no_attributes_are_left_out(
    tmp_path: Path, frame: pd.DataFrame, values: list[str]
) -> None:
    history = read(tmp_path, add_column(frame, "Extra", values))
    assert sorted(history.attributes) == ["Apps"]
    kept = read(tmp_path, add_column(frame, "Extra", values), attributes=["Apps", "Extra"])
    assert sorted(kept.attributes) == ["Apps", "Extra"]


def test_what_is_left_out_is_told(
    tmp_path: Path, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    read(tmp_path, add_column(frame, "Ad set", [f"ad set {number}" for number in range(60)]))
    assert "attributes: Ad set has 60 values in 60 rows: left out" in caplog.text
    assert "'data.attributes=[Apps,\"Ad set\"]' keeps it" in caplog.text


def test_a_column_that_makes_the_key_is_an_attribute(tmp_path: Path, frame: pd.DataFrame) -> None:
    """Campaigns of a week each have nearly a value a row, and cohorts are told apart by them."""
    twice = pd.concat([add_column(frame, "Ad", [f"ad {n}" for n in range(60)]),
                       add_column(frame, "Ad", [f"other {n}" for n in range(60)])])  # fmt: skip
    assert sorted(read(tmp_path, twice).attributes) == ["Ad", "Apps"]


def test_a_column_that_changes_between_files_is_left_out(
    tmp_path: Path, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    history = read(
        tmp_path, add_column(frame, "Status", "active"), add_column(frame, "Status", "paused")
    )
    assert len(history.as_of(history.last_day)) == 60
    assert "Status changes between files in 60 of 60 cohorts ('active' to 'paused')" in caplog.text


def test_a_column_in_newer_files_only_is_left_out(
    tmp_path: Path, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    history = read(tmp_path, frame, add_column(frame, "Team", "red"))
    assert len(history.as_of(history.last_day)) == 60
    assert "Team stands in newer files only" in caplog.text


def test_values_that_were_renamed_get_their_new_names(tmp_path: Path, frame: pd.DataFrame) -> None:
    renamed = frame.replace({"Apps": {"a": "a2"}})
    with pytest.raises(ValueError, match=r"'data.renamed=\{Apps: \{a: a2\}\}'"):
        read(tmp_path, frame, renamed)
    history = read(tmp_path, frame, renamed, renamed={"Apps": {"a": "a2"}})
    assert set(history.attributes["Apps"]) == {"a2", "b"}
    assert len(history) == 120
    assert len(history.as_of(history.last_day)) == 60


@pytest.mark.parametrize("renamed", [{"App": {"a": "z"}}, {"Apps": {"q": "z"}}], ids=str)
def test_names_that_are_not_there_are_not_renamed(
    tmp_path: Path, frame: pd.DataFrame, renamed: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(ValueError, match="data.renamed names .* which no table has"):
        read(tmp_path, frame, renamed=renamed)


def test_a_hierarchy_that_is_not_there_is_refused(tmp_path: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"names App, which no table has: did you mean Apps\?"):
        read(tmp_path, frame, hierarchy=["App"])
    with pytest.raises(ValueError, match="names Network, which no table has"):
        read(tmp_path, frame, hierarchy=["Network", "Apps"])


def test_a_hierarchy_of_one_name_may_be_text(tmp_path: Path, frame: pd.DataFrame) -> None:
    assert read(tmp_path, frame, hierarchy="Apps").hierarchy == ("Apps",)


def test_no_usual_name_at_all_is_warned_of(
    tmp_path: Path, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    history = read(tmp_path, frame.rename(columns={"Apps": "Product line"}))
    assert history.hierarchy == ()
    assert "all cohorts are one segment" in caplog.text
    assert """'data.hierarchy=["Product line"]'""" in caplog.text


def spell(frame: pd.DataFrame, value: str, share: float) -> pd.DataFrame:
    """A table in which app b has another name in the newest cohorts, a share of all."""
    is_new = np.arange(len(frame)) >= (1 - share) * len(frame)
    return frame.assign(Apps=frame["Apps"].mask(is_new & (frame["Apps"] == "b"), value))


def spelling_texts(folder: Path, *frames: pd.DataFrame, **options: object) -> list[str]:
    """What is said of spellings in exports a week apart."""
    read(folder, *frames, dropped="drop", **options)
    findings = Files(path=folder / "Files", **options).inspect().findings  # type: ignore[arg-type]
    return [finding.as_text() for finding in findings if finding.subject == "spelling"]


@pytest.mark.parametrize("value", ["B", "b ", " b", "B  "])
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_spellings_within_a_file_are_told_with_the_way_out(
    tmp_path: Path, frame: pd.DataFrame, value: str, share: float
) -> None:
    odd = spell(frame, value, share)
    if value.strip() == "b":  # blanks around a value are no part of it
        assert spelling_texts(tmp_path, odd) == []
        return
    (text,) = spelling_texts(tmp_path, odd)
    assert "'data.renamed={Apps: {B: b}}'" in text
    assert spelling_texts(tmp_path, odd, renamed={"Apps": {value.strip(): "b"}}) == []


def test_the_spelling_of_the_newest_file_is_advised(tmp_path: Path, frame: pd.DataFrame) -> None:
    before = frame.assign(Apps=frame["Apps"].replace("b", "My  app"))
    after = frame.assign(Apps=frame["Apps"].replace("b", "my app"))
    (text,) = spelling_texts(tmp_path, before, after, renamed={})
    assert '\'data.renamed={Apps: {"My  app": "my app"}}\'' in text


def test_other_values_are_no_spellings(tmp_path: Path, frame: pd.DataFrame) -> None:
    assert spelling_texts(tmp_path, frame) == []
    assert spelling_texts(tmp_path, spell(frame, "b_2", 0.3)) == []
