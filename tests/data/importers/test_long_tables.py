"""Long tables: rows of cohorts and ages become curves, and no row goes missing in silence."""

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltvnet.data.cohort_tables import Files
from ltvnet.data.curves import Curves
from ltvnet.data.importers.table_format import TableFormat

HEADER = "Date,Campaign,Users,age,revenue"


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "a_2025-03-01.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


def read(path: Path, **options: Any) -> Curves:  # noqa: ANN401
    table_format = TableFormat(**{"per": "cohort", **options})
    return Files(path=path, format=table_format).history().as_of("2025-03-01")


def test_rows_in_any_order_become_curves_per_user(tmp_path: Path) -> None:
    path = written(
        tmp_path, "2025-01-06,b,10,1,30", "2025-01-06,a,4,0,2", "2025-01-06,b,10,0,10",
        "2025-01-06,a,4,1,3",
    )  # fmt: skip
    curves = read(path)
    assert curves.attributes["Campaign"].tolist() == ["a", "b"]
    assert curves.users.tolist() == [4, 10]
    assert curves.values[:, :2].tolist() == [[0.5, 0.75], [1, 3]]
    assert read(path, per="user").values[:, :2].tolist() == [[2, 3], [10, 30]]


def test_missing_rows_are_no_change_where_a_later_age_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, *[f"2025-01-06,a,1,{age},{age + 1}" for age in (0, 1, 2, 3)],
                   "2025-01-07,b,1,1,5", "2025-01-07,b,1,3,6")  # fmt: skip
    with caplog.at_level(logging.INFO):
        curves = read(path)
    assert curves.values[1, :4].tolist() == [0, 5, 5, 6]
    assert curves.observed_age.tolist() == [3, 3]
    assert "2 missing rows between known ages, read as no change" in caplog.text


def test_increments_are_zero_up_to_the_last_day_of_any_row(tmp_path: Path) -> None:
    """The newest row is about 2025-01-12: the first cohort earned nothing on its days 3 to 6."""
    path = written(
        tmp_path, "2025-01-06,a,1,0,1", "2025-01-06,a,1,2,4", "2025-01-08,b,1,1,2",
        "2025-01-08,b,1,4,3",
    )  # fmt: skip
    curves = read(path, values="increment")
    assert curves.observed_age.tolist() == [4, 4]  # no column goes beyond age 4
    assert curves.values[:, :5].tolist() == [[1, 1, 5, 5, 5], [0, 2, 2, 2, 5]]


def test_increments_of_young_cohorts_end_on_the_last_day(tmp_path: Path) -> None:
    path = written(tmp_path, "2025-01-06,a,1,4,1", "2025-01-09,b,1,0,2")
    curves = read(path, values="increment")
    assert curves.observed_age.tolist() == [4, 1]
    assert curves.values[1, :2].tolist() == [2, 2]


def test_repeated_rows_are_refused_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "2025-01-06,a,1,0,1", "2025-01-06,b,1,0,1", "", "2025-01-06,a,1,0,2")
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert "line 2 and line 5: expected a row for each cohort and age, got two of one" in message
    assert "(by dates, Campaign) at age 0 (1 such rows)" in message


def test_users_that_differ_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, "2025-01-06,a,8,0,1", "2025-01-06,a,10,1,20", "2025-01-06,b,5,0,1")
    with caplog.at_level(logging.INFO):
        curves = read(path)
    assert curves.users.tolist() == [10, 5]
    assert curves.values[0, 1] == 2
    assert "1 cohorts whose Users differs between rows: the largest counts" in caplog.text


def test_rows_that_are_left_out_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(
        tmp_path, "2025-01-06,a,1,0,1", "2025-01-06,a,1,400,9", "2025-01-06,a,1,1,", "Total,,,,9",
        "2025-01-06,a,1,-1,9",
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        curves = read(path)
    assert curves.observed_age.tolist() == [0]
    assert "of 5 rows: 1 totals; 2 rows at ages outside 0..360" in caplog.text
    assert "1 rows without an age or a value" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2025-01-06,a,1,1.5,2", "line 3, age = '1.5': expected a whole number of days"),
        ("2025-01-06,a,1,one,2", "line 3, age = 'one': expected a plain number"),
        ("2025-01-06,a,1,1,x", "line 3, revenue = 'x': expected a plain number"),
        ("2025-01-06,a,many,1,2", "line 3, Users = 'many': expected a plain number"),
        ("soon,a,1,1,2", "line 3, Date = 'soon': expected YYYY-MM-DD"),
    ],
)
def test_faults_are_named_with_their_lines(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(written(tmp_path, "2025-01-06,a,1,0,1", line))
    assert message in str(caught.value)


def test_of_several_versions_the_newest_counts(tmp_path: Path) -> None:
    """Rows of events of one version add up; AppsFlyer restates a day by a higher version."""
    header = "app_id,conversion_type,conversion_date,days_post_attribution,event_name,media_source,"
    header += "campaign,geo,unique_users,revenue_usd,version"
    row = "app,install,2025-01-06,{age},{event},google,c,KR,{users},{money},{version}"
    path = written(
        tmp_path,
        row.format(age=0, event="purchase", users=5, money=4, version=1),
        row.format(age=0, event="purchase", users=5, money=8, version=2),
        row.format(age=0, event="ad", users=5, money=1, version=2),
        row.format(age=1, event="purchase", users=2, money=3, version=1),
        header=header,
    )
    curves = Files(path=path, format=TableFormat(preset="appsflyer_locker")).history()
    totals = curves.values[0, :2] * curves.users[0]
    assert totals.tolist() == [9, 12]


COHORTS = st.dictionaries(
    st.tuples(st.integers(0, 20), st.sampled_from("abc")),
    st.dictionaries(st.integers(0, 12), st.integers(0, 100), min_size=1),
    min_size=1,
    max_size=6,
)


@given(cohorts=COHORTS, seed=st.integers(0, 1000))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_increments_add_up(tmp_path: Path, cohorts: dict[Any, dict[int, int]], seed: int) -> None:
    """Whatever rows there are, the last value is the sum of a cohort's rows."""
    lines = [
        f"2025-01-{1 + day:02d},{name},1,{age},{money}"
        for (day, name), money_of_age in cohorts.items()
        for age, money in money_of_age.items()
    ]
    np.random.default_rng(seed).shuffle(lines)
    curves = read(written(tmp_path, *lines), values="increment")
    last_day = max(day + max(money) for (day, _), money in cohorts.items())
    last_age = max(max(money) for money in cohorts.values())
    for row, (day, name) in enumerate(sorted(cohorts)):
        money_of_age = cohorts[day, name]
        assert curves.observed_age[row] == min(last_age, last_day - day)
        assert curves.observed_value[row] == sum(money_of_age.values())
        known = curves.values[row, : curves.observed_age[row] + 1]
        steps = [later - before for before, later in pairwise([0, *known])]
        assert steps == [money_of_age.get(age, 0) for age in range(len(known))]
