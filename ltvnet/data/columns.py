"""Names of the columns of cohort tables: defined here and nowhere else."""

DATE, START, END, USERS, SPEND = "Date", "cohort_start", "cohort_end", "Users", "Spend"
ROLES = (DATE, START, END, USERS, SPEND)
"""Columns with a part of their own, beside `day_0`, `day_1` ..."""


def age_column(series: str, age: int) -> str:
    """The name of the column of a series, "" for the curve, at an age."""
    return f"{series}_day_{age}" if series else f"day_{age}"
