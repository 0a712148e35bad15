"""Names of the columns that ltvnet's own tables have, and of attributes beside them.

An attribute keeps its name in every table unless the name is one of these, whatever its case, as
SQL engines do not tell cases apart: then it is written as `attribute_NAME`, and read back by its
own name. The rule is the same for the wide and the long table of forecasts, explanations, the
ledger and the keys of cohorts, so that they can be joined.
"""

import re

from ltvnet.data.columns import DATE, END, SPEND, START, USERS

ATTRIBUTE_PREFIX = "attribute_"
"""Beginning of the column of an attribute that is named like a column of a table."""

_KEY_COLUMNS = (DATE, START, END, "start", "end", USERS, SPEND)
_FORECAST_COLUMNS = (
    *("origin", "observed_age", "observed_value", "age", "pattern", "reason", "uncalibrated"),
    *("mean", "p10", "p50", "p90", "roas", "bundle"),
)
_LEDGER_COLUMNS = ("model", "trained", "natural_k", "reach", "borrowed")
_EXPLANATION_COLUMNS = (
    *("horizon", "segment", "level", "calendar", "growth", "attributes", "correction"),
    *("forecast", "explanation"),
)
OUTPUT_COLUMNS = frozenset(
    name.lower()
    for name in (*_KEY_COLUMNS, *_FORECAST_COLUMNS, *_LEDGER_COLUMNS, *_EXPLANATION_COLUMNS)
)
"""Columns of any table, in lower case, but for those that `_PATTERNED_COLUMN` describes."""

_PATTERNED_COLUMN = re.compile(r"(raw|blended|corrected)_(mean|p10|p50|p90)|(p|p10|p90|roas)_d\d+")


def attribute_column(name: str) -> str:
    """Return the column of an attribute in ltvnet's tables.

    >>> attribute_column("Campaign"), attribute_column("age"), attribute_column("attribute_age")
    ('Campaign', 'attribute_age', 'attribute_attribute_age')
    """
    return f"{ATTRIBUTE_PREFIX}{name}" if _is_ambiguous(name) else name


def attribute_of_column(column: str) -> str:
    """Return the attribute that a column of ltvnet's tables holds.

    >>> attribute_of_column("Campaign"), attribute_of_column("attribute_age")
    ('Campaign', 'age')
    """
    name = column.removeprefix(ATTRIBUTE_PREFIX)
    return name if _is_ambiguous(name) else column


def _is_ambiguous(name: str) -> bool:
    """Whether an attribute could be taken for a column, or for one that was written with prefix."""
    while name.startswith(ATTRIBUTE_PREFIX):
        name = name.removeprefix(ATTRIBUTE_PREFIX)
    lower_name = name.lower()
    return lower_name in OUTPUT_COLUMNS or _PATTERNED_COLUMN.fullmatch(lower_name) is not None
