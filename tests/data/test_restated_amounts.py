"""Users and spend that the newest snapshot states otherwise than the one before it."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.snapshots import export, findings_about, join_snapshots, only_finding

from ltvnet.data.arrays import Bools
from ltvnet.data.curves import History
from ltvnet.data.history_checks import DoubtChoices, inspect_history

OLD, NEW = "2024-02-01", "2024-02-08"


def paid_history() -> History:
    history = weekly_history(56, noise=0.3)
    return replace(history, spend=history.users * 2.0)


@pytest.fixture(scope="module")
def old() -> History:
    return export(paid_history(), OLD)


@pytest.fixture(scope="module")
def new() -> History:
    return export(paid_history(), NEW)


def with_factor(history: History, name: str, factor: float, is_changed: Bools) -> History:
    """The users or spend of some cohorts (R,) times a factor."""
    changed = np.where(is_changed, getattr(history, name) * factor, getattr(history, name))
    return replace(history, **{name: np.round(changed) if name == "users" else changed})


def of_app_b(history: History) -> Bools:
    return history.attributes["Apps"] == "b"


def test_the_same_amounts_say_nothing(old: History, new: History) -> None:
    assert findings_about(join_snapshots(old, new)) == []


@pytest.mark.parametrize("name", ["users", "spend"])
@pytest.mark.parametrize("factor", [2.0, 1.3, 0.5])
def test_a_part_that_changes_is_warned_of(
    old: History, new: History, name: str, factor: float
) -> None:
    finding = only_finding(join_snapshots(old, with_factor(new, name, factor, of_app_b(new))))
    assert (finding.severity, finding.subject) == ("warning", name)
    settled = int((old.end <= np.datetime64("2024-01-04")).sum())
    assert f"{name} of {settled // 2} of {settled} cohorts" in finding.message
    expected = {2.0: "x2 ", 1.3: "x1.3 ", 0.5: "x1/2 "}[factor]
    assert f"by {expected}in the median" in finding.message


@pytest.mark.parametrize("factor", [1350.0, 1 / 1350, 100.0])
def test_spend_in_another_currency_is_refused(old: History, new: History, factor: float) -> None:
    history = join_snapshots(old, with_factor(new, "spend", factor, np.ones(len(new), dtype=bool)))
    refusals = [f for f in findings_about(history) if f.subject == "spend"]
    assert [finding.severity for finding in refusals] == ["refusal"]
    assert "data.scale=any" in refusals[0].way_out
    accepted = inspect_history(history, DoubtChoices(scale="any")).findings
    assert {finding.severity for finding in accepted} == {"warning"}


def test_spend_of_one_app_in_another_currency_is_refused(old: History, new: History) -> None:
    history = join_snapshots(old, with_factor(new, "spend", 1350.0, of_app_b(new)))
    assert [f.severity for f in findings_about(history) if f.subject == "spend"] == ["refusal"]


@pytest.mark.parametrize("name", ["users", "spend"])
def test_late_corrections_say_nothing(old: History, new: History, name: str) -> None:
    is_young = new.end > np.datetime64("2024-01-04")
    assert findings_about(join_snapshots(old, with_factor(new, name, 2.0, is_young))) == []
    everything = np.ones(len(new), dtype=bool)
    assert findings_about(join_snapshots(old, with_factor(new, name, 1.01, everything))) == []


def test_spend_that_turns_to_nothing_is_warned_of(old: History, new: History) -> None:
    finding = only_finding(join_snapshots(old, with_factor(new, "spend", 0.0, of_app_b(new))))
    assert (finding.severity, finding.subject) == ("warning", "spend")


def test_one_finding_tells_of_many_files(old: History, new: History) -> None:
    newest = export(paid_history(), "2024-02-15")
    changed = with_factor(new, "spend", 1.5, of_app_b(new))
    finding = only_finding(join_snapshots(old, changed, newest))
    assert "1 other files change it, too" in finding.message


def test_spend_that_the_newest_file_lacks_is_warned_of(old: History, new: History) -> None:
    without = replace(new, spend=np.full(len(new), np.nan))
    finding = only_finding(join_snapshots(old, without))
    assert (finding.severity, finding.subject) == ("warning", "spend")
    assert f"{NEW} has none, though {OLD} has" in finding.message
    assert findings_about(join_snapshots(replace(old, spend=without.spend), new)) == []
    unpaid = replace(old, spend=without.spend)
    assert findings_about(join_snapshots(unpaid, without)) == []


def test_users_that_the_newest_file_lacks_are_warned_of(old: History, new: History) -> None:
    history = join_snapshots(old, replace(new, users=np.ones(len(new))))
    told = [f.message for f in findings_about(history) if f.subject == "users"]
    assert told == [f"{NEW} has none, though {OLD} has: each cohort counts as one user"]
    single = [replace(part, users=np.ones(len(part))) for part in (old, new)]
    assert [f for f in findings_about(join_snapshots(*single)) if f.subject == "users"] == []
