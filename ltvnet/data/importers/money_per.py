"""Whether an exported curve is money per user or of the whole cohort.

Shapes: M cohorts that are looked at, G groups of cohorts with the same attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.columns import DATE, END, SPEND, START, USERS
from ltvnet.data.importers.column_mapping import AGE, VALUE
from ltvnet.data.importers.conventions import BlocksOf, Conventions, MappedFile
from ltvnet.data.importers.table_format import Per
from ltvnet.data.table_files import is_text_type

_SEEN_ROWS = 1 << 12  # of a wide file: level and users are alike in all rows
_SEEN_LONG_ROWS = 1 << 18  # of a long file, which has hundreds for a cohort
_COMPARED_AGE = 7  # or the nearest to it: early enough that most cohorts have reached it
_MIN_COHORTS_SEEN = 8
_MIN_SPREAD_OF_USERS = 0.1  # of the logarithm of users: cohorts of one size tell nothing
_ERRORS_FROM_HALF = 5.0  # standard errors of a slope: to ask costs less than to be wrong
_RETURN_TOLERANCE = 0.02  # of a return on spend that is printed with a digit or two


@dataclass(frozen=True)
class _EarlyCohorts:
    """Cohorts of a file at an early age: (M,) each, NaN where unknown.

    `value` and `returned` (on spend) to the end of that age; `revenue` grows with `value` and is
    less noisy; `attributes` (M rows) of the cohorts, coarse ones first.
    """

    users: Floats
    spend: Floats
    value: Floats
    revenue: Floats
    returned: Floats
    attributes: pd.DataFrame


def decide_per(
    files: Sequence[MappedFile], conventions: Conventions, blocks_of: BlocksOf
) -> Per | None:
    """Decide by the numbers whether curves are money per user or of cohorts; None if they cannot.

    A column of the return on spend tells it: it is money of the cohort over spend. Otherwise, among
    cohorts that are alike, money of cohorts grows in proportion to users, and money per user does
    not. Files are asked in turn until one tells.
    """
    for file in files:
        cohorts = _read_early_cohorts(file, conventions, blocks_of)
        if per := _compare_return(cohorts) or _compare_growth_with_users(cohorts):
            return per
    return None


def decide_per_by_return(
    file: MappedFile, conventions: Conventions, blocks_of: BlocksOf
) -> Per | None:
    """Decide by a column of the return on spend alone; None where there is none that agrees."""
    return _compare_return(_read_early_cohorts(file, conventions, blocks_of))


def _read_early_cohorts(
    file: MappedFile, conventions: Conventions, blocks_of: BlocksOf
) -> _EarlyCohorts:
    """Read the first cohorts of a file at the age that is compared."""
    is_long = file.mapping.kind == "long"
    block = next(blocks_of(file.path, _SEEN_LONG_ROWS if is_long else _SEEN_ROWS))
    if is_long:
        names = [file.mapping.values_of[0]]
        block, age = _rows_at_early_age(block, file, conventions)
    else:
        age, names = _early_columns(file)
    cells = np.column_stack([_read_column(block, name, conventions) for name in names])

    column_of = file.mapping.column_of
    no_attributes = {DATE, START, END, USERS, SPEND, AGE, VALUE}
    attributes = {
        name: block.column(name).cast(pa.string()).to_pandas()
        for role, name in column_of.items()
        if role not in no_attributes and name in block.column_names
    }
    sums = cells.sum(axis=1)
    return _EarlyCohorts(
        users=_read_column(block, column_of.get(USERS), conventions),
        spend=_read_column(block, column_of.get(SPEND), conventions),
        value=sums if file.mapping.values == "increment" else cells[:, -1],
        revenue=sums,
        returned=_read_column(block, file.return_column(block.column_names, age), conventions),
        attributes=pd.DataFrame(attributes, index=range(len(block))),
    )


def _early_columns(file: MappedFile) -> tuple[int, list[str]]:
    """Choose the age that is compared, and the columns up to it, of a wide file."""
    ages = {age: name for name, (series, age) in file.mapping.ages.items() if not series}
    compared_age = min(ages, key=lambda age: abs(age - _COMPARED_AGE))
    return compared_age, [ages[age] for age in sorted(ages) if age <= compared_age]


def _rows_at_early_age(
    block: pa.Table, file: MappedFile, conventions: Conventions
) -> tuple[pa.Table, int]:
    """Select the rows of a long file at the age that is compared, and return that age."""
    age = _read_column(block, file.mapping.column_of[AGE], conventions)
    if np.isnan(age).all():
        return block.slice(0, 0), _COMPARED_AGE
    early_age = age[np.nanargmin(np.abs(age - _COMPARED_AGE))]
    return block.take(pa.array(np.flatnonzero(age == early_age))), int(early_age)


def _read_column(block: pa.Table, name: str | None, conventions: Conventions) -> Floats:
    """Read a column of numbers (M,); NaN where there is none."""
    if name is None:
        return np.full(len(block), np.nan)
    column = block.column(name)
    if not is_text_type(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=float)
    return conventions.numbers.parse(column)[0]


def _compare_return(cohorts: _EarlyCohorts) -> Per | None:
    """Compare value over spend, and value times users over spend, with the return that is given.

    The return may be in percent. None where neither agrees with it, or both do.
    """
    is_given = (cohorts.returned > 0) & (cohorts.spend > 0) & (cohorts.value > 0)
    if is_given.sum() < _MIN_COHORTS_SEEN:
        return None
    of_cohort = (cohorts.value / cohorts.spend / cohorts.returned)[is_given]
    per_user = of_cohort * cohorts.users[is_given]
    is_of_cohort = _is_one(of_cohort) or _is_one(of_cohort * 100)
    is_per_user = _is_one(per_user) or _is_one(per_user * 100)
    if is_of_cohort == is_per_user:
        return None
    return "cohort" if is_of_cohort else "user"


def _is_one(ratios: Floats) -> bool:
    """Return whether ratios (M,) are 1 in the median but for rounding."""
    return bool(np.median(np.abs(ratios - 1)) < _RETURN_TOLERANCE)


def _compare_growth_with_users(cohorts: _EarlyCohorts) -> Per | None:
    """Decide by the slope of log revenue over log users: 1 of money of cohorts, else 0.

    Cohorts are compared with those of the same attributes: a channel that is large need not be one
    whose users pay much.
    """
    is_positive = (cohorts.users > 0) & (cohorts.revenue > 0)
    if is_positive.sum() < _MIN_COHORTS_SEEN:
        return None
    group = _number_groups(cohorts.attributes[is_positive])
    log_users = _centre_by_group(np.log(cohorts.users[is_positive]), group)
    log_revenue = _centre_by_group(np.log(cohorts.revenue[is_positive]), group)
    spread = float(np.sqrt((log_users**2).mean()))
    if spread < _MIN_SPREAD_OF_USERS:
        return None

    slope = float((log_users * log_revenue).sum() / (log_users**2).sum())
    residual = log_revenue - slope * log_users
    degrees_of_freedom = len(residual) - int(group.max()) - 1
    error = float(residual.std() / spread / np.sqrt(degrees_of_freedom))
    margin = _ERRORS_FROM_HALF * error
    if slope - margin > 0.5:
        return "cohort"
    return "user" if slope + margin < 0.5 else None


def _number_groups(attributes: pd.DataFrame) -> Ints:
    """Number groups (M,) by as many attributes as leave enough cohorts to compare in them."""
    names = list(attributes.columns)
    while names:
        group = attributes.groupby(names, dropna=False).ngroup().to_numpy()
        if len(group) - group.max() - 1 >= _MIN_COHORTS_SEEN:
            return np.asarray(group, dtype=np.int64)
        names = names[:-1]
    return np.zeros(len(attributes), dtype=np.int64)


def _centre_by_group(values: Floats, group: Ints) -> Floats:
    """Subtract from values (M,) the mean of their group."""
    means = np.bincount(group, values) / np.bincount(group)  # (G,)
    centred: Floats = values - means[group]
    return centred
