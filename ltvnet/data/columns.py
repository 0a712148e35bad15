"""Names of the columns of cohort tables: defined here and nowhere else."""

DATE = "Date"
START = "cohort_start"
END = "cohort_end"
USERS = "Users"
SPEND = "Spend"

ROLES = (DATE, START, END, USERS, SPEND)
"""Columns with a meaning of their own, beside `day_0`, `day_1` ..."""

HIERARCHY = ("Apps", "Source", "Campaign", "Country", "OS")
"""Usual names of attributes, from coarse to fine: a table has some of them."""


def age_column(series: str, age: int) -> str:
    """Return the name of the column of a series, "" for the curve, at an age."""
    return f"{series}_day_{age}" if series else f"day_{age}"
