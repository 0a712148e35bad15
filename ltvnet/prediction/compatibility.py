"""Data to forecast beside the data that a bundle was trained with: columns, dates, users, level.

Another currency or unit, or sums in place of revenue per user, moves every forecast and leaves no
other trace. Shapes: N cohorts.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ltvnet.data.arrays import ONE_DAY, Floats
from ltvnet.data.curves import DAYS_PER_WEEK, Curves
from ltvnet.data.findings import (
    Finding,
    Severity,
    format_factor,
    list_names,
    report_findings,
)
from ltvnet.data.levels import LevelSums, RecordedLevels
from ltvnet.prediction.bundle import Bundle
from ltvnet.prediction.training_level import LEVEL_ENTRY

log = logging.getLogger(__name__)

ScaleCheck = Literal["check", "any"]
"""Data at another level than a bundle was trained with are refused (check), or told of (any)."""

_NO_LEVELS: Mapping[str, Any] = {"attribute": None, "segments": [], "total": []}

STALE_DAYS = 60
"""Data newer than the bundle by more than so many days call for training anew."""

WARNED_FACTOR = 2.5
"""Factor of the level of a segment to that in training from which on it is told."""

REFUSED_FACTOR = 20.0
"""Factor of the level of all data from which on they are refused."""

USERS_FACTOR = 5.0
"""Factor of the users of a median cohort from which on it is told."""

_COHORT_FACTOR_TO_BUNDLE = 100.0
"""Factor of a single cohort to its segment in training, in revenue per user and in revenue."""

_MAX_OUTLYING_SHARE = 0.1
"""Single cohorts of all, at most: where more are far off it is the level of all."""

_MIN_FAR_COHORTS = 5
_MIN_FAR_SHARE = 0.5
"""Cohorts of a week by `REFUSED_FACTOR` off, in number and as a share: then the week is refused."""

_MIN_COHORTS_OF_LEVEL = 3
"""Cohorts from which a level or a median is made, at least."""

_MIN_ERRORS = 3.0
"""Errors of the levels by which a change has to exceed chance."""


@dataclass(frozen=True)
class _Amount:
    """Words for an amount per user: what it is, the subject of findings, and what may be wrong."""

    words: str
    subject: str
    question: str

    def name(self, age: object) -> str:
        """Name it at an age, where it has one."""
        return f"{self.words} at D{age}" if self.subject == "level" else self.words


_REVENUE_LEVEL = _Amount(
    "revenue per user",
    "level",
    "is it in another currency or unit, or of a cohort instead of a user?",
)
_SPEND_LEVEL = _Amount("spend per user", "spend", "is it in another currency or unit?")


@dataclass
class LevelComparison:
    """Levels of cohorts that come piece by piece, beside those of a bundle's training.

    `recorded` levels of the training, none where an older bundle has none: then nothing is found;
    `median_users` of a cohort there (None: not known).
    """

    recorded: RecordedLevels
    median_users: float | None

    def __post_init__(self) -> None:
        """Start without any cohort."""
        self._sums: LevelSums | None = None
        self._users: list[np.ndarray] = []
        self._outlying: list[tuple[float, str]] = []
        self._weeks: list[pd.DataFrame] = []

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "LevelComparison":
        """Read the levels of a bundle's training."""
        record = manifest.get(LEVEL_ENTRY, _NO_LEVELS)
        return cls(RecordedLevels.from_record(record), record.get("median_users"))

    def add(self, curves: Curves) -> None:
        """Add the cohorts of a piece."""
        sums = LevelSums.from_curves(curves, self.recorded.attribute)
        self._sums = sums if self._sums is None else self._sums.add(sums)
        self._users.append(curves.users[(curves.users > 0) & (curves.observed_age >= 0)])
        self._outlying += self._find_outlying(curves)
        if not self.recorded.total.empty:
            self._weeks.append(self._count_far_cohorts(curves))

    def findings(self, scale: ScaleCheck) -> list[Finding]:
        """List how the cohorts added so far differ from those of the training."""
        if self._sums is None or self._sums.table.empty:
            return []
        revenue = self._check_levels(self._revenue_factors(self._sums), _REVENUE_LEVEL, scale)
        spend = self._check_levels(self._spend_factors(self._sums), _SPEND_LEVEL, scale)
        weeks = [] if any(f.severity == "refusal" for f in revenue) else self._check_weeks(scale)
        return [*revenue, *weeks, *self._check_cohorts(), *self._check_users(), *spend]

    def _revenue_factors(self, sums: LevelSums) -> pd.DataFrame:
        """Revenue per user now and in training, by segment and age.

        Of all where no segment is in both.
        """
        factors = _join_levels(sums.levels(), self.recorded.segments)
        if sums.attribute != self.recorded.attribute or factors.empty:
            now, before = sums.total(), self.recorded.total
            factors = _join_levels(_as_one_segment(now), _as_one_segment(before))
        return factors

    def _spend_factors(self, sums: LevelSums) -> pd.DataFrame:
        """Spend per user now and in training, as `_revenue_factors`; empty where one is unknown."""
        factors = _join_levels(sums.spend_levels(), self.recorded.segments_spend)
        if sums.attribute != self.recorded.attribute or factors.empty:
            now, before = sums.total_spend(), self.recorded.total_spend
            factors = _join_levels(_as_one_segment(now), _as_one_segment(before))
        return factors

    def _check_levels(
        self, factors: pd.DataFrame, amount: _Amount, scale: ScaleCheck
    ) -> list[Finding]:
        """Compare an amount per user: all of it, or else segment by segment."""
        total = self._check_total(factors, amount, scale)
        return total or list(self._check_segments(factors, amount))

    def _check_total(
        self, factors: pd.DataFrame, amount: _Amount, scale: ScaleCheck
    ) -> list[Finding]:
        """Refuse data at another scale, in which each segment counts as in training."""
        for age, rows in factors.groupby(level="age"):
            expected = (rows["users"] * rows["level_before"]).sum()
            factor = (rows["users"] * rows["level"]).sum() / expected
            if 1 / REFUSED_FACTOR < factor < REFUSED_FACTOR:
                continue
            is_refused = scale == "check" and factor > 0
            severity: Severity = "refusal" if is_refused else "warning"
            message = (
                f"{amount.name(age)} is {format_factor(factor)} of what the bundle was "
                f"trained with in the same segments ({self._list_levels(rows)})"
            )
            way_out = f"{amount.question} Convert it; scale=any forecasts it as it is"
            return [Finding(severity, amount.subject, message, way_out)]
        return []

    def _check_segments(self, factors: pd.DataFrame, amount: _Amount) -> Iterator[Finding]:
        """Yield a warning for segments whose level is far from that in training."""
        told: set[object] = set()
        for age, rows in factors.groupby(level="age"):
            error = np.hypot(rows["relative_error"], rows["relative_error_before"])
            distance = np.abs(np.log(rows["factor"].clip(lower=1e-9)))
            is_far = (distance > np.log(WARNED_FACTOR)) & (distance > _MIN_ERRORS * error)
            is_far &= rows["cohorts"] >= _MIN_COHORTS_OF_LEVEL
            far = rows[is_far & ~rows.index.get_level_values("segment").isin(told)]
            told |= set(far.index.get_level_values("segment"))
            if len(far):
                message = (
                    f"{amount.name(age)} is far from what the bundle was trained with: "
                    f"{self._list_levels(far)}"
                )
                way_out = (
                    "is it in another currency or unit, or a part of the data? Else train anew"
                )
                yield Finding("warning", amount.subject, message, way_out)

    def _list_levels(self, rows: pd.DataFrame) -> str:
        """List segments with their levels now and in training, the farthest first."""
        distance = np.abs(np.log(rows["factor"].clip(lower=1e-9)))
        name = self.recorded.attribute
        lines = []
        for (segment, _), row in rows.loc[distance.sort_values(ascending=False).index].iterrows():
            label = f"{name} {segment!r} " if name and segment else ""
            level, before = f"{row['level']:.4g}", f"{row['level_before']:.4g}"
            lines.append(f"{label}{level} after {before}")
        return list_names(lines)

    def _find_outlying(self, curves: Curves) -> list[tuple[float, str]]:
        """Find single cohorts far above the level of their segment: factor and name."""
        outlying = []
        levels = self.recorded.total["level"]
        for age in levels.index[levels > 0]:
            is_known = (curves.observed_age >= age) & (curves.users > 0)
            level = self._usual_levels(curves, int(age))
            typical_revenue = level * (self.median_users or 1.0)
            factor = curves.values[:, age] / level
            revenue_factor = curves.values[:, age] * curves.users / typical_revenue
            is_far = np.minimum(factor, revenue_factor) >= _COHORT_FACTOR_TO_BUNDLE
            for row in np.flatnonzero(is_known & is_far):
                outlying.append((float(factor[row]), _name_cohort(curves, int(row))))
        return outlying

    def _count_far_cohorts(self, curves: Curves) -> pd.DataFrame:
        """Count cohorts by week of acquisition and age: all with revenue, those above and below.

        Those above the usual level are so in revenue per user and in revenue, lest one purchase
        of a user among few counts; `log_factor` is their sum.
        """
        parts = []
        levels = self.recorded.total["level"]
        for age in levels.index[levels > 0]:
            is_known = (curves.observed_age >= age) & (curves.users > 0)
            rows = np.flatnonzero(is_known & (curves.values[:, age] > 0))
            level = self._usual_levels(curves, int(age))[rows]
            factor = curves.values[rows, age] / level
            revenue_factor = factor * curves.users[rows] / (self.median_users or 1.0)
            is_above = np.minimum(factor, revenue_factor) >= REFUSED_FACTOR
            is_below = np.maximum(factor, revenue_factor) <= 1 / REFUSED_FACTOR
            week = curves.start[rows].astype("datetime64[D]").astype(np.int64) // DAYS_PER_WEEK
            columns = {
                "week": week,
                "age": age,
                "first_day": curves.start[rows],
                "cohorts": 1,
                "above": is_above,
                "below": is_below,
                "log_factor": np.where(is_above | is_below, np.log(factor), 0.0),
            }
            parts.append(_add_weeks(pd.DataFrame(columns).set_index(["week", "age"])))
        return pd.concat(parts) if parts else pd.DataFrame()

    def _check_weeks(self, scale: ScaleCheck) -> list[Finding]:
        """Refuse weeks of acquisition in which most cohorts are at another scale."""
        weeks = [part for part in self._weeks if len(part)]
        if not weeks:
            return []
        sums = _add_weeks(pd.concat(weeks))
        far = sums[["above", "below"]].max(axis=1)
        is_far = (far >= _MIN_FAR_COHORTS) & (far >= _MIN_FAR_SHARE * sums["cohorts"])
        if not is_far.any():
            return []
        odd = sums[is_far].reset_index().drop_duplicates("week")  # at the first of its ages
        factors = np.exp(odd["log_factor"] / (odd["above"] + odd["below"]))
        counts = odd[["above", "below"]].max(axis=1)
        columns = [counts, odd["cohorts"], odd["first_day"].astype(str).str[:10], factors]
        names = [
            f"{count:,} of {cohorts:,} cohorts from {day} on {format_factor(factor)}"
            for count, cohorts, day, factor in zip(*columns, strict=True)
        ]
        severity: Severity = "refusal" if scale == "check" else "warning"
        message = (
            "revenue per user of whole weeks of acquisition is far from what their segments had "
            f"in training: {list_names(names)}"
        )
        way_out = "are they in another currency or unit? Convert them; scale=any takes them as is"
        return [Finding(severity, "level", message, way_out)]

    def _usual_levels(self, curves: Curves, age: int) -> Floats:
        """Level in training of the segment of each cohort, of all for one without a level: (N,)."""
        total = float(self.recorded.total["level"].loc[age])
        name = self.recorded.attribute
        if name is None or name not in curves.attributes:
            return np.full(len(curves), total)
        segments = self.recorded.segments["level"].xs(age, level="age")
        codes, values = curves.attribute_codes[name]
        level_of_value = segments.where(segments > 0).reindex(list(values)).fillna(total)
        levels: Floats = level_of_value.to_numpy(dtype=float)[codes]
        return levels

    def _check_cohorts(self) -> Iterator[Finding]:
        """Yield a warning that names single cohorts far above the level of their segment."""
        cohorts = sum(map(len, self._users))
        if not self._outlying or len(self._outlying) > _MAX_OUTLYING_SHARE * cohorts:
            return
        by_name = {name: factor for factor, name in sorted(self._outlying)}
        names = sorted(by_name, key=lambda name: -by_name[name])
        message = (
            f"{len(names):,} cohorts earn up to {format_factor(max(by_name.values()))} of what "
            f"their segment did in training: {list_names(names)}"
        )
        yield Finding("warning", "single cohorts", message, "are they in another currency or unit?")

    def _check_users(self) -> Iterator[Finding]:
        """Yield a warning where cohorts have far more or fewer users than in training."""
        users = np.concatenate(self._users)
        if not self.median_users or len(users) < _MIN_COHORTS_OF_LEVEL:
            return
        factor = float(np.median(users)) / self.median_users
        if 1 / USERS_FACTOR < factor < USERS_FACTOR:
            return
        message = (
            f"a cohort has {np.median(users):,.4g} users in the median, {format_factor(factor)} of "
            f"the {self.median_users:,.4g} in training"
        )
        way_out = "is it of another period, or are Users another column than in training?"
        yield Finding("warning", "users", message, way_out)


def _add_weeks(counts: pd.DataFrame) -> pd.DataFrame:
    """Add counts of cohorts by week and age; the first day is the earliest."""
    grouped = counts.groupby(level=["week", "age"])
    sums: pd.DataFrame = grouped[["cohorts", "above", "below", "log_factor"]].sum()
    return sums.assign(first_day=grouped["first_day"].min())


def _join_levels(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Join levels now and in training (`..._before`) where both are known, with their `factor`."""
    both = now.join(before.add_suffix("_before"), how="inner")
    both = both[(both["level_before"] > 0) & both["level"].notna()]
    return both.assign(factor=both["level"] / both["level_before"])


def _as_one_segment(total: pd.DataFrame) -> pd.DataFrame:
    """Return levels of all cohorts by age as those of one segment without a name."""
    named = total.assign(segment="").set_index("segment", append=True)
    return named.reorder_levels(["segment", "age"])


def _name_cohort(curves: Curves, row: int) -> str:
    """Name a cohort by its attributes and its first day."""
    values = [str(text[row]) for text in curves.attributes.values() if text[row]]
    return " ".join([*values, f"of {curves.start[row]}"])


def check_level(bundle: Bundle, curves: Curves, scale: ScaleCheck) -> None:
    """Log how the level of cohorts differs from that of the training of a bundle.

    Raises ValueError where they are at another scale.
    """
    comparison = LevelComparison.from_manifest(bundle.manifest)
    comparison.add(curves)
    report_findings(comparison.findings(scale))


def check_compatibility(bundle: Bundle, curves: Curves) -> None:
    """Warn of what speaks against forecasting these cohorts with this bundle.

    Raises ValueError when the data have lost the number of users: sums would be of one user each.
    """
    _refuse_lost_users(bundle, curves)
    _warn_of_distant_dates(bundle, curves)

    missing_attributes = sorted(set(bundle.manifest["attributes"]) - set(curves.attributes))
    if missing_attributes:
        log.warning(
            "the bundle was trained with %s, which these data lack: every row is unseen_category "
            "and forecast by a coarser segment",
            ", ".join(missing_attributes),
        )
    missing_inputs = sorted(set(bundle.manifest["reads"]) - _names_of_extra_data(curves))
    if missing_inputs:
        log.warning(
            "the bundle was trained with %s, which these data lack: every row is forecast as one "
            "of which that is unknown",
            ", ".join(missing_inputs),
        )


def _refuse_lost_users(bundle: Bundle, curves: Curves) -> None:
    median = bundle.manifest.get("users") or 1.0
    users = curves.users[curves.observed_age >= 0]
    if median > 1 and len(users) and (users == 1).all():
        raise ValueError(
            f"these data have no Users, the bundle was trained with {median:,.0f} a cohort in the "
            "median: name their column as in training, such as 'data.columns={Users: Installs}'"
        )


def _warn_of_distant_dates(bundle: Bundle, curves: Curves) -> None:
    days = int((curves.origin - bundle.as_of) / ONE_DAY)
    if days > STALE_DAYS:
        log.warning(
            "the data are %d days newer than the bundle, trained as of %s: train anew",
            days,
            bundle.as_of,
        )
    if days < 0:
        log.warning(
            "the bundle, trained as of %s, knows %d days that came after these data: its forecasts "
            "of them prove nothing",
            bundle.as_of,
            -days,
        )


def _names_of_extra_data(curves: Curves) -> set[str]:
    """Names of the data beside curves and attributes, as `ReadsCovariates.extra_inputs` has them.

    Spend counts as there where no cohort has begun.
    """
    inputs = {f"series {name}" for name in curves.series}
    spend = curves.spend[curves.observed_age >= 0]
    if not len(spend) or np.isfinite(spend).any():
        inputs.add("spend")
    return inputs
