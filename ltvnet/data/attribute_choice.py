"""Which text columns of cohort tables are attributes, and which are not.

A column that tells every row from the others, holds percentages, or changes from one snapshot to
the next says nothing of a segment, and makes new cohorts of old ones.
Shapes: N rows of a table.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ltvnet.data.arrays import Categorical, Ints, factorize
from ltvnet.data.cohort_rows import ParsedTable
from ltvnet.data.findings import (
    NAMES_SHOWN,
    Finding,
    format_list,
    format_word,
    list_names,
    quote_option,
)

_OWN_VALUE_SHARE = 0.5
_MIN_ROWS = 20
"""A column of so many rows, half of which have a value of their own, names rows, not segments."""

_MIN_CHANGED_SHARE = 0.02
"""A column that changes in fewer cohorts is an attribute with a few values renamed."""

_MAX_VALUES = 50
"""An attribute that could play a part in the hierarchy has at most so many values."""

_AMOUNT = re.compile(r"[-+(]?\s*[^\d\s\w(]?\s*\d[\d.,' \u00a0]*\s*[%\u20a9$\u20ac\u00a3\u00a5]?\)?")
"""A number as people write it: with a sign of percent or currency, and separators."""


def check_hierarchy(
    hierarchy: Sequence[str], default: Sequence[str], tables: Sequence[ParsedTable]
) -> list[Finding]:
    """Find names of the hierarchy that no table has; the default is a list of usual names."""
    labels = list(dict.fromkeys(name for table in tables for name in table.labels))
    missing = [name for name in hierarchy if name not in labels]
    if not tables or not missing:
        return []

    suggested = _suggest_hierarchy(tables)
    if tuple(hierarchy) != tuple(default):
        close = difflib.get_close_matches(missing[0], labels, n=1)
        meant = f"did you mean {close[0]}?" if close else f"the tables have {list_names(labels)}"
        if not labels:
            meant = "the tables have no attributes"
        message = f"data.hierarchy names {list_names(missing)}, which no table has: {meant}"
        option = quote_option("data.hierarchy", format_list(close or suggested))
        return [Finding("refusal", "hierarchy", message, f"set {option}")]

    if len(missing) < len(hierarchy) or not suggested:
        return []
    message = (
        f"none of {', '.join(hierarchy)} is a column, so all cohorts are one segment and nothing "
        "is summed by campaign"
    )
    option = quote_option("data.hierarchy", format_list(suggested))
    return [Finding("warning", "hierarchy", message, f"from coarse to fine: {option}, or rename")]


def _suggest_hierarchy(tables: Sequence[ParsedTable]) -> list[str]:
    """List attributes that may make segments, from the fewest values to the most."""
    table = tables[-1]
    counts = {
        name: len(table.labels[name].values)
        for name in table.text_labels()
        if _why_no_attribute(table, name) is None
    }
    usable = [
        name for name, count in counts.items() if 1 < count <= max(_MAX_VALUES, len(table) // 4)
    ]
    return sorted(usable, key=lambda name: counts[name])


def find_no_attributes(
    tables: Sequence[ParsedTable], candidates: Sequence[str], hierarchy: Sequence[str]
) -> dict[str, Finding]:
    """Find candidates out of the columns of text that are no attributes: column -> what is said.

    A column without which two rows of a table had one key is an attribute, whatever it holds, and
    so are those of the hierarchy.
    """
    findings: dict[str, Finding] = {}
    for name in candidates:
        if name in hierarchy:
            continue
        reason = _find_reason(tables, name, candidates)
        kept = [other for other in candidates if other not in (*findings, name)]
        if reason is None or not all(_is_key_without(table, kept) for table in tables):
            continue
        option = quote_option("data.attributes", format_list(candidates))
        findings[name] = Finding(
            "warning", "attributes", f"{name} {reason}: left out", f"{option} keeps it"
        )
    return findings


def _find_reason(tables: Sequence[ParsedTable], name: str, candidates: Sequence[str]) -> str | None:
    """Say why a column is no attribute; None where it is one."""
    for table in tables:
        if name in table.labels and (reason := _why_no_attribute(table, name)):
            return reason
    others = [other for other in candidates if other != name]
    for older, newer in zip(tables, tables[1:], strict=False):
        if reason := _describe_changes(older, newer, name, others):
            return reason
    return None


def find_late_attributes(table: ParsedTable, names: Sequence[str]) -> list[str]:
    """List the columns of text that are attributes, but none of those known so far."""
    return [
        name for name in table.text_labels(exclude=names) if _why_no_attribute(table, name) is None
    ]


def _why_no_attribute(table: ParsedTable, name: str) -> str | None:
    """Say why a column of one table is no attribute; None where it is one."""
    codes, texts = table.labels[name]
    counts = np.bincount(codes, minlength=len(texts))
    is_filled = texts != ""
    filled = counts[is_filled].sum()
    if not filled:
        return None

    amounts = [text for text, is_text in zip(texts, is_filled, strict=True) if is_text]
    is_amount = np.array([_AMOUNT.fullmatch(str(text).strip()) is not None for text in amounts])
    if is_amount.mean() > 0.9 and _has_signs(amounts):
        return f"holds numbers ({list_names(amounts[:2])})"
    own_values = (counts[is_filled] == 1).sum()
    if filled >= _MIN_ROWS and own_values > _OWN_VALUE_SHARE * filled:
        return f"has {is_filled.sum():,} values in {filled:,} rows"
    return None


def _has_signs(texts: Sequence[str]) -> bool:
    """Return whether most texts have a sign of percent or currency, or a decimal separator."""
    return bool(
        np.mean([re.search(r"[%.,\u20a9$\u20ac\u00a3\u00a5]", text) is not None for text in texts])
        > 0.5
    )


def _describe_changes(
    older: ParsedTable, newer: ParsedTable, name: str, others: Sequence[str]
) -> str | None:
    """Say how a column changed between two snapshots; None where it hardly did."""
    text_before = _text_by_key(older, name, others)
    text_after = _text_by_key(newer, name, others)
    if text_before.index.has_duplicates or text_after.index.has_duplicates:
        return None
    both = pd.concat([text_before, text_after], axis=1, join="inner", keys=["before", "after"])
    changed = both[both["before"] != both["after"]]
    if not len(both) or len(changed) < max(1, _MIN_CHANGED_SHARE * len(both)):
        return None
    if (both["before"] == "").all():
        return "stands in newer files only"
    if (both["after"] == "").all():
        return "stands in older files only"
    pairs = dict.fromkeys(f"{before!r} to {after!r}" for before, after in changed.to_numpy())
    shown = list_names(list(pairs)[:NAMES_SHOWN])
    return f"changes between files in {len(changed):,} of {len(both):,} cohorts ({shown})"


def _text_by_key(table: ParsedTable, name: str, others: Sequence[str]) -> "pd.Series[str]":
    """Text of a column, indexed by the dates and the other attributes."""
    codes, texts = table.label(name)
    key = _key_frame(table, others)
    return pd.Series(texts[codes], index=pd.MultiIndex.from_frame(key))


def _key_frame(table: ParsedTable, names: Sequence[str]) -> pd.DataFrame:
    """Dates and attributes of rows."""
    attributes = table.attributes(names)
    return pd.DataFrame({"start": table.start, "end": table.end, **attributes})


def _is_key_without(table: ParsedTable, names: Sequence[str]) -> bool:
    """Return whether dates and attributes `names` tell all rows of a table apart."""
    codes = [factorize_days(table.start), factorize_days(table.end)]
    codes += [table.label(name).codes for name in names]
    frame = pd.DataFrame(dict(enumerate(codes)))
    return not frame.duplicated().any()


def factorize_days(days: np.ndarray) -> Ints:
    """Days (N,) as numbers."""
    numbers: Ints = days.astype("datetime64[D]").astype(np.int64)
    return numbers


def find_spellings(tables: Sequence[ParsedTable], names: Sequence[str]) -> list[Finding]:
    """Find values of attributes that differ in case or blanks alone, in one table or several.

    `tables` from the oldest to the newest. The spelling of the newest is advised, the most frequent
    of those in it.
    """
    findings = []
    for name in names:
        new_values = _advised_spellings([table for table in tables if name in table.labels], name)
        if new_values:
            pairs = list_names(f"{old!r} and {new!r}" for old, new in new_values.items())
            message = f"{name} has {pairs}, which differ in case or blanks alone: two segments each"
            renamed = ", ".join(
                f"{format_word(old)}: {format_word(new)}" for old, new in new_values.items()
            )
            option = quote_option("data.renamed", f"{{{format_word(name)}: {{{renamed}}}}}")
            findings.append(Finding("warning", "spelling", message, f"if they are one: {option}"))
    return findings


def _advised_spellings(tables: Sequence[ParsedTable], name: str) -> dict[str, str]:
    """Return old -> advised spelling of an attribute's values that have several."""
    rank_of: dict[str, tuple[int, int]] = {}
    for number, table in enumerate(tables):
        codes, texts = table.labels[name]
        counts = np.bincount(codes, minlength=len(texts))
        rank_of |= {
            str(text): (number, int(count))
            for text, count in zip(texts, counts, strict=True)
            if text and count
        }

    spellings: dict[str, list[str]] = {}
    for text in rank_of:
        spellings.setdefault(" ".join(text.casefold().split()), []).append(text)
    new_values: dict[str, str] = {}
    for variants in spellings.values():
        advised = max(variants, key=lambda text: rank_of[text])
        new_values |= {text: advised for text in variants if text != advised}
    return new_values


def rename_values(table: ParsedTable, renamed: Mapping[str, Mapping[str, str]]) -> ParsedTable:
    """Give values of attributes their new names: `renamed` attribute -> old -> new value."""
    labels = dict(table.labels)
    for name, new_value in renamed.items():
        if name in labels:
            codes, texts = labels[name]
            new_texts = np.array([new_value.get(text, text) for text in texts], dtype=object)
            labels[name] = _take_codes(factorize(new_texts), codes)
    return replace(table, labels=labels)


def _take_codes(values: Categorical, codes: Ints) -> Categorical:
    return Categorical(values.codes[codes], values.values)


def check_renamed(
    renamed: Mapping[str, Mapping[str, str]], tables: Sequence[ParsedTable]
) -> Iterator[Finding]:
    """Yield a refusal for each name and old value in data.renamed that no table has."""
    for name, new_value in renamed.items():
        texts = [set(table.labels[name].values) for table in tables if name in table.labels]
        known = set().union(*texts)  # values have their new names already
        missing = [old for old, new in new_value.items() if not {old, new} & known]
        if not texts or missing:
            what = f"values {list_names(missing)} of {name}" if texts else name
            message = f"data.renamed names {what}, which no table has"
            yield Finding("refusal", "renamed", message, "take it out, or correct the name")
