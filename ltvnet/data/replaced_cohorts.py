"""Cohorts that stand in the newest snapshot under another key, and would be counted twice.

A renamed campaign, a text column whose values change, a new attribute or a column of another name
make new cohorts of old ones; the old ones keep what was last known of them. Users and revenue of
the same dates give it away.
Shapes: G cohorts that are gone, M newcomers, each a row of the history.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Bools, Floats, Ints, factorize, key_ranks
from ltvnet.data.curves import History
from ltvnet.data.findings import (
    NAMES_SHOWN,
    Finding,
    format_list,
    format_word,
    list_names,
    quote_option,
)
from ltvnet.data.vintages import Vintages

_TOLERANCE = 0.02
"""Relative difference of users and revenue up to which cohorts of a date are the same people."""

_MIN_ATTRIBUTE_SHARE = 0.5
"""An attribute explains a change of keys when at least so many of them agree in all else."""


@dataclass(frozen=True)
class Replacement:
    """Cohorts that went, and those that came in their place.

    `gone` (G,) and `newcomers` (M,) rows of `history`; `attribute` the one that makes the
    difference (None: several do); `new_value` the value that took the place of each value of it,
    where that is one.
    """

    history: History
    gone: Ints
    newcomers: Ints
    attribute: str | None
    new_value: dict[str, str]

    def as_finding(self) -> Finding:
        """The refusal, with the change and the ways out of it."""
        snapshot = self.history.snapshot
        old, new = snapshot[self.gone].max(), self.history.last_day
        users = np.nansum(self.history.users[self.gone])
        message = (
            f"{len(self.gone):,} cohorts of {old} are gone from {new}, where "
            f"{len(self.newcomers):,} new ones of the same dates have the same {users:,.0f} users "
            f"and revenue: all would count twice ({self._describe_change()})"
        )
        ways_out = [*self._ways_out(), "data.dropped=drop leaves the old ones out"]
        return Finding("refusal", "counted twice", message, "; ".join(ways_out))

    def _describe_change(self) -> str:
        """Say which attribute changed from what to what."""
        name = self.attribute
        if name is None:
            changed = _disjoint_attributes(self.history, self.gone, self.newcomers)
            old = [other for other in changed if self._is_empty(other, self.newcomers)]
            new = [other for other in changed if self._is_empty(other, self.gone)]
            if len(old) == len(new) == 1:
                return f"the column {old[0]} is now called {new[0]}"
            return f"other {list_names(changed)}" if changed else "several attributes changed"
        if self._is_empty(name, self.gone):
            return f"only the newer file has the column {name}"
        if self._is_empty(name, self.newcomers):
            return f"the newest file has no {name}"
        pairs = [f"{old!r} is now {new!r}" for old, new in self.new_value.items()]
        return f"{name} {list_names(pairs)}" if pairs else f"other values of {name}"

    def _ways_out(self) -> list[str]:
        """Options that mend the change, the best first."""
        name = self.attribute
        if name is None:
            return ["call columns and values alike in all files"]
        others = [other for other in self.history.attributes if other != name]
        if self._is_empty(name, self.gone) or self._is_empty(name, self.newcomers):
            return [f"without it: {_option_without(others, self.history.hierarchy)}"]
        if self.new_value and len(self.new_value) <= NAMES_SHOWN:
            pairs = ", ".join(
                f"{format_word(old)}: {format_word(new)}" for old, new in self.new_value.items()
            )
            return [quote_option("data.renamed", f"{{{format_word(name)}: {{{pairs}}}}}")]
        if name in self.history.hierarchy:
            return [f"data.renamed={{{name}: {{OLD: NEW}}}} gives old values their new names"]
        return [f"without it: {_option_without(others, self.history.hierarchy)}"]

    def _is_empty(self, name: str, rows: Ints) -> bool:
        return bool((self.history.attributes[name][rows] == "").all())


def _option_without(others: list[str], hierarchy: tuple[str, ...]) -> str:
    """Return the options that leave an attribute out: the others are named."""
    options = [quote_option("data.attributes", format_list(others))]
    left = [name for name in hierarchy if name in others]
    if len(left) < len(hierarchy):
        options.append(quote_option("data.hierarchy", format_list(left)))
    return " ".join(options)


def find_replacement(vintages: Vintages) -> Replacement | None:
    """Find the cohorts that stand in the newest snapshot under other keys; None for none."""
    history = vintages.history
    if not vintages.is_gone.any():
        return None
    gone = vintages.last_row[vintages.is_gone]
    came_later = vintages.first_seen > vintages.last_seen[vintages.is_gone].min()
    newcomers = vintages.last_row[came_later & ~vintages.is_gone]
    gone = gone[history.observed_age[gone] >= 0]
    if not len(gone) or not len(newcomers):
        return None

    is_same_gone, is_same_new = _match_people(history, gone, newcomers)
    gone, newcomers = gone[is_same_gone], newcomers[is_same_new]
    if not len(gone):
        return None
    attribute = _find_attribute(history, gone, newcomers)
    new_value = {} if attribute is None else _pair_values(history, gone, newcomers, attribute)
    return Replacement(history, gone, newcomers, attribute, new_value)


def _match_people(history: History, gone: Ints, newcomers: Ints) -> tuple[Bools, Bools]:
    """Mark the cohorts that are gone (G,) and the newcomers (M,) of the same people.

    They are the same when a cohort of each has the same dates, users and revenue; or when all of
    a date do together, as where a new column splits them.
    """
    rows = np.concatenate([gone, newcomers])
    is_gone = np.arange(len(rows)) < len(gone)
    date = key_ranks([factorize(history.start[rows]), factorize(history.end[rows])])
    _, date = np.unique(date, return_inverse=True)

    # all cohorts of a date are compared at the age at which all of the gone ones were known
    age_at_date = np.full(date.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(age_at_date, date[is_gone], history.observed_age[gone])
    age = np.where(age_at_date[date] > history.observed_age[rows], -1, age_at_date[date])
    value = np.where(age >= 0, history.values[rows, age], np.nan)
    people = pd.DataFrame(
        {
            "date": date,
            "users": history.users[rows],
            "revenue": history.users[rows] * value,
            "is_gone": is_gone,
        }
    )
    is_same = _match_single_cohorts(people) | _match_dates(people)
    return is_same[is_gone], is_same[~is_gone]


def _match_single_cohorts(people: pd.DataFrame) -> Bools:
    """Mark the cohorts (G + M,) that have the users and revenue of one of the other kind."""
    signature = people[["date", "users"]].copy()
    signature["digits"] = _leading_digits(people["revenue"].to_numpy(dtype=float))
    by_signature = people["is_gone"].groupby([signature[name] for name in signature])
    has_both = by_signature.transform("nunique") == 2
    says_something = people["users"].notna() & (people["revenue"] > 0)
    return (has_both & says_something).to_numpy()


def _leading_digits(amount: Floats) -> Floats:
    """Round amounts to four digits: equal where they differ by rounding alone."""
    exponent = np.floor(np.log10(np.where(amount > 0, amount, 1.0)))
    unit = 10.0 ** (exponent - 3)
    digits: Floats = np.where(amount > 0, np.round(amount / unit) * unit, 0.0)
    return digits


def _match_dates(people: pd.DataFrame) -> Bools:
    """Mark the cohorts (G + M,) of dates on which those that went and came sum up alike."""
    by_kind = people.groupby(["date", "is_gone"])
    is_alike = pd.Series(data=True, index=pd.Index(people["date"].unique()))
    for name in ("users", "revenue"):
        sums = by_kind[name].sum(min_count=1).unstack().reindex(columns=[False, True])
        difference = (sums[True] - sums[False]).abs()
        is_alike &= (difference <= _TOLERANCE * sums[True]) & (sums[True] > 0)
    return people["date"].map(is_alike).to_numpy(dtype=bool)


def _find_attribute(history: History, gone: Ints, newcomers: Ints) -> str | None:
    """Find the attribute without which most cohorts that went have the key of a newcomer."""
    best_name, best_share = None, 0.0
    for name in history.attributes:
        keys = _keys_without(history, name)
        share = float(np.isin(keys[gone], keys[newcomers]).mean())
        if share > best_share:
            best_name, best_share = name, share
    return best_name if best_share >= _MIN_ATTRIBUTE_SHARE else None


def _keys_without(history: History, name: str) -> Ints:
    """Rank rows (R,) by their dates and all attributes but one."""
    others = [codes for other, codes in history.attribute_codes.items() if other != name]
    return key_ranks([factorize(history.start), factorize(history.end), *others])


def _pair_values(history: History, gone: Ints, newcomers: Ints, name: str) -> dict[str, str]:
    """Pair each old value of an attribute with the one that took its place, if it is one."""
    keys = _keys_without(history, name)
    values = history.attributes[name]
    old = pd.DataFrame({"key": keys[gone], "old": values[gone]})
    new = pd.DataFrame({"key": keys[newcomers], "new": values[newcomers]})
    old = old[~old["key"].duplicated(keep=False)]
    new = new[~new["key"].duplicated(keep=False)]
    pairs = old.merge(new, on="key")[["old", "new"]].drop_duplicates()
    if pairs["old"].duplicated().any():
        return {}
    return dict(zip(pairs["old"].map(str), pairs["new"].map(str), strict=True))


def _disjoint_attributes(history: History, gone: Ints, newcomers: Ints) -> list[str]:
    """List the attributes of which no value stands both in what went and in what came."""
    return [
        name
        for name, text in history.attributes.items()
        if not set(text[gone]) & set(text[newcomers])
    ]
