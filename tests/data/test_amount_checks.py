"""Users that are fractions, spend of some cohorts alone."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import curve, history, weekly_history
from factories.snapshots import export, findings_about, latest, only_finding

from ltvnet.data.amount_checks import find_fractional_users, find_missing_spend
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves, History


def curves_with_users(*users: float) -> Curves:
    days = [f"2023-01-{day:02}" for day in range(1, len(users) + 1)]
    return latest(
        history([(day, day, {}, count, curve(9)) for day, count in zip(days, users, strict=True)])
    )


def test_a_thousands_separator_read_as_a_point_is_refused() -> None:
    (finding,) = find_fractional_users(curves_with_users(1.204, 2.95, 870, 3.115))
    assert finding.severity == "refusal"
    assert "1.204" in finding.message


@pytest.mark.parametrize("users", [(12.5, 3.0, 8.25), (0.204, 0.5, 0.9), (1.2041, 7.0, 1500.0)])
def test_other_fractions_are_warned_of(users: tuple[float, ...]) -> None:
    assert [f.severity for f in find_fractional_users(curves_with_users(*users))] == ["warning"]


def test_whole_users_say_nothing() -> None:
    assert find_fractional_users(curves_with_users(1, 2000, 3)) == []


@pytest.fixture(scope="module")
def cohorts() -> History:
    """Weekly cohorts of two apps whose spend is known."""
    whole = export(weekly_history(40), "2024-01-01")
    return replace(whole, spend=whole.users * 2.0)


def with_spend(cohorts: History, spend: Floats) -> History:
    return replace(cohorts, spend=spend)


def test_spend_of_every_other_cohort_is_warned_of(cohorts: History) -> None:
    is_known = np.arange(len(cohorts)) % 3 > 0
    finding = only_finding(with_spend(cohorts, np.where(is_known, cohorts.spend, np.nan)))
    assert finding.severity == "warning"
    assert "have no spend, though others of their segment do" in finding.message


def test_a_segment_without_spend_is_warned_of(cohorts: History) -> None:
    is_known = cohorts.attributes["Apps"] != "a"
    finding = only_finding(with_spend(cohorts, np.where(is_known, cohorts.spend, np.nan)))
    assert finding.severity == "warning"
    assert "no cohort of a has spend" in finding.message


def test_organic_users_cost_nothing(cohorts: History) -> None:
    source = np.where(cohorts.attributes["Apps"] == "a", "Organic", "search").astype(object)
    organic = replace(cohorts, attributes={"Source": source}, hierarchy=("Source",))
    spend = np.where(source == "search", cohorts.spend, np.nan)
    assert findings_about(with_spend(organic, spend)) == []


def test_no_spend_at_all_says_nothing(cohorts: History) -> None:
    nothing = with_spend(cohorts, np.full(len(cohorts), np.nan))
    assert find_missing_spend(latest(nothing)) == []
