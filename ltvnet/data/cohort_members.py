"""Customers of purchases as members of cohorts: relations of DuckDB.

A cohort is the customers with the same attributes who were acquired in the same period.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import duckdb

from ltvnet.data.purchase_files import fetch_row

Period = Literal["day", "week", "month"]

PERIOD_LAST_DAY: Mapping[Period, str] = {
    "day": "start",
    "week": "start + 6",
    "month": "last_day(start)",
}
"""Cohort periods, with the SQL of their last day; weeks begin on Monday."""

_CODES = 1 << 32  # more than there are combinations of attributes


def make_members(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], period: Period, burn_in: str
) -> dict[str, int]:
    """Make `cohorts`, and `members`: customers with their acquisition, cohort and number.

    `names` columns of attributes of `people`; `burn_in`, in SQL, the day before which customers
    are in no cohort. Returns how many customers are in a cohort, and how many are not.
    """
    key = ", ".join(["start", *names])
    _make_codes(connection, names)
    _make_customers(connection, names, period, burn_in)

    connection.execute(f"""
        CREATE TABLE cohorts AS
        SELECT row_number() OVER (ORDER BY {key}) - 1 AS cohort, {key}, code,
               {PERIOD_LAST_DAY[period]} AS last, users
        FROM (SELECT start, code, count(*) AS users
              FROM customers WHERE start IS NOT NULL GROUP BY start, code)
        JOIN codes USING (code)""")
    connection.execute("""
        CREATE TABLE members AS
        SELECT customer, acquired, CAST(coalesce(cohort, -1) AS INTEGER) AS cohort,
               CAST(row_number() OVER () - 1 AS INTEGER) AS member
        FROM customers LEFT JOIN cohorts USING (start, code)""")
    connection.execute("DROP TABLE customers")

    people, users = fetch_row(
        connection, "SELECT count(*), count(*) FILTER (cohort >= 0) FROM members"
    )
    return {"customers acquired before data.burn_in": people - users, "users": users}


def _make_codes(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Make `codes`: the combinations of attributes by number, in their order."""
    if not names:
        connection.execute("CREATE TABLE codes AS SELECT CAST(0 AS BIGINT) AS code")
        return

    key = ", ".join(names)
    numbered = f"SELECT row_number() OVER (ORDER BY {key}) - 1 AS code, {key}"
    connection.execute(f"CREATE TABLE codes AS {numbered} FROM (SELECT DISTINCT {key} FROM people)")


def _make_customers(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], period: Period, burn_in: str
) -> None:
    """Make `customers`: day of acquisition, code of attributes, start of the cohort's period.

    A customer's first line is the least by its moment and then its code, as one integer: which
    takes less time than the least of text.
    """
    people = "people"
    first_code = "0"
    if names:
        people = f"people JOIN codes USING ({', '.join(names)})"
        moment = "CAST(epoch_us(moment) AS HUGEINT)"
        first_code = f"min(({moment} + {1 << 63}) * {_CODES} + code) % {_CODES}"

    connection.execute(f"""
        CREATE TABLE customers AS
        SELECT customer, acquired, CAST(code AS BIGINT) AS code,
               CASE WHEN acquired >= {burn_in}
                    THEN CAST(date_trunc('{period}', acquired) AS DATE) END AS start
        FROM (SELECT customer, min(day) AS acquired, {first_code} AS code
              FROM {people} GROUP BY customer)""")
