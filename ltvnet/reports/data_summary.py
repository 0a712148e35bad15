"""Overview of data in words, for a terminal."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ltvnet.data.overview import NEWEST_WEEKS, DataOverview
from ltvnet.reports.wording import UNKNOWN, percent

_MARGIN = 12
_GAPS_SHOWN = 3
_SEGMENTS_SHOWN = 8


def describe_overview(overview: DataOverview) -> str:
    """Describe what is in the data, level beside before, what is odd, line by line."""
    lines = [
        ("read as", overview.layout),
        ("exports", _describe_snapshots(overview)),
        ("cohorts", _describe_cohorts(overview)),
        ("users", _describe_users(overview)),
        ("attributes", _describe_attributes(overview)),
        ("gaps", _describe_gaps(overview)),
        ("history", _describe_restatements(overview)),
        ("reach", _describe_supported_age(overview)),
    ]
    text = "\n".join(f"{name:<{_MARGIN}}{words}" for name, words in lines)
    return "\n".join([text, *_describe_levels(overview), *_describe_findings(overview)])


def _describe_snapshots(overview: DataOverview) -> str:
    days = overview.snapshots
    if len(days) == 1:
        return f"one, as of {days[0]}"
    return f"{len(days)}, {days[0]} to {days[-1]}, the last but one of {overview.before}"


def _describe_cohorts(overview: DataOverview) -> str:
    period = {1: "a day", 7: "a week"}.get(overview.period_days, f"{overview.period_days} days")
    return (
        f"{overview.cohorts:,}, each of {period}, acquired {overview.first_start} to "
        f"{overview.last_end}; {overview.new_cohorts:,} are new since {overview.before}"
    )


def _describe_users(overview: DataOverview) -> str:
    text = f"{overview.users:,.0f}"
    if overview.spend_share > 0:
        text += (
            f"; spend {overview.spend:,.0f}, known of {percent(overview.spend_share)} of cohorts"
        )
    if np.isfinite(overview.roas):
        text += f"; {percent(overview.roas)} of it earned by D7"
    return text


def _describe_attributes(overview: DataOverview) -> str:
    if not overview.values:
        return "none: all cohorts are one segment"
    words = [
        f"{name} {count:,}{'' if name in overview.hierarchy else ' (beside the hierarchy)'}"
        for name, count in overview.values.items()
    ]
    return ", ".join(words)


def _describe_gaps(overview: DataOverview) -> str:
    if not overview.gaps:
        return "none"
    shown = [
        str(first) if first == last else f"{first} to {last}"
        for first, last in overview.gaps[:_GAPS_SHOWN]
    ]
    more = len(overview.gaps) - len(shown)
    return f"no cohort of {', '.join(shown)}" + (f" and {more} more ranges" if more else "")


def _describe_restatements(overview: DataOverview) -> str:
    if not len(overview.restated):
        return "never restated" if len(overview.snapshots) > 1 else "one export, nothing restated"
    return "; ".join(
        f"{str(row['snapshot'])[:10]} changed {row['cells']:,} cells of {row['cohorts']:,} cohorts "
        f"by {percent(float(row['mean_change']))} on average, "
        f"{percent(float(row['max_change']))} at most"
        for row in overview.restated.to_dict("records")
    )


def _describe_supported_age(overview: DataOverview) -> str:
    matured = ", ".join(f"{count:,} to D{age}" for age, count in overview.matured.items())
    if overview.last_age < 0:
        return f"no forecast yet; cohorts matured: {matured}"
    return f"forecasts to D{overview.last_age}; cohorts matured: {matured}"


def _describe_levels(overview: DataOverview) -> Iterator[str]:
    """Yield a table of revenue per user by segment, those of most users first."""
    yield ""
    header = f"{'revenue per user':<24}{'age':>5}{'all':>12}{f'{NEWEST_WEEKS} weeks':>12}"
    yield f"{header}{f'on {overview.before}':>16}"
    users = overview.levels["users"].groupby(level="segment").max()
    largest = users.sort_values(ascending=False).index
    for segment in largest[:_SEGMENTS_SHOWN]:
        for age, row in overview.levels.xs(segment, level="segment").iterrows():
            name = f"{overview.level_attribute} {segment}" if segment else "all"
            cells = (
                f"{_money(row['now']):>12}{_money(row['newest']):>12}{_money(row['before']):>16}"
            )
            yield f"{name:<24}{f'D{age}':>5}{cells}"
    if len(largest) > _SEGMENTS_SHOWN:
        yield f"and {len(largest) - _SEGMENTS_SHOWN:,} more"


def _money(amount: float) -> str:
    return UNKNOWN if pd.isna(amount) else f"{amount:,.4g}"


def _describe_findings(overview: DataOverview) -> Iterator[str]:
    """Yield a line for each finding."""
    yield ""
    if not overview.findings:
        yield "nothing odd was found"
    for finding in overview.findings:
        yield f"{finding.severity.upper()}: {finding.as_text()}"
