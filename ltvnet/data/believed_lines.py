"""Lines of purchases and users that are believed: odd days and absurd amounts are asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ltvnet.data.arrays import Bools, Days, Ints
from ltvnet.data.doubtful_lines import (
    LARGEST_FACTOR,
    Doubtful,
    believable_exponent,
    believable_period,
)
from ltvnet.data.line_outcomes import (
    HAS_AMOUNT,
    HAS_MOMENT,
    KNOWN,
    REFUND_RULES,
    LineOutcomes,
    Refunds,
)
from ltvnet.data.purchase_cells import CellQuery
from ltvnet.data.purchase_files import fetch_arrays

_LARGEST_SPREAD = 2.0**60  # of amounts whose sum is exact


@dataclass(frozen=True)
class Doubt:
    """Rows that nobody should believe unasked.

    `rows` number of them, `report` their name in a report, `condition` SQL that the others meet,
    `question` what is odd about them, and where.
    """

    rows: int
    report: str
    condition: str
    question: str


@dataclass(frozen=True)
class Belief:
    """Rows that are believed: a `condition` in SQL that they meet.

    `dropped_rows` numbers of rows that it leaves out, by their report; `notes` on doubtful rows
    that are kept.
    """

    condition: str = "true"
    dropped_rows: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def settle_doubts(doubts: Sequence[Doubt], doubtful: Doubtful) -> Belief:
    """Drop or keep doubtful rows. Raises ValueError with the questions when they are refused."""
    if not doubts:
        return Belief()
    if doubtful == "refuse":
        ways_out = (
            "correct them, leave them out by data.where, or set data.doubtful=drop to leave out"
            " all such rows, or data.doubtful=keep to believe them"
        )
        raise ValueError("\n".join([*(doubt.question for doubt in doubts), ways_out]))
    if doubtful == "keep":
        return Belief(
            notes=[f"believed, by data.doubtful=keep: {doubt.question}" for doubt in doubts]
        )
    return Belief(
        condition=" AND ".join(doubt.condition for doubt in doubts),
        dropped_rows={f"{doubt.report}, by data.doubtful=drop": doubt.rows for doubt in doubts},
    )


@dataclass(frozen=True)
class BelievedLines:
    """Lines of `cells` that are believed, as `belief` says.

    `outcomes` of the lines of days that are believed; `largest_amount` that counts, of either sign,
    and `usual_amount`, the largest that is not absurd; `kept_lines` number of lines that count.
    """

    belief: Belief
    outcomes: LineOutcomes
    largest_amount: float
    usual_amount: float
    kept_lines: int


def believe_lines(
    query: CellQuery,
    outcomes: LineOutcomes,
    refunds: Refunds,
    doubtful: Doubtful,
    last_day: str | None,
) -> BelievedLines:
    """Find the lines of `cells` that are believed, up to a last day, given in SQL, if any.

    Raises ValueError for lines with odd days or absurd amounts, unless they are dropped or kept.
    """
    readable = f"{KNOWN} AND {HAS_MOMENT} AND {HAS_AMOUNT}"
    if last_day is not None:
        readable += f" AND day <= {last_day}"
    days, lines = outcomes.lines_by_day()
    is_odd, day_doubts = doubt_days(query, days, lines, readable, is_end_given=bool(last_day))

    counted = f"{readable} AND {REFUND_RULES[refunds]}"
    if day_doubts and doubtful != "keep":
        outcomes = outcomes.without_days(days[is_odd])
        counted += f" AND {day_doubts[0].condition}"

    largest_amount = outcomes.largest_amount
    usual_amount = largest_amount
    amount_doubts: list[Doubt] = []
    if largest_amount > LARGEST_FACTOR * outcomes.least_amount:
        usual_amount, amount_doubts = _doubt_amounts(query, counted, REFUND_RULES[refunds])

    belief = settle_doubts([*day_doubts, *amount_doubts], doubtful)
    kept_lines = outcomes.lines("left")
    if doubtful == "drop":
        largest_amount = usual_amount
        kept_lines -= sum(doubt.rows for doubt in amount_doubts)
    if largest_amount > _LARGEST_SPREAD * usual_amount > 0:
        raise ValueError(f"{amount_doubts[0].question}; no sum of money can hold it")
    return BelievedLines(belief, outcomes, largest_amount, usual_amount, kept_lines)


def doubt_days(
    query: CellQuery, days: Days, lines: Ints, readable: str, *, is_end_given: bool
) -> tuple[Bools, list[Doubt]]:
    """Mark odd ones among the days (D,) of rows, which a condition picks; at most one doubt."""
    period = believable_period(days, lines, is_end_given=is_end_given)
    is_odd = (days < period.first) | (days > period.last)
    if not is_odd.any():
        return is_odd, []

    in_period = f"day BETWEEN DATE '{period.first}' AND DATE '{period.last}'"
    rows = query.describe_rows(f"{readable} AND NOT {in_period}", query.date_field)
    question = (
        f"{rows.path}: expected dates that can be believed, got {rows}, while all other rows are"
        f" of {period.first} to {period.last}"
    )
    return is_odd, [Doubt(int(lines[is_odd].sum()), "with odd dates", in_period, question)]


def _doubt_amounts(query: CellQuery, counted: str, count_rule: str) -> tuple[float, list[Doubt]]:
    """Find the largest amount of counted lines that is not absurd; at most one doubt."""
    connection = query.fields.relation.connection
    powers = fetch_arrays(
        connection,
        f"""
        SELECT CAST(floor(log2(abs(amount))) AS INTEGER) AS power, count(*) AS lines,
               max(abs(amount)) AS largest
        FROM cells WHERE {counted} AND amount <> 0 GROUP BY power""",
    )
    exponent = believable_exponent(powers["power"], powers["lines"])
    is_usual = powers["power"] <= exponent
    usual_amount = float(powers["largest"][is_usual].max())
    if is_usual.all():
        return usual_amount, []

    is_absurd = f"({count_rule} AND abs(amount) > CAST('{usual_amount!r}' AS DOUBLE))"
    rows = query.describe_rows(f"{counted} AND {is_absurd}", "amount")
    question = (
        f"{rows.path}: expected amounts that can be believed, got {rows}: over a million times the"
        f" median amount, and all others are up to {usual_amount:.15g}"
    )
    odd_lines = int(powers["lines"][~is_usual].sum())
    return usual_amount, [Doubt(odd_lines, "with absurd amounts", f"NOT {is_absurd}", question)]


def believe_users(query: CellQuery, until: np.datetime64, doubtful: Doubtful) -> Belief:
    """Find the rows of `user_cells` that are believed. Raises ValueError as `believe_lines`."""
    readable = f"customer IS NOT NULL AND day <= DATE '{until}'"
    by_day = fetch_arrays(
        query.fields.relation.connection,
        f"""
        SELECT CAST(day - DATE '1970-01-01' AS BIGINT) AS day, count(*) AS lines
        FROM user_cells WHERE {readable} GROUP BY ALL ORDER BY ALL""",
    )
    days = by_day["day"].astype("datetime64[D]")
    if not len(days):
        return Belief()
    _, doubts = doubt_days(query, days, by_day["lines"], readable, is_end_given=True)
    return settle_doubts(doubts, doubtful)
