"""The newest snapshot beside those before: cohorts that are lost, renamed, or at another scale."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.snapshots import (
    export,
    findings_about,
    join_snapshots,
    only_finding,
    rescale,
    select_cohorts,
    texts,
    with_attributes,
)

from ltvnet.data.curves import History
from ltvnet.data.history_checks import DoubtChoices, inspect_history
from ltvnet.data.vintages import Vintages, keep_newest_cohorts

OLD, NEW = "2024-01-07", "2024-01-14"


@pytest.fixture(scope="module")
def cohorts() -> History:
    """Weekly cohorts of four apps."""
    return weekly_history(50, segments=("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def old(cohorts: History) -> History:
    return export(cohorts, OLD)


@pytest.fixture(scope="module")
def new(cohorts: History) -> History:
    return export(cohorts, NEW)


def rename_apps(history: History, new_name: dict[str, str]) -> History:
    apps = [new_name.get(app, app) for app in history.attributes["Apps"]]
    return with_attributes(history, {"Apps": np.array(apps, dtype=object)})


def test_snapshots_that_follow_each_other_are_right(old: History, new: History) -> None:
    assert findings_about(join_snapshots(old, new)) == []


def test_vintages_know_when_a_cohort_was_seen(old: History, new: History) -> None:
    lost = select_cohorts(new, new.attributes["Apps"] != "a")
    vintages = Vintages.from_history(join_snapshots(old, lost))
    assert vintages.snapshots.astype(str).tolist() == [OLD, NEW]
    assert vintages.is_gone.sum() == (old.attributes["Apps"] == "a").sum()
    older, newer = vintages.successive_rows()
    assert len(older) == (old.attributes["Apps"] != "a").sum()
    assert (vintages.history.snapshot[older] == np.datetime64(OLD)).all()
    assert (vintages.history.start[older] == vintages.history.start[newer]).all()


def test_lost_cohorts_are_counted_and_named(old: History, new: History) -> None:
    lost = select_cohorts(new, new.attributes["Apps"] != "b")
    finding = only_finding(join_snapshots(old, lost))
    count = (old.attributes["Apps"] == "b").sum()
    assert finding.severity == "warning"
    assert f"{count} cohorts of {OLD}" in finding.message
    assert f"missing from {NEW}" in finding.message
    assert f"Apps 'b' is gone: {count} cohorts" in finding.message
    assert "data.dropped=drop" in finding.way_out


def test_a_window_that_moves_on_is_worth_a_note(old: History, new: History) -> None:
    moved = select_cohorts(new, new.start > new.start.min())
    finding = only_finding(join_snapshots(old, moved))
    assert finding.severity == "note"
    assert "4 older ones of 200" in finding.message


def test_files_of_new_cohorts_alone_are_warned_of(old: History, new: History) -> None:
    fresh = select_cohorts(new, new.start > np.datetime64("2023-12-01"))
    finding = only_finding(join_snapshots(old, fresh))
    assert finding.severity == "warning"
    assert "not followed as they grow older" in finding.message


def test_a_renamed_value_would_count_twice(old: History, new: History) -> None:
    history = join_snapshots(old, rename_apps(new, {"a": "a (2024)"}))
    finding = only_finding(history)
    count = (old.attributes["Apps"] == "a").sum()
    users = np.nansum(old.users[(old.attributes["Apps"] == "a") & (old.observed_age >= 0)])
    assert finding.severity == "refusal"
    assert f"{count - 1} cohorts" in finding.message or f"{count} cohorts" in finding.message
    assert f"{users:,.0f} users" in finding.message
    assert "'a' is now 'a (2024)'" in finding.message
    assert "'data.renamed={Apps: {a: \"a (2024)\"}}'" in finding.way_out


def test_a_rename_two_files_ago_still_counts_twice(
    cohorts: History, old: History, new: History
) -> None:
    new_name = {"a": "z"}
    latest = export(cohorts, "2024-01-21")
    history = join_snapshots(old, rename_apps(new, new_name), rename_apps(latest, new_name))
    assert only_finding(history).severity == "refusal"


def test_restated_users_do_not_hide_a_rename(old: History, new: History) -> None:
    restated = replace(new, users=np.round(new.users * 1.004))
    finding = only_finding(
        join_snapshots(old, rename_apps(restated, dict(zip("abcd", "wxyz", strict=True))))
    )
    assert finding.severity == "refusal"
    assert "other values of Apps" in finding.message


def test_a_column_of_another_name_would_count_twice(old: History, new: History) -> None:
    nothing = np.full(len(old), "", dtype=object)
    before = with_attributes(old, {"Apps": old.attributes["Apps"], "App": nothing})
    nothing = np.full(len(new), "", dtype=object)
    after = with_attributes(new, {"Apps": nothing, "App": new.attributes["Apps"]})
    finding = only_finding(join_snapshots(before, after))
    assert finding.severity == "refusal"
    assert "the column Apps is now called App" in finding.message


def test_a_column_that_splits_cohorts_would_count_them_twice(old: History, new: History) -> None:
    def split(history: History, system: str, share: float) -> History:
        text = np.full(len(history), system, dtype=object)
        parts = with_attributes(history, {**history.attributes, "OS": text})
        return replace(parts, users=history.users * 4 * share)

    before = split(old, "", 1.0)
    after = join_snapshots(split(new, "ios", 0.25), split(new, "android", 0.75))
    finding = only_finding(join_snapshots(before, after))
    assert finding.severity == "refusal"
    assert "only the newer file has the column OS" in finding.message
    assert "'data.attributes=[Apps]'" in finding.way_out


def test_new_cohorts_of_other_people_are_no_rename(old: History, new: History) -> None:
    others = weekly_history(50, segments=("e",), seed=7)
    fresh = export(others, NEW)
    kept = select_cohorts(new, new.attributes["Apps"] != "a")
    assert [finding.subject for finding in findings_about(join_snapshots(old, kept, fresh))] == [
        "missing cohorts"
    ]


def test_dropped_cohorts_leave_the_newest_names(old: History, new: History) -> None:
    history = join_snapshots(old, rename_apps(new, {"a": "z"}))
    kept = keep_newest_cohorts(history)
    assert set(kept.attributes["Apps"]) == {"b", "c", "d", "z"}
    inspected = inspect_history(history, DoubtChoices(dropped="drop"))
    assert [finding.severity for finding in inspected.findings] == ["note"]
    assert len(inspected.curves) == len(export(new, NEW))


@pytest.mark.parametrize(
    ("factor", "severity"), [(1350.0, "refusal"), (0.01, "refusal"), (3.0, "warning")]
)
def test_a_file_in_another_unit_than_the_one_before(
    old: History, new: History, factor: float, severity: str
) -> None:
    finding = only_finding(join_snapshots(old, rescale(new, factor)))
    assert (finding.severity, finding.subject) == (severity, "scale")


def test_a_file_with_users_in_thousands(old: History, new: History) -> None:
    history = join_snapshots(old, replace(new, users=new.users * 1000))
    assert "states the users of" in only_finding(history).message
    choices = DoubtChoices(scale="any")
    assert [finding.severity for finding in inspect_history(history, choices).findings] == [
        "warning"
    ]


@pytest.mark.parametrize(
    "choice", [{"dropped": "no"}, {"odd_dates": "believe"}, {"scale": "none"}], ids=str
)
def test_other_choices_are_refused(choice: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"expected data.{next(iter(choice))}="):
        DoubtChoices(**choice)  # type: ignore[arg-type]


def test_clean_snapshots_say_nothing(cohorts: History) -> None:
    dates = ["2023-12-24", "2023-12-31", OLD, NEW]
    assert texts(findings_about(join_snapshots(*(export(cohorts, date) for date in dates)))) == ""
