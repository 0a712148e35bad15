"""Weekly cohorts of purchases as someone would write them by hand, and generated purchases.

A process of its own, which knows nothing of ltvnet: python cohort_query.py HOW FILE THREADS MEMORY
[ATTRIBUTE ..] prints seconds as JSON. HOW: scan | query | steps | pandas; or generate, with the
numbers of lines and of lines a customer in place of attributes.

Shapes: N cohorts, A ages.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

LAST_AGE = 360
"""Last age of a curve."""

COUNTRIES = ("US", "JP", "DE", "KR", "BR", "IN", "GB", "FR")

CohortCurves = dict[tuple[str, ...], NDArray[np.float64]]
"""Cumulative amount per user at ages 0..LAST_AGE (A,) by first day of the week and attributes."""


def generate_purchases(
    base: duckdb.DuckDBPyConnection, path: Path, lines: int, lines_per_customer: int
) -> None:
    """Write so many purchases of two years, some per customer, in order of time.

    Customers come at an even rate, buy less the older they are, and have a country; amounts are
    lognormal with cents, and one in fifty is a refund.
    """
    uniform_numbers = [f"(hash(i + {k * lines}) % 1000003 + 1) / 1000005 AS u{k}" for k in range(5)]
    countries = ", ".join(f"'{country}'" for country in COUNTRIES)
    customer_count = f"{lines} / {lines_per_customer}"
    base.execute(f"""
        COPY (
            SELECT CAST(hash(person) >> 32 AS BIGINT) AS customer_id,
                   TIMESTAMP '2022-01-01' + to_seconds(CAST(share * 730 * 86400 AS BIGINT)) AS date,
                   round(if(u1 < 0.02, -1, 1)
                         * exp(3 + sqrt(-2 * ln(u2)) * cos(2 * pi() * u3)), 2) AS amount,
                   [{countries}][1 + CAST(hash(person + 7) % {len(COUNTRIES)} AS INTEGER)]
                       AS country
            FROM (SELECT *, i / {lines} AS share,
                         CAST(floor({customer_count} * i / {lines} * (1 - u4 ** 3)) AS BIGINT)
                             AS person
                  FROM (SELECT range AS i, {", ".join(uniform_numbers).replace("(i", "(range")}
                        FROM range({lines}))))
        TO '{path}' (FORMAT parquet)""")


def scan_columns(base: duckdb.DuckDBPyConnection, path: str, by: Sequence[str]) -> None:
    """Read the columns and do next to nothing with them: sums, as Parquet knows each maximum."""
    numbers = ["customer_id", "epoch_us(date)", "amount", *(f"length({name})" for name in by)]
    sums = ", ".join(f"sum({number})" for number in numbers)
    base.execute(f"SELECT {sums} FROM '{path}'").fetchall()


def curves_by_one_query(
    base: duckdb.DuckDBPyConnection, path: str, by: Sequence[str]
) -> CohortCurves:
    """Return curves by the shortest query: one statement."""
    firsts = "".join(f", arg_min({name}, date) AS {name}" for name in by)
    key = "".join(f", first.{name}" for name in by)
    sums = base.execute(f"""
        WITH first AS (SELECT customer_id, CAST(min(date) AS DATE) AS acquired{firsts}
                       FROM '{path}' GROUP BY customer_id),
             users AS (SELECT date_trunc('week', acquired) AS start{key}, count(*) AS users
                       FROM first GROUP BY ALL)
        SELECT * FROM users LEFT JOIN (
            SELECT date_trunc('week', acquired) AS start{key},
                   CAST(date AS DATE) - acquired AS age, sum(amount) AS amount
            FROM '{path}' JOIN first USING (customer_id)
            WHERE amount >= 0 AND CAST(date AS DATE) - acquired <= {LAST_AGE} GROUP BY ALL)
        USING ({", ".join(["start", *by])})""").df()
    return accumulate_by_cohort(sums, by)


def curves_in_steps(base: duckdb.DuckDBPyConnection, path: str, by: Sequence[str]) -> CohortCurves:
    """Return curves by three statements, so that customers are found once."""
    firsts = "".join(f", arg_min({name}, date) AS {name}" for name in by)
    key = "".join(f", first.{name}" for name in by)
    base.execute(f"""
        CREATE TABLE first AS
        SELECT customer_id, CAST(min(date) AS DATE) AS acquired{firsts}
        FROM '{path}' GROUP BY customer_id""")
    users = base.execute(f"""
        SELECT date_trunc('week', acquired) AS start{key}, count(*) AS users
        FROM first GROUP BY ALL""").df()
    sums = base.execute(f"""
        SELECT date_trunc('week', acquired) AS start{key},
               CAST(date AS DATE) - acquired AS age, sum(amount) AS amount
        FROM '{path}' JOIN first USING (customer_id)
        WHERE amount >= 0 AND CAST(date AS DATE) - acquired <= {LAST_AGE} GROUP BY ALL""").df()
    return accumulate_by_cohort(users.merge(sums, how="left", on=["start", *by]), by)


def curves_by_pandas(path: str, by: Sequence[str]) -> CohortCurves:
    """Return curves by pandas."""
    lines = pd.read_parquet(path, columns=["customer_id", "date", "amount", *by])
    lines = lines.assign(day=lines["date"].dt.normalize())
    first = lines.sort_values("date", kind="stable").drop_duplicates("customer_id")
    first = first.assign(start=first["day"].dt.to_period("W-SUN").dt.start_time)
    users = first.groupby(["start", *by]).size().rename("users").reset_index()

    first = first.rename(columns={"day": "acquired"})[["customer_id", "acquired", "start", *by]]
    lines = lines[["customer_id", "day", "amount"]].merge(first, on="customer_id")
    lines = lines.assign(age=(lines["day"] - lines["acquired"]).dt.days)
    lines = lines[(lines["amount"] >= 0) & (lines["age"] <= LAST_AGE)]
    sums = lines.groupby(["start", *by, "age"])["amount"].sum().reset_index()
    return accumulate_by_cohort(users.merge(sums, how="left", on=["start", *by]), by)


def accumulate_by_cohort(sums: pd.DataFrame, by: Sequence[str]) -> CohortCurves:
    """Return curves from sums by cohort and age, which are missing where nobody bought."""
    cohorts = sums.groupby(["start", *by], sort=True)
    cohort_index = cohorts.ngroup().to_numpy()
    users = cohorts["users"].first()
    amounts = np.zeros((cohort_index.max() + 1, LAST_AGE + 1))  # (N, A)
    has_age = sums["age"].notna().to_numpy()
    ages = sums["age"][has_age].to_numpy(int)
    amounts[cohort_index[has_age], ages] = sums["amount"][has_age]
    curves = amounts.cumsum(axis=1) / users.to_numpy()[:, None]

    keys = users.reset_index()
    starts = keys["start"].dt.strftime("%Y-%m-%d")
    names = zip(starts, *(keys[name] for name in by), strict=True)
    return dict(zip(names, curves, strict=True))


WAYS = {"scan": scan_columns, "query": curves_by_one_query, "steps": curves_in_steps}
"""Ways by DuckDB: by name what is timed."""


def main(way: str, path: str, engine: Sequence[str], arguments: Sequence[str]) -> None:
    """Print how many seconds a way takes, start-up left out."""
    start = time.perf_counter()
    if way == "pandas":
        curves_by_pandas(path, arguments)
    else:
        threads, memory = engine
        settings = {"threads": threads, "memory_limit": memory, "temp_directory": path + ".spill"}
        with duckdb.connect(config=settings) as base:
            start = time.perf_counter()
            if way == "generate":
                generate_purchases(base, Path(path), *map(int, arguments))
            else:
                WAYS[way](base, path, arguments)
    sys.stdout.write(f"{json.dumps(time.perf_counter() - start)}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:5], sys.argv[5:])
