"""Whether an exported curve is money per user or of the whole cohort, where no name says so.

Shapes: M cohorts that are looked at.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ltvnet.data.arrays import Floats
from ltvnet.data.columns import SPEND, USERS
from ltvnet.data.importers.conventions import BlocksOf, Conventions, MappedFile
from ltvnet.data.importers.table_format import Per
from ltvnet.data.table_files import is_text_type

_SEEN_ROWS = 1 << 12  # of a file: level and users are alike in all rows
_MIN_COHORTS_SEEN = 8
_MIN_SPREAD_OF_USERS = 0.2  # of the logarithm of users: cohorts of one size tell nothing
_RETURN_TOLERANCE = 0.02  # of a return on spend that is printed with a digit or two


def decide_per(
    files: Sequence[MappedFile], conventions: Conventions, blocks_of: BlocksOf
) -> Per | None:
    """Decide by the numbers whether curves are money per user or of cohorts; None if they cannot.

    A column of the return on spend tells it: it is money of the cohort over spend. Otherwise money
    of cohorts grows in proportion to users, and money per user does not.
    """
    users, spend, value, returned = _columns_at_one_age(files, conventions, blocks_of)
    by_return = _compare_return(users, spend, value, returned)
    return by_return or _compare_growth_with_users(users, value)


def _columns_at_one_age(
    files: Sequence[MappedFile], conventions: Conventions, blocks_of: BlocksOf
) -> tuple[Floats, Floats, Floats, Floats]:
    """Read users, spend, value and return on spend at one age: (M,) each, NaN where unknown."""
    parts: list[list[Floats]] = []
    for file in files:
        column_of = file.mapping.column_of
        age, value_name = _early_age(file)
        for block in blocks_of(file.path, _SEEN_ROWS):
            names = [
                column_of.get(USERS),
                column_of.get(SPEND),
                value_name,
                file.return_column(block.column_names, age),
            ]
            parts.append([_read_column(block, name, conventions) for name in names])
            break
    users, spend, value, returned = (np.concatenate(cells) for cells in zip(*parts, strict=True))
    return users, spend, value, returned


def _early_age(file: MappedFile) -> tuple[int, str]:
    """Choose the age, 7 or the nearest to it, and its column, that most cohorts have reached."""
    ages = {age: name for name, (series, age) in file.mapping.ages.items() if not series}
    age = min(ages, key=lambda one: abs(one - 7))
    return age, ages[age]


def _read_column(block: pa.Table, name: str | None, conventions: Conventions) -> Floats:
    """Read a column of numbers (M,); NaN where there is none."""
    if name is None:
        return np.full(len(block), np.nan)
    column = block.column(name)
    if not is_text_type(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=float)
    return conventions.numbers.parse(column)[0]


def _compare_return(users: Floats, spend: Floats, value: Floats, returned: Floats) -> Per | None:
    """Compare value over spend, and value times users over spend, with the return that is given."""
    is_given = (returned > 0) & (spend > 0) & (value > 0)
    if is_given.sum() < _MIN_COHORTS_SEEN:
        return None
    of_cohort = np.abs(value * 1.0 / spend / returned - 1)[is_given]
    per_user = np.abs(value * users / spend / returned - 1)[is_given]
    if np.median(of_cohort) < _RETURN_TOLERANCE:
        return "cohort"
    return "user" if np.median(per_user) < _RETURN_TOLERANCE else None


def _compare_growth_with_users(users: Floats, value: Floats) -> Per | None:
    """Decide by the slope of log value over log users: 1 of money of cohorts, else 0."""
    is_positive = (users > 0) & (value > 0)
    if is_positive.sum() < _MIN_COHORTS_SEEN:
        return None
    log_users = np.log(users[is_positive])
    log_value = np.log(value[is_positive])
    centred = log_users - log_users.mean()
    spread = float(np.sqrt((centred**2).mean()))
    if spread < _MIN_SPREAD_OF_USERS:
        return None
    slope = float((centred * log_value).sum() / (centred**2).sum())
    residual = log_value - log_value.mean() - slope * centred
    error = float(residual.std() / spread / np.sqrt(len(residual)))
    if slope - 3 * error > 0.5:
        return "cohort"
    return "user" if slope + 3 * error < 0.5 else None
