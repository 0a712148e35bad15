"""Cost of advertising, joined to cohorts as their spend.

Shapes: R rows of cost, N cohorts or vintages of them.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ltvnet.data.arrays import (
    ONE_DAY,
    Bools,
    Categorical,
    Days,
    Floats,
    Ints,
    Strings,
    factorize,
    key_ranks,
)
from ltvnet.data.curves import History

_DAY_NUMBERS = 1 << 32  # more than there are days, so that groups do not overlap


@dataclass(frozen=True)
class Costs:
    """Rows of cost of advertising: (R,) each.

    `start`, `end` first and last day that a row is about; `attributes` name -> text, "" where
    unknown; `spend` NaN where unknown, which is not zero; `file_start`, `file_end` the days that
    the file of a row is about; `source` names the files in messages. Raises ValueError when a row
    ends before it starts.
    """

    source: str
    start: Days
    end: Days
    attributes: Mapping[str, Strings]
    spend: Floats
    file_start: Days
    file_end: Days

    def __post_init__(self) -> None:
        """Check the dates."""
        if (self.end < self.start).any():
            row = int(np.argmax(self.end < self.start))
            period = f"{self.start[row]}~{self.end[row]}"
            raise ValueError(f"{self.source}: expected a period, got {period}, which is reversed")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.start)

    def take(self, rows: Ints) -> "Costs":
        """Select rows."""
        return replace(
            self,
            start=self.start[rows],
            end=self.end[rows],
            attributes={name: text[rows] for name, text in self.attributes.items()},
            spend=self.spend[rows],
            file_start=self.file_start[rows],
            file_end=self.file_end[rows],
        )

    def spread_over_days(self) -> "Costs":
        """Divide each row evenly among its days."""
        day_count = ((self.end - self.start) / ONE_DAY).astype(np.int64) + 1
        rows = np.repeat(np.arange(len(self)), day_count)
        row_begins = np.repeat(np.cumsum(day_count) - day_count, day_count)
        day = self.start[rows] + (np.arange(len(rows)) - row_begins)
        spend = (self.spend / day_count)[rows]
        return replace(self.take(rows), start=day, end=day, spend=spend)

    @property
    def total(self) -> float:
        """Sum of all that is known."""
        return float(np.nansum(self.spend))


@dataclass(frozen=True)
class SpendReport:
    """How costs met cohorts.

    `names` the attributes that they share; `cost`, `cost_without_cohort` money in all and of rows
    without a cohort; `cohorts`, `cohorts_without_cost` numbers of cohorts; `users`,
    `users_without_cost` in them; `stray` the largest campaigns or the like without a cohort.
    """

    names: tuple[str, ...]
    cost: float
    cost_without_cohort: float
    cohorts: int
    cohorts_without_cost: int
    users: float
    users_without_cost: float
    stray: tuple[str, ...]

    def describe(self) -> str:
        """Say it in two sentences with shares."""
        shared = f"by dates and {', '.join(self.names)}" if self.names else "by dates alone"
        stray = f", such as {', '.join(self.stray)}" if self.stray else ""
        return (
            f"cost joined {shared}: {self.cost_without_cohort:,.2f} of {self.cost:,.2f}"
            f" ({_share(self.cost_without_cohort, self.cost)}) belongs to no cohort{stray};"
            f" {self.cohorts_without_cost:,} of {self.cohorts:,} cohorts, with"
            f" {_share(self.users_without_cost, self.users)} of users, have no known spend"
        )


def _share(part: float, whole: float) -> str:
    """Write a part of a whole in percent."""
    return f"{part / whole if whole else 0.0:.1%}"


def join_costs(history: History, costs: Costs, *, spread: bool) -> tuple[History, SpendReport]:
    """Give cohorts the costs of their days and attributes as spend, in place of any they had.

    A cohort's spend is the sum of the rows whose days lie in its acquisition days and that agree in
    all attributes which both have; NaN where there is no row, one is unknown, or its file does not
    cover the cohort's days. `spread` divides rows of several days evenly among them. Raises
    ValueError when no row has a cohort, a row would count for several cohorts, or a row reaches
    beyond the days of its cohort.
    """
    if spread:
        costs = costs.spread_over_days()
    names = _shared_names(history, costs)
    group_of_row, group_of_cohort = _group_by_text(history, costs, names)

    by_group_and_day = np.lexsort((costs.start, group_of_row))
    costs = costs.take(by_group_and_day)
    order = _order_of_days(group_of_row[by_group_and_day], costs.start)
    first = np.searchsorted(order, _order_of_days(group_of_cohort, history.start))
    last = np.searchsorted(order, _order_of_days(group_of_cohort, history.end), side="right")

    _, cohorts = np.unique(history.key_rank, return_index=True)  # a vintage of each
    cohorts_of_row = _count_cohorts(first[cohorts], last[cohorts], len(costs))
    if not (cohorts_of_row > 0).any():
        raise ValueError(_explain_no_match(history, costs, names))
    _refuse_shared_rows(history, costs, cohorts_of_row, names)
    _refuse_long_rows(history, costs, first, last, cohorts)

    spend = _sum_rows(history, costs, first, last)
    is_unknown = np.isnan(spend)[cohorts]
    users = history.users[cohorts]
    report = SpendReport(
        names=names,
        cost=costs.total,
        cost_without_cohort=float(np.nansum(costs.spend[cohorts_of_row == 0])),
        cohorts=len(cohorts),
        cohorts_without_cost=int(is_unknown.sum()),
        users=float(np.nansum(users)),
        users_without_cost=float(np.nansum(users[is_unknown])),
        stray=_largest_without_cohort(costs, cohorts_of_row == 0, names),
    )
    return replace(history, spend=spend), report


def _comparable_text(text: str) -> str:
    """Write a value so that case, blanks at the ends and forms of Unicode do not matter."""
    return unicodedata.normalize("NFC", text).strip().casefold()


def _shared_names(history: History, costs: Costs) -> tuple[str, ...]:
    """List the attributes that cohorts and costs have, but for those without any text."""
    candidates = [name for name in history.attributes if name in costs.attributes]
    return tuple(name for name in candidates if (costs.attributes[name] != "").any())


def _group_by_text(history: History, costs: Costs, names: tuple[str, ...]) -> tuple[Ints, Ints]:
    """Number the combinations of attributes: of each row of cost (R,), of each cohort (N,)."""
    columns = []
    for name in names:
        row_codes, row_values = factorize(costs.attributes[name])
        cohort_codes, cohort_values = history.attribute_codes[name]
        texts = [_comparable_text(str(text)) for text in (*row_values, *cohort_values)]
        code_of_value, distinct = pd.factorize(np.array(texts, dtype=object))
        codes = np.concatenate([row_codes, cohort_codes + len(row_values)])
        columns.append(Categorical(code_of_value[codes].astype(np.int64), distinct))

    row_count = len(costs)
    ranks = np.zeros(row_count + len(history), dtype=np.int64)
    if columns:
        _, ranks = np.unique(key_ranks(columns), return_inverse=True)
    return ranks[:row_count], ranks[row_count:]


def _order_of_days(group: Ints, day: Days) -> Ints:
    """Number days within groups so that both can be searched at once."""
    day_number = day.astype("datetime64[D]").astype(np.int64)
    order: Ints = group * _DAY_NUMBERS + day_number
    return order


def _count_cohorts(first: Ints, last: Ints, rows: int) -> Ints:
    """Count the cohorts to which each row of cost belongs: (R,)."""
    change = np.zeros(rows + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    return np.cumsum(change)[:-1]


def _describe_row(costs: Costs, row: int, names: tuple[str, ...]) -> str:
    """Say which row of cost it is."""
    text = [f"{name}={costs.attributes[name][row]}" for name in names]
    start = str(costs.start[row])
    period = start if costs.start[row] == costs.end[row] else f"{start}~{costs.end[row]}"
    return f"{costs.spend[row]:,.2f} of {', '.join([period, *text])}"


def _refuse_shared_rows(
    history: History, costs: Costs, cohorts_of_row: Ints, names: tuple[str, ...]
) -> None:
    """Raise ValueError where a row of cost belongs to several cohorts."""
    is_shared = cohorts_of_row > 1
    if not is_shared.any():
        return
    row = int(np.argmax(is_shared))
    others = [name for name in history.attributes if name not in names]
    differ = f"they differ in {', '.join(others)}" if others else "their days overlap"
    raise ValueError(
        f"{costs.source}: {_describe_row(costs, row, names)} would be the spend of"
        f" {cohorts_of_row[row]} cohorts at once ({int(is_shared.sum()):,} such rows), as {differ};"
        " export the cost by that too, or the cohorts without it"
    )


def _refuse_long_rows(
    history: History, costs: Costs, first: Ints, last: Ints, cohorts: Ints
) -> None:
    """Raise ValueError where a row of several days reaches beyond the days of its cohort."""
    row_count = last[cohorts] - first[cohorts]
    cohort = np.repeat(cohorts, row_count)
    begin = np.repeat(np.cumsum(row_count) - row_count, row_count)
    row = np.arange(len(cohort)) - begin + np.repeat(first[cohorts], row_count)

    is_inside = costs.start == costs.end  # (R,)
    is_inside[row] |= costs.end[row] <= history.end[cohort]
    if is_inside.all():
        return
    bad_row = int(np.argmin(is_inside))
    raise ValueError(
        f"{costs.source}: expected cost by day, or within the days of one cohort, got"
        f" {_describe_row(costs, bad_row, ())} ({int((~is_inside).sum()):,} such rows); export it"
        " by day, or say data.cost_spread=true to divide it evenly among its days"
    )


def _sum_rows(history: History, costs: Costs, first: Ints, last: Ints) -> Floats:
    """Sum the rows first..last of each cohort: (N,), NaN where its spend is not known."""
    if not len(costs):
        return np.full(len(history), np.nan)
    bounds = np.stack([first, last], axis=1).ravel()
    spend = np.add.reduceat(np.append(costs.spend, 0.0), bounds)[::2]

    no_day = np.datetime64("1970-01-01", "D")
    covered_from = np.minimum.reduceat(np.append(costs.file_start, no_day), bounds)[::2]
    covered_to = np.maximum.reduceat(np.append(costs.file_end, no_day), bounds)[::2]
    is_known = (last > first) & (covered_from <= history.start) & (history.end <= covered_to)
    return np.where(is_known, spend, np.nan)


def _largest_without_cohort(
    costs: Costs, is_stray: Bools, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Name up to three combinations of attributes that have most of the cost without a cohort."""
    if not names or not is_stray.any():
        return ()
    texts = pd.DataFrame({name: costs.attributes[name][is_stray] for name in names})
    label = texts.agg(" / ".join, axis=1)
    spend = pd.Series(costs.spend[is_stray]).groupby(label.to_numpy()).sum()
    return tuple(spend.sort_values(ascending=False, kind="stable").index[:3])


def _explain_no_match(history: History, costs: Costs, names: tuple[str, ...]) -> str:
    """Explain that no row of cost has a cohort, with values of both."""
    lines = [
        f"{costs.source}: expected cost of some cohort, got none that agrees in"
        f" {', '.join(['dates', *names])}",
        f"dates: cost {costs.start.min()} to {costs.end.max()},"
        f" cohorts {history.start.min()} to {history.end.max()}",
    ]
    for name in names:
        of_cost = sorted(set(costs.attributes[name]))[:3]
        of_cohorts = list(history.attribute_codes[name].values[:3])
        lines.append(f"{name}: cost {of_cost} ..., cohorts {of_cohorts} ...")
    return "; ".join([*lines, "make the names alike in both"])
