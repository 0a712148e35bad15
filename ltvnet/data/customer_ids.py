"""Customers in two files, lines and users, whose ids are spelt in two ways: 76661e3 and 76661000.

One rule: where all ids of both files are whole numbers in some spelling, and no file spells one
number in two ways, ids of the same number are one customer. Otherwise the user is asked.
"""

import duckdb

_WHOLE = r"0|[1-9][0-9]*"
_ODDLY_SPELT = r"(0|[1-9][0-9]*)(\.0*|(\.[0-9]+)?[eE]\+?[0-9]{1,2})"


def unify_spellings(
    connection: duckdb.DuckDBPyConnection, lines_path: str, users_path: str
) -> list[str]:
    """Make a table `spellings` (id, customer) of ids in `cells` and `user_cells` to replace.

    Returns notes on how many there are. Raises ValueError where the rule does not tell whether two
    spellings are one customer.
    """
    connection.execute(f"""
        CREATE TABLE ids AS
        SELECT side, id,
               CASE WHEN regexp_full_match(id, '{_WHOLE}') THEN id
                    WHEN regexp_full_match(id, '{_ODDLY_SPELT}') AND number = trunc(number)
                    THEN CAST(CAST(number AS HUGEINT) AS VARCHAR) END AS whole
        FROM (SELECT side, id, TRY_CAST(id AS DECIMAL(38, 9)) AS number
              FROM (SELECT DISTINCT 0 AS side, customer AS id FROM cells WHERE wanted
                    UNION ALL SELECT DISTINCT 1, customer FROM user_cells))
        WHERE id IS NOT NULL""")
    connection.execute("""
        CREATE TABLE spellings AS
        SELECT DISTINCT ids.id, ids.whole AS customer
        FROM ids JOIN ids AS others ON ids.whole = others.whole AND ids.side <> others.side
        WHERE ids.id <> others.id AND ids.id <> ids.whole""")
    examples = connection.execute("""
        SELECT lines.id, users.id
        FROM ids AS lines JOIN ids AS users ON lines.whole = users.whole
        WHERE lines.side = 0 AND users.side = 1 AND lines.id <> users.id
        ORDER BY lines.whole LIMIT 1""").fetchall()
    if not examples:
        return []

    line_id, user_id = examples[0]
    pair = f"{line_id!r} in {lines_path} and {user_id!r} in {users_path}"
    other_ids = connection.execute("""
        SELECT min(id) FROM ids WHERE whole IS NULL
        UNION ALL
        SELECT min(id) FROM (SELECT side, whole, min(id) AS id FROM ids
                             GROUP BY side, whole HAVING count(*) > 1 AND whole IS NOT NULL)
        """).fetchall()
    if other := [row[0] for row in other_ids if row[0] is not None]:
        raise ValueError(
            f"expected customers that are spelt alike in both files, got {pair}, which may be one"
            f" customer or two, as not all ids are whole numbers in one spelling ({other[0]!r} is"
            " another); to make one of them, give data.customer and data.users_customer as SQL"
            " such as coalesce(CAST(TRY_CAST(column AS HUGEINT) AS VARCHAR), column)"
        )
    [[count]] = connection.execute("SELECT count(*) FROM spellings").fetchall()
    return [f"{count:,} customers are spelt in two ways, as {pair}: taken as one each"]


def spelt_customer(connection: duckdb.DuckDBPyConnection) -> str:
    """Write SQL of the customer of `cells` in the spelling that stands for all."""
    [[count]] = connection.execute("SELECT count(*) FROM spellings").fetchall()
    if not count:
        return "cells.customer"
    found = "SELECT spellings.customer FROM spellings WHERE spellings.id = cells.customer"
    return f"coalesce(({found}), cells.customer)"
