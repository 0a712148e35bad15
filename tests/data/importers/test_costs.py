"""Cost joined to cohorts: sums of their own days and attributes, and what is left over said."""

from collections.abc import Sequence

import numpy as np
import pytest
from factories.cohorts import curve, history

from ltvnet.data.curves import History
from ltvnet.data.importers.costs import Costs, join_costs

Row = tuple[str, str, str, float]
"""First and last day, campaign and spend of a row of cost."""


def costs_of(rows: Sequence[Row], first: str = "2024-01-01", last: str = "2024-01-31") -> Costs:
    count = len(rows)
    return Costs(
        source="cost.csv",
        start=np.array([row[0] for row in rows], dtype="datetime64[D]"),
        end=np.array([row[1] for row in rows], dtype="datetime64[D]"),
        attributes={"Campaign": np.array([row[2] for row in rows], dtype=object)},
        spend=np.array([row[3] for row in rows]),
        file_start=np.full(count, np.datetime64(first)),
        file_end=np.full(count, np.datetime64(last)),
    )


def days(campaign: str, first: str, count: int, spend: float = 1.0) -> list[Row]:
    start = np.datetime64(first)
    return [(str(start + day), str(start + day), campaign, spend) for day in range(count)]


def cohorts_of(*keys: tuple[str, str, dict[str, str]]) -> History:
    return history([(*key, 10.0 * (row + 1), curve(20)) for row, key in enumerate(keys)])


TWO_WEEKS = cohorts_of(
    ("2024-01-01", "2024-01-07", {"Campaign": "a"}),
    ("2024-01-08", "2024-01-14", {"Campaign": "a"}),
    ("2024-01-01", "2024-01-07", {"Campaign": "b"}),
)


def test_days_of_a_week_add_up() -> None:
    """A row of the day before or after belongs to another cohort."""
    rows = [*days("a", "2024-01-01", 15), *days("b", "2024-01-07", 2, spend=5.0)]
    joined, report = join_costs(TWO_WEEKS, costs_of(rows), spread=False)
    assert joined.spend.tolist() == [7.0, 7.0, 5.0]
    assert (report.cost, report.cost_without_cohort) == (25.0, 6.0)
    assert (report.cohorts, report.cohorts_without_cost) == (3, 0)


def test_what_is_unknown_is_not_zero() -> None:
    rows = [*days("a", "2024-01-01", 6, spend=0.0), *days("a", "2024-01-08", 1, spend=np.nan)]
    joined, report = join_costs(TWO_WEEKS, costs_of(rows), spread=False)
    np.testing.assert_array_equal(joined.spend, [0.0, np.nan, np.nan])
    assert report.cohorts_without_cost == 2 and report.users_without_cost == 50.0


def test_a_cohort_beyond_the_days_of_the_file_is_unknown() -> None:
    """Spend of half of a week is not the spend of the week."""
    rows = days("a", "2024-01-01", 10)
    joined, _ = join_costs(TWO_WEEKS, costs_of(rows, last="2024-01-10"), spread=False)
    np.testing.assert_array_equal(joined.spend, [7.0, np.nan, np.nan])


def test_case_and_blanks_do_not_matter() -> None:
    joined, _ = join_costs(TWO_WEEKS, costs_of(days(" A ", "2024-01-01", 7)), spread=False)
    assert joined.spend[0] == 7.0


def test_vintages_of_a_cohort_have_its_spend() -> None:
    rows = [("2024-01-01", "2024-01-01", {"Campaign": "a"}, 10.0, curve(last)) for last in (0, 1)]
    vintages = history(rows, snapshots=["2024-01-02", "2024-01-03"])
    joined, report = join_costs(vintages, costs_of(days("a", "2024-01-01", 1)), spread=False)
    assert joined.spend.tolist() == [1.0, 1.0] and report.cohorts == 1


def test_cost_of_several_cohorts_is_refused() -> None:
    """It is not known which of them it bought."""
    keys = [("2024-01-01", "2024-01-01", {"Campaign": "a", "OS": os}) for os in ("ios", "android")]
    message = "spend of 2 cohorts at once .* as they differ in OS; export the cost by that too"
    with pytest.raises(ValueError, match=message):
        join_costs(cohorts_of(*keys), costs_of(days("a", "2024-01-01", 1)), spread=False)


def test_a_row_of_the_days_of_one_cohort_is_its_spend() -> None:
    rows = [("2024-01-01", "2024-01-07", "a", 70.0)]
    joined, _ = join_costs(TWO_WEEKS, costs_of(rows), spread=False)
    assert joined.spend[0] == 70.0


def test_a_month_is_spread_only_if_said() -> None:
    rows = [("2024-01-01", "2024-01-31", "a", 62.0)]
    with pytest.raises(ValueError, match=r"expected cost by day.*data\.cost_spread=true"):
        join_costs(TWO_WEEKS, costs_of(rows), spread=False)
    joined, report = join_costs(TWO_WEEKS, costs_of(rows), spread=True)
    np.testing.assert_array_equal(joined.spend, [14.0, 14.0, np.nan])
    assert report.cost_without_cohort == pytest.approx(34.0)


def test_names_that_never_meet_are_refused_with_both() -> None:
    message = r"Campaign: cost \['c'\] \.\.\., cohorts \['a', 'b'\]"
    with pytest.raises(ValueError, match=message):
        join_costs(TWO_WEEKS, costs_of(days("c", "2024-01-01", 7)), spread=False)


def test_the_report_names_the_largest_stray() -> None:
    rows = [*days("a", "2024-01-01", 7), *days("brand", "2024-01-01", 1, spend=93.0)]
    _, report = join_costs(TWO_WEEKS, costs_of(rows), spread=False)
    assert report.describe() == (
        "cost joined by dates and Campaign: 93.00 of 100.00 (93.0%) belongs to no cohort, such as"
        " brand; 2 of 3 cohorts, with 83.3% of users, have no known spend"
    )


def test_cost_by_more_than_the_cohorts_have_adds_up() -> None:
    costs = costs_of([*days("a", "2024-01-01", 7), *days("b", "2024-01-01", 7)])
    without = cohorts_of(("2024-01-01", "2024-01-07", {"Apps": "x"}))
    joined, _ = join_costs(without, costs, spread=False)
    assert joined.spend.tolist() == [14.0]
