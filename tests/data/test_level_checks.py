"""Levels that cannot be: another currency or unit, sums in place of revenue per user."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.snapshots import export, findings_about, latest, only_finding, rescale, with_totals

from ltvnet.data.curves import History
from ltvnet.data.levels import LevelSums, RecordedLevels

DAY = "2024-02-01"


@pytest.fixture(scope="module")
def history() -> History:
    return export(weekly_history(56, noise=0.3), DAY)


def with_spend(history: History, per_user: float) -> History:
    return replace(history, spend=history.users * per_user)


def test_clean_levels_say_nothing(history: History) -> None:
    assert findings_about(history) == []
    assert findings_about(with_spend(history, 2.0)) == []


@pytest.mark.parametrize(
    ("weeks", "factor"),
    [(1, 1350.0), (1, 100.0), (3, 1350.0), (3, 1 / 1350), (8, 100.0), (8, 1 / 1350)],
)
def test_newest_weeks_in_another_currency(history: History, weeks: int, factor: float) -> None:
    first = np.datetime64("2024-01-22") - 7 * (weeks - 1)
    findings = findings_about(rescale(history, factor, history.start >= first))
    assert {finding.subject for finding in findings} == {"level"}
    assert len(findings) == 2  # an app each
    assert all(f"from {first}" in finding.message for finding in findings)


def test_weeks_of_one_app_in_another_currency(history: History) -> None:
    is_odd = (history.start >= np.datetime64("2024-01-08")) & (history.attributes["Apps"] == "b")
    finding = only_finding(rescale(history, 1350.0, is_odd))
    assert "Apps 'b'" in finding.message


def test_the_first_weeks_at_another_level(history: History) -> None:
    day = np.datetime64("2023-02-27")
    findings = findings_about(rescale(history, 50.0, history.start < day))
    assert all(f"before {day}" in finding.message for finding in findings)
    assert len(findings) == 2


def test_weeks_without_revenue_are_told(history: History) -> None:
    day = np.datetime64("2023-04-03")
    findings = findings_about(rescale(history, 0.0, history.start < day))
    assert {finding.subject for finding in findings} == {"level"}
    assert "empty their cells" in findings[0].way_out


def test_a_level_that_doubles_is_a_season(history: History) -> None:
    assert findings_about(rescale(history, 2.0, history.start >= np.datetime64("2024-01-01"))) == []


@pytest.mark.parametrize("factor", [1000.0, 100.0, 1e6])
def test_one_cohort_in_another_unit_is_named(history: History, factor: float) -> None:
    is_odd = np.arange(len(history)) == 40 + int(np.argmax(history.users[40:60]))
    finding = only_finding(rescale(history, factor, is_odd))
    row = int(np.argmax(is_odd))
    assert finding.severity == "warning"
    assert f"{history.attributes['Apps'][row]} of {history.start[row]}" in finding.message


def test_sums_are_told_by_spend(history: History) -> None:
    findings = findings_about(with_spend(with_totals(history), 2.0))
    assert [finding.severity for finding in findings] == ["refusal", "warning"]
    assert "data.format.per=cohort" in findings[0].way_out


def test_sums_are_told_by_users_alone(history: History) -> None:
    finding = only_finding(with_totals(history))
    assert "looks like revenue of a cohort" in finding.message


@pytest.mark.parametrize(("per_user", "severity"), [(1e5, "refusal"), (5e3, "warning")])
def test_spend_in_another_currency(history: History, per_user: float, severity: str) -> None:
    assert only_finding(with_spend(history, per_user)).severity == severity


@pytest.mark.parametrize(("factor", "count"), [(1350.0, 1), (30.0, 0)])
def test_a_segment_in_another_currency(history: History, factor: float, count: int) -> None:
    is_b = history.attributes["Apps"] == "b"
    paid = with_spend(rescale(history, factor, is_b), 2.0)
    odd = replace(paid, spend=np.where(is_b, paid.spend * factor, paid.spend))
    messages = [f.message for f in findings_about(odd) if f.subject == "level"]
    assert len(messages) == count
    assert all("Apps 'b' has x" in message for message in messages)


def test_cohorts_that_have_not_ended_have_no_levels(history: History) -> None:
    begun = replace(
        history,
        end=np.full(len(history), np.datetime64("2024-02-20")),
        values=np.full_like(history.values, np.nan),
    )
    assert [f for f in findings_about(begun) if f.subject == "level"] == []


def test_a_segment_of_high_revenue_alone_is_right(history: History) -> None:
    paid = with_spend(history, 2.0)
    odd = rescale(paid, 1350.0, history.attributes["Apps"] == "b")
    assert [f for f in findings_about(odd) if f.subject == "level"] == []


def test_no_revenue_at_all_is_no_absurd_return(history: History) -> None:
    assert findings_about(with_spend(rescale(history, 0.0), 2.0)) == []


def test_levels_of_pieces_add_up(history: History) -> None:
    curves = latest(history)
    whole = LevelSums.from_curves(curves, "Apps")
    half = len(curves) // 2
    parts = [curves.take(np.arange(half)), curves.take(np.arange(half, len(curves)))]
    first, second = (LevelSums.from_curves(part, "Apps") for part in parts)
    np.testing.assert_allclose(first.add(second).levels(), whole.levels(), rtol=1e-9)


def test_a_record_of_levels_is_read_back(history: History) -> None:
    sums = LevelSums.from_curves(latest(history), "Apps")
    recorded = RecordedLevels.from_record(sums.record())
    np.testing.assert_array_equal(recorded.segments["level"], sums.levels()["level"])
    np.testing.assert_array_equal(recorded.total["level"], sums.total()["level"])
    assert recorded.attribute == "Apps"


def test_a_level_is_revenue_over_users(history: History) -> None:
    curves = latest(history)
    is_known = (curves.observed_age >= 7) & (curves.attributes["Apps"] == "a")
    users = curves.users[is_known]
    expected = (users * curves.values[is_known, 7]).sum() / users.sum()
    levels = LevelSums.from_curves(curves, "Apps").levels()
    assert levels["level"][("a", 7)] == pytest.approx(expected)
