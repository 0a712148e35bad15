"""Cohort tables in: formats, vintages, streams. Prediction tables out: numbers read back."""

import logging
import os
import re
import string
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from factories.configs import CONFIGS
from hydra.utils import instantiate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltvnet.data.cohort_tables import Files, write_cohorts
from ltvnet.data.curves import AGES, Curves, History
from ltvnet.data.frames import read
from ltvnet.data.importers.table_format import TableFormat

CURVES = pd.DataFrame(
    {
        "Date": ["2025-01-06~2025-01-12", "2025-01-13~2025-01-19", "2025-02-04~2025-02-10"],
        "Apps": ["한국", "NA", ""],
        "Users": [100, 50, 20],
        **{f"day_{age}": [age / 4, float(age), np.nan] for age in range(12)},
    }
)


def are_equal(first: Curves, second: Curves) -> bool:
    return (
        first.index.equals(second.index)
        and all(
            np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)
            for name in ("users", "spend", "values")
        )
        and first.series.keys() == second.series.keys()
        and all(
            np.array_equal(cells, second.series[name], equal_nan=True)
            for name, cells in first.series.items()
        )
    )


def read_curves(path: Path, **options: object) -> Curves:
    history = Files(path=path, snapshot="2025-02-10", **options).history()  # type: ignore[arg-type]
    return history.as_of("2025-02-10")


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    CURVES.to_csv(tmp_path / "a.csv", index=False)
    curves = read_curves(tmp_path / "a.csv")
    assert curves.start.astype(str).tolist() == ["2025-01-06", "2025-01-13", "2025-02-04"]
    assert curves.end.astype(str).tolist() == ["2025-01-12", "2025-01-19", "2025-02-10"]
    assert curves.attributes["Apps"].tolist() == ["한국", "NA", ""]
    assert curves.hierarchy == ("Apps",)
    assert curves.users.tolist() == [100, 50, 20]
    assert np.isnan(curves.spend).all()
    assert curves.observed_age.tolist() == [11, 11, -1]
    assert curves.values[0, :12].tolist() == [age / 4 for age in range(12)]


def variants() -> Iterator[tuple[str, bytes]]:
    plain = CURVES.to_csv(index=False)
    yield "a.csv", plain.encode("utf-8-sig")
    yield "a.csv", plain.encode("cp949")
    yield "a.csv", plain.replace("\n", "\r\n").encode()
    yield "a.csv", (plain + "\n\n").encode()
    yield "a.csv", plain.replace("\n", ",\n").encode()
    yield "a.csv", CURVES[[*CURVES.columns[:1:-1], "Apps", "Date"]].to_csv(index=False).encode()
    yield "a.csv", plain.replace(",0.25,", ", 0.25 ,").replace("~", " ~ ").encode()
    split = CURVES["Date"].str.split("~", expand=True)
    days = CURVES.drop(columns="Date").assign(cohort_start=split[0], cohort_end=split[1])
    yield "a.csv", days.to_csv(index=False).encode()


@pytest.mark.parametrize(("name", "data"), list(variants()))
def test_ways_to_write_the_same_table(tmp_path: Path, name: str, data: bytes) -> None:
    CURVES.to_csv(tmp_path / "plain.csv", index=False)
    (tmp_path / name).write_bytes(data)
    assert are_equal(read_curves(tmp_path / name), read_curves(tmp_path / "plain.csv"))


def test_types_of_parquet_columns(tmp_path: Path) -> None:
    CURVES.to_csv(tmp_path / "plain.csv", index=False)
    split = CURVES["Date"].str.split("~", expand=True)
    frame = CURVES.drop(columns="Date").astype({"Apps": "category", "day_1": "float32"})
    frame["day_2"] = frame["day_2"].map("{:.2f}".format).replace("nan", "")
    frame["cohort_start"] = pd.to_datetime(split[0])
    frame["cohort_end"] = pd.to_datetime(split[1]).dt.date
    frame["made_of"] = [[1], [2], [3]]
    frame.to_parquet(tmp_path / "a.parquet")
    assert are_equal(read_curves(tmp_path / "a.parquet"), read_curves(tmp_path / "plain.csv"))


def test_ages_are_ordered_by_number(tmp_path: Path) -> None:
    names = sorted(f"day_{age}" for age in range(12))
    assert names.index("day_10") < names.index("day_2")
    CURVES[["Date", *names]].to_csv(tmp_path / "a.csv", index=False)
    assert read_curves(tmp_path / "a.csv").values[1, :12].tolist() == list(range(12))


def test_columns_of_any_name_and_ages_are_series(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "Date,kept_day_10,kept_day_2,day_0,P_D8,active_users_day_0,kept_day_400\n"
        "2025-01-06,0.1,0.3,1,5,7,9\n2025-01-07,,0.2,1,5,0,9\n"
    )
    with caplog.at_level(logging.INFO):
        curves = read_curves(path)
    assert sorted(curves.series) == ["active_users", "kept"]
    cells = curves.series["kept"]
    assert np.argwhere(np.isfinite(cells)).tolist() == [[0, 2], [0, 10], [1, 2]]
    assert cells[0, [2, 10]].tolist() == [0.3, 0.1]
    assert curves.series["active_users"][:, 0].tolist() == [7, 0]
    assert not curves.attributes and curves.values[0, 0] == 1
    assert "not modelled (see data.attributes): P_D8" in caplog.text
    assert "further series: active_users, kept" in caplog.text
    assert "columns after day_360 are not used" in caplog.text


def test_snapshots_of_different_series(tmp_path: Path) -> None:
    (tmp_path / "x_2025-01-08.csv").write_text("Date,day_0,kept_day_1\n2025-01-06,1,0.5\n")
    (tmp_path / "x_2025-01-09.csv").write_text(
        "Date,day_0,active_day_0\n2025-01-06,1,3\n2025-01-07,1,4\n"
    )
    history = read(tmp_path)
    assert list(history.series) == ["active", "kept"]
    early, late = history.as_of("2025-01-08").series, history.as_of("2025-01-09").series
    assert early["kept"][0, 1] == 0.5 and np.isnan(early["active"]).all()
    assert np.isnan(late["kept"]).all() and late["active"][:, 0].tolist() == [3, 4]


def test_series_after_the_as_of_date_are_masked_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a_2025_01_08.csv"
    path.write_text("Date,day_0,kept_day_0,kept_day_2,kept_day_3\n2025-01-06,1,1,0.5,0.4\n")
    with caplog.at_level(logging.INFO):
        history = Files(path=path, partial="mask").history()
    assert np.flatnonzero(np.isfinite(history.series["kept"][0])).tolist() == [0, 2]
    assert "masked 1 values later than 2025-01-08" in caplog.text
    path = path.rename(tmp_path / "a.csv")
    assert read(path).last_day == np.datetime64("2025-01-09")


def test_one_day_is_a_cohort_of_one_day(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,day_0\n2025-01-06,1\n")
    curves = read_curves(tmp_path / "a.csv")
    assert curves.start == curves.end == np.datetime64("2025-01-06")


def test_without_users_each_cohort_is_one_and_late_ages_go_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = ",".join(f"day_{age}" for age in range(366))
    (tmp_path / "a.csv").write_text(f"Date,{head}\n2024-01-06{',1' * 366}\n")
    with caplog.at_level(logging.INFO):
        curves = read_curves(tmp_path / "a.csv")
    assert curves.users.tolist() == [1.0]
    assert curves.observed_age.tolist() == [360]
    assert "no column Users, so each cohort counts as one user" in caplog.text
    assert "columns after day_360 are not used" in caplog.text


def test_zero_is_data_and_empty_is_not(tmp_path: Path) -> None:
    rows = "2025-01-06,a,0,0\n2025-01-06,b,0,\n2025-01-06,c,,\n"
    (tmp_path / "a.csv").write_text(f"Date,Apps,day_0,day_1\n{rows}")
    curves = read_curves(tmp_path / "a.csv")
    assert curves.observed_age.tolist() == [1, 0, -1]
    assert curves.values[0, :2].tolist() == [0, 0]


def test_text_columns_and_the_hierarchy_are_attributes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "Date,Campaign,Team,Budget,Note,day_0\n2025-01-06,0012,red,1.5,,1\n2025-01-06,17,,2,,1\n"
    )
    with caplog.at_level(logging.INFO):
        curves = read_curves(path)
    assert {name: cells.tolist() for name, cells in curves.attributes.items()} == {
        "Campaign": ["0012", "17"],
        "Team": ["red", ""],
    }
    assert curves.hierarchy == ("Campaign",)
    assert "not modelled (see data.attributes): Budget, Note" in caplog.text
    assert [*read_curves(path, attributes=["Budget"]).attributes] == ["Campaign", "Budget"]
    assert read_curves(path, hierarchy=["Team", "Budget"]).hierarchy == ("Team", "Budget")


def test_columns_play_the_part_that_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Week,Users,Installs,network,day_0\n2025-01-06,9,5,x,1\n")
    columns = {"Date": "Week", "Users": "Installs", "Source": "network"}
    curves = read_curves(tmp_path / "a.csv", columns=columns)
    assert curves.users.tolist() == [5.0]
    assert curves.attributes["Source"].tolist() == ["x"]
    (tmp_path / "a.csv").write_text("Week,Installs,day_0\n2025-01-06,-5,1\n")
    with pytest.raises(ValueError, match=r"line 2, Installs = '-5.0'"):
        read_curves(tmp_path / "a.csv", columns={"Date": "Week", "Users": "Installs"})


def test_values_after_the_as_of_date_are_masked_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a_2025_01_16.csv"
    CURVES.head(2).to_csv(path, index=False)
    with caplog.at_level(logging.INFO):
        history = Files(path=path, partial="mask", lag_days=1).history()
    assert history.observed_age.tolist() == [3, -1]
    assert f"{path}: masked 20 values later than 2025-01-16" in caplog.text
    assert Files(path=path, partial="mask").history().observed_age.tolist() == [4, -1]


def test_a_fall_is_a_refund_or_rounding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Date,day_0,day_1\n2025-01-06,1,0.99\n")
    for options in ({"revenue": "net"}, {"rounding_tolerance": 0.011}):
        assert read_curves(tmp_path / "a.csv", **options).values[0, 1] == 0.99
    (tmp_path / "a.csv").write_text("Date,day_0,day_1\n2025-01-06,1,0.9995\n")
    assert read_curves(tmp_path / "a.csv").values[0, 1] == 0.9995


def test_the_as_of_date_of_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CURVES.to_csv(tmp_path / "a.csv", index=False)
    with caplog.at_level(logging.INFO):
        assert read(tmp_path / "a.csv").last_day == np.datetime64("2025-01-30")
    assert "a.csv: as of 2025-01-30, its last complete day (else set data.snapshot)" in caplog.text
    lagged = Files(path=tmp_path / "a.csv", lag_days=2).history()
    assert lagged.last_day == np.datetime64("2025-02-01")
    CURVES.to_csv(tmp_path / "a_2025_03_01.csv", index=False)
    assert read(tmp_path / "a_2025_03_01.csv").last_day == np.datetime64("2025-03-01")
    moved = Files(path=tmp_path / "a_2025_03_01.csv", snapshot="2025-02-20").history()
    assert moved.last_day == np.datetime64("2025-02-20")


def folder_of_snapshots(folder: Path) -> Path:
    """Cohort a is restated upwards, b is dropped, c is new and has an attribute more."""
    folder.mkdir()
    (folder / "x_2025-01-08.csv").write_text(
        "Date,Apps,day_0,day_1,day_2\n2025-01-06,a,1,2,3\n2025-01-06,b,1,2,2\n"
    )
    (folder / "x_2025-01-09.csv").write_text(
        "Date,Apps,Team,day_0,day_1,day_2,day_3\n2025-01-06,a,,1,2,6,7\n2025-01-07,c,red,1,1,1,\n"
    )
    return folder


def test_vintages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        history = read(folder_of_snapshots(tmp_path / "Files"))
    assert len(history) == 4
    latest = history.as_of("2025-01-09")
    assert latest.attributes["Apps"].tolist() == ["a", "b", "c"]
    assert latest.attributes["Team"].tolist() == ["", "", "red"]
    assert latest.observed_value.tolist() == [7, 2, 1]
    assert latest.observed_age.tolist() == [3, 2, 2]
    before = history.as_of("2025-01-08")
    assert before.observed_value.tolist() == [3, 2]
    assert "restated history:\n" in caplog.text
    assert re.search(r"2025-01-09 +1 +1 +1\.0 +1\.0", caplog.text)
    assert caplog.messages[-1].endswith("cohorts with a complete age")


def test_a_number_in_one_snapshot_is_text_where_another_has_text(tmp_path: Path) -> None:
    (tmp_path / "x_2025-01-08.csv").write_text("Date,Team,day_0\n2025-01-06,1,1\n")
    (tmp_path / "x_2025-01-09.csv").write_text("Date,Team,day_0\n2025-01-06,1,1\n2025-01-06,a,1\n")
    assert read(tmp_path).as_of("2025-01-09").attributes["Team"].tolist() == ["1", "a"]


@pytest.mark.parametrize(
    "name", ["a_2025_02_10.csv", "a_2025_02_10.csv.gz", "a_2025_02_10.parquet"]
)
@pytest.mark.parametrize("rows", [3, 5, 100])
def test_a_stream_holds_what_the_history_holds(tmp_path: Path, name: str, rows: int) -> None:
    path = tmp_path / name
    frame = pd.concat([CURVES.assign(Apps=f"app {n}", kept_day_3=n) for n in range(3, -1, -1)])
    frame.loc[frame["day_3"].isna(), "kept_day_3"] = np.nan
    if name.endswith("parquet"):
        frame.to_parquet(path, row_group_size=4)
    else:
        frame.to_csv(path, index=False)
    pieces = list(Files(path=path).curves(rows))
    assert max(map(len, pieces)) <= rows
    curves = read(path).as_of("2025-02-10")
    row = curves.index.get_indexer(pieces[0].index.append([p.index for p in pieces[1:]]))
    assert sorted(row) == list(range(12))
    values = np.concatenate([piece.values for piece in pieces])
    np.testing.assert_array_equal(values, curves.values[row])
    kept_days = np.concatenate([piece.series["kept"] for piece in pieces])
    np.testing.assert_array_equal(kept_days, curves.series["kept"][row])
    assert set(kept_days[np.isfinite(kept_days)]) == {0, 1, 2, 3}
    assert all(piece.origin == curves.origin for piece in pieces)


def test_a_stream_of_a_folder_cuts_the_newest_vintages(tmp_path: Path) -> None:
    files = Files(path=folder_of_snapshots(tmp_path / "Files"))
    latest = files.history().as_of("2025-01-09")
    pieces = list(files.curves(2))
    assert [len(piece) for piece in pieces] == [2, 1]
    assert are_equal(pieces[0], latest.take(np.arange(2)))
    assert are_equal(pieces[1], latest.take(np.arange(2, 3)))


def test_a_stream_finds_a_cohort_that_stood_in_an_earlier_piece(tmp_path: Path) -> None:
    pd.concat([CURVES, CURVES.head(1)]).to_csv(tmp_path / "a_2025_02_10.csv", index=False)
    with pytest.raises(ValueError, match=r"line 5, Date = .*expected a cohort once in a snapshot"):
        list(Files(path=tmp_path / "a_2025_02_10.csv").curves(2))


def test_a_stream_tells_of_text_after_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a_2025_02_10.csv"
    path.write_text("Date,Team,day_0\n2025-01-06,1,1\n2025-01-07,a,1\n")
    with pytest.raises(ValueError, match=r"Team had only numbers up to row 1, now text; set data"):
        list(Files(path=path).curves(1))
    pieces = list(Files(path=path, attributes=["Team"]).curves(1))
    assert [piece.attributes["Team"].tolist() for piece in pieces] == [["1"], ["a"]]


def test_cohorts_that_start_later_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x_2025_01_15.csv"
    CURVES.assign(**{f"day_{age}": np.nan for age in range(12)}).to_csv(path, index=False)
    assert [len(piece) for piece in Files(path=path).curves(1)] == [1, 1]
    assert "1 cohorts start after 2025-01-15 and are left out" in caplog.text
    caplog.clear()
    (tmp_path / "x_2025_01_14.csv").write_bytes(path.read_bytes())
    assert [len(piece) for piece in Files(path=tmp_path).curves(5)] == [2]
    assert "1 cohorts start after 2025-01-15 and are left out" in caplog.text


def test_a_stream_needs_room_for_a_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one row in a piece, got 0"):
        next(Files(path=tmp_path).curves(0))


def test_the_yaml_holds_the_defaults() -> None:
    config = CONFIGS / "data" / "files.yaml"
    values = yaml.safe_load(config.read_text())
    assert values.pop("_target_") == "ltvnet.data.cohort_tables.Files"
    assert values.pop("path") == "???"
    assert instantiate(values.pop("format")) == TableFormat()
    plain = Files(path="x")
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()} == {
        name: value for name, value in vars(plain).items() if name not in ("path", "format")
    }


def test_the_portfolio_is_read() -> None:
    data = os.environ.get("LTVNET_DATA")
    if data is None:
        pytest.skip("LTVNET_DATA does not name the folder of real data")
    path = Path(data) / "portfolio" / "curves.parquet"
    history = read(path)
    frame = pd.read_parquet(path)
    assert len(history) == len(frame) == 1507
    assert history.last_day == history.end.max() + 360
    assert history.hierarchy == ("Apps", "Source", "Country", "OS")
    np.testing.assert_array_equal(history.values, frame.filter(regex="^day_").to_numpy(float))


LETTERS = string.printable.replace("\n", "").replace("\r", "") + "é한\u2028"
ATTRIBUTE = st.text(LETTERS, max_size=6).map(str.strip)  # blanks around it make no difference
COHORT = st.tuples(
    st.dates(pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-12-31").date()),
    st.integers(0, 40),
    ATTRIBUTE,
    st.integers(0, 10**9),
    st.lists(st.floats(0, 1e6), max_size=9),
)


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(COHORT, min_size=1, max_size=6, unique_by=lambda c: c[:3]),
    st.sampled_from(["csv", "parquet"]),
)
def test_what_is_written_is_read(tmp_path: Path, cohorts: list[tuple], suffix: str) -> None:  # type: ignore[type-arg]
    start = np.array([cohort[0] for cohort in cohorts], dtype="datetime64[D]")
    end = start + np.array([cohort[1] for cohort in cohorts])
    values = np.full((len(cohorts), AGES), np.nan)
    for row, cohort in enumerate(cohorts):
        values[row, : len(cohort[4])] = np.cumsum(cohort[4])
    has_second_age = bool(np.isfinite(values[:, 1]).any())
    history = History(
        start=start,
        end=end,
        attributes={"Apps": np.array([cohort[2] for cohort in cohorts], dtype=object)},
        users=np.array([float(cohort[3]) for cohort in cohorts]),
        spend=np.full(len(cohorts), np.nan),
        values=values,
        hierarchy=("Apps",),
        lag_days=0,
        snapshot=np.full(len(cohorts), np.datetime64("2026-01-01")),
        series={"a b": np.where(np.arange(AGES) % 3 == 1, values, np.nan)}
        if has_second_age
        else {},
    )
    curves, path = history.as_of("2026-01-01"), tmp_path / f"a_20260101.{suffix}"
    write_cohorts(curves, path)
    assert are_equal(read(path).as_of("2026-01-01"), curves)


def test_a_written_table_has_the_columns_that_are_known(tmp_path: Path) -> None:
    CURVES.to_csv(tmp_path / "a.csv", index=False)
    curves = read_curves(tmp_path / "a.csv")
    write_cohorts(curves, tmp_path / "b.csv")
    names = ["Date", "Apps", "Users", *(f"day_{age}" for age in range(12))]
    assert list(pd.read_csv(tmp_path / "b.csv")) == names
    write_cohorts(curves.take(np.array([2])), tmp_path / "b.csv")
    assert list(pd.read_csv(tmp_path / "b.csv")) == names[:4]
    write_cohorts(replace(curves, spend=np.array([1.5, np.nan, 0])), tmp_path / "b.csv")
    np.testing.assert_array_equal(read_curves(tmp_path / "b.csv").spend, [1.5, np.nan, 0])


def test_blanks_and_forms_of_unicode_make_no_other_campaign(tmp_path: Path) -> None:
    """한글 is written in one way by Windows and in another by macOS."""
    decomposed = unicodedata.normalize("NFD", "한글")
    path = tmp_path / "a_2025-02-10.csv"
    path.write_text(
        f"Date,Campaign,day_0\n2025-01-06,한글,1\n2025-01-07, {decomposed} ,2\n2025-01-08,x,2\n"
    )
    assert Files(path=path).history().attributes["Campaign"].tolist() == ["한글", "한글", "x"]


def test_cohorts_that_all_begin_after_the_file_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "a_2025-02-10.csv"
    path.write_text("Date,day_0\n2026-01-06,\n2026-01-07,\n")
    with pytest.raises(ValueError, match="begun by 2025-02-10, .*first begins on 2026-01-06; are"):
        Files(path=path).history()
