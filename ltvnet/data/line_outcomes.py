"""Outcomes of purchase lines: the rule that leaves each one out, or that none does.

The lines are the relation `cells` of a database, with the columns wanted, customer, moment, day
and amount.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import duckdb
import numpy as np
import pandas as pd

from ltvnet.data.arrays import Days, Ints

Refunds = Literal["gross", "net"]

REFUND_RULES: Mapping[Refunds, str] = {"gross": "amount >= 0", "net": "true"}
"""Which lines count, as SQL."""

KNOWN = "wanted AND customer IS NOT NULL"
"""Lines that are wanted and have a customer, as SQL."""

HAS_MOMENT = "coalesce(isfinite(moment), false)"
HAS_AMOUNT = "coalesce(isfinite(amount), false)"

_OUTCOMES = ("where", "customer", "date", "amount", "until", "refunds", "left")
"""Outcomes of a line, by their number in SQL: the rule that leaves it out, a bad cell, or kept."""

_FIRST_DATED = _OUTCOMES.index("until")


@dataclass(frozen=True)
class LineOutcomes:
    """Numbers of lines by outcome and day.

    `table` has the columns rule, day (since 1970, of lines that have a date), lines, and the
    largest and the least amount that is not zero, of either sign.
    """

    table: pd.DataFrame

    @classmethod
    def of_cells(
        cls, connection: duckdb.DuckDBPyConnection, refunds: Refunds, last_day: str
    ) -> "LineOutcomes":
        """Count the lines of `cells` up to a last day, given in SQL."""
        table = connection.execute(f"""
            SELECT rule, CASE WHEN rule >= {_FIRST_DATED} THEN day - DATE '1970-01-01' END AS day,
                   count(*) AS lines, max(abs(amount)) AS largest,
                   min(nullif(abs(amount), 0)) AS least
            FROM (SELECT CASE WHEN NOT wanted THEN 0 WHEN customer IS NULL THEN 1
                              WHEN NOT {HAS_MOMENT} THEN 2 WHEN NOT {HAS_AMOUNT} THEN 3
                              WHEN day > {last_day} THEN 4 WHEN NOT {REFUND_RULES[refunds]} THEN 5
                              ELSE 6 END AS rule, -- a number, as text takes longer to group by
                         day, amount FROM cells)
            GROUP BY ALL""").df()
        table["rule"] = [_OUTCOMES[number] for number in table["rule"]]
        return cls(table)

    def lines(self, *rules: str) -> int:
        """Count the lines with one of some outcomes."""
        return int(self.table["lines"][self.table["rule"].isin(rules)].sum())

    @property
    def all_lines(self) -> int:
        """Number of lines, whatever became of them."""
        return int(self.table["lines"].sum())

    @property
    def last_day(self) -> np.datetime64:
        """The last day with a line that is left, or that is a refund."""
        days, _ = self.lines_by_day()
        return cast(np.datetime64, days[-1])

    @property
    def largest_amount(self) -> float:
        """The largest amount of the lines that are left, of either sign."""
        return float(self.table["largest"][self.table["rule"] == "left"].max())

    @property
    def least_amount(self) -> float:
        """The least amount of the lines that are left, of either sign, that is not zero."""
        return float(self.table["least"][self.table["rule"] == "left"].min())

    def lines_by_day(self) -> tuple[Days, Ints]:
        """Return the days up to the end of the data (D,), in order, and their lines (D,)."""
        lines = self._rows_with_date().groupby("day")["lines"].sum()
        return lines.index.to_numpy().astype("datetime64[D]"), lines.to_numpy()

    def without_days(self, days: Days) -> "LineOutcomes":
        """Leave out lines of some days, of those up to the end of the data."""
        is_dated = self.table["rule"].isin(["left", "refunds"])
        is_gone = is_dated & self.table["day"].isin(days.astype(np.int64))
        return LineOutcomes(self.table[~is_gone])

    def _rows_with_date(self) -> pd.DataFrame:
        """Rows of lines up to the end of the data, those that do not count among them."""
        return self.table[self.table["rule"].isin(["left", "refunds"])].astype({"day": np.int64})
