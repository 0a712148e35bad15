"""Batch prediction: a bundle and cohorts in, forecast tables out, in bounded memory.

Cohorts come in pieces, read ahead by a thread. A part is as many pieces as fill one file of each
table; without parts, all pieces go to one file of each.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ltvnet.backtesting.issuing import issue_forecasts
from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, validate_ages
from ltvnet.data.findings import raise_refusals, report_findings
from ltvnet.data.fingerprints import Fingerprint
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.rollup import Rollup
from ltvnet.models.pattern.pattern import shared_interpolation_pattern
from ltvnet.prediction import tables
from ltvnet.prediction.bundle import Bundle
from ltvnet.prediction.compatibility import LevelComparison, ScaleCheck, check_compatibility
from ltvnet.prediction.pieces import prefetch, show_progress
from ltvnet.prediction.tables import WIDE_STAGES, OutputPaths, WideFormat
from ltvnet.storage import atomic_write, explain_damage

log = logging.getLogger(__name__)

TABLES_VERSION = 2
"""Part of what tables depend on: raise it when the code would write others of the same cohorts."""


@dataclass(frozen=True)
class OutputOptions:
    """Which tables are written.

    `wide` tables of each day as csv or parquet (None: not), `ages` of the long one, `by` the
    attribute that the roll-up sums by (None: Campaign, or else Source), `ledger` the folder of the
    table of record (None: these forecasts are not kept there), `explain` whether each forecast is
    explained, `part` cohorts to a file (None: all in one), and `scale` what becomes of data at
    another level than the bundle was trained with (check: refused, any: told of).

    Raises ValueError for ages that are not within 1..360 and for other words and numbers.
    """

    wide: WideFormat | None
    ages: Sequence[int]
    by: str | None
    ledger: str | Path | None = None
    explain: bool = False
    part: int | None = None
    scale: ScaleCheck = "check"

    def __post_init__(self) -> None:
        """Check words and numbers."""
        if validate_ages(self.ages)[0] == 0:
            raise ValueError(f"expected ages within 1..{MAX_AGE}: D0 is never forecast")
        if self.wide is not None and self.wide not in tables.WIDE_WRITERS:
            raise ValueError(f"expected wide=csv, parquet or null, got {self.wide}")
        if self.part is not None and (type(self.part) is not int or self.part < 1):
            raise ValueError(f"expected part, a whole number of cohorts >= 1, got {self.part}")
        if self.scale not in ("check", "any"):
            raise ValueError(f"expected scale=check or any, got {self.scale!r}")
        if self.part is not None and self.ledger is not None:
            raise ValueError("expected part=null with a ledger: it takes the forecasts as a whole")


class _Summary(NamedTuple):
    """Summary of written forecasts: cohorts by `reason`, sums over all, and the number of parts."""

    reasons: Counter[str]
    rollup: Rollup
    parts: int = 1


def predict(
    bundle: Bundle,
    read: Callable[[], Iterable[Curves]],
    folder: Path,
    options: OutputOptions,
    expected_rows: int | None = None,
) -> Counter[str]:
    """Forecast all cohorts that `read()` gives, piece by piece, and write the tables to `folder`.

    A bar counts them, of about `expected_rows` (None: nobody knows how many there are).
    With tables in parts, those that another call has finished, of the same cohorts and with the
    same bundle, stay as they are. Returns how many cohorts have which reason. Raises ValueError
    when there are no cohorts, and for a ledger when the bundle knew days after the data.
    """
    if options.wide:
        first_week, pieces = _peek_first_week(read)
    else:
        first_week, pieces = False, read()
    pieces = show_progress(prefetch(iter(pieces)), expected_rows)
    pieces = _compare_with_training(pieces, bundle, options.scale)

    if options.part is None:
        files = [OutputPaths(folder)]
        summary = _write_tables(bundle, pieces, files[0], options, first_week=first_week)
    else:
        summary = _write_in_parts(bundle, pieces, folder, options, first_week=first_week)
        files = [OutputPaths(folder, part) for part in range(summary.parts)]
    tables.write_rollup(summary.rollup, folder / "rollup.csv")
    _tell_limits(summary.rollup)
    _tell_older_tables(folder, files, summary.rollup.sample_forecast.curves.origin, options)
    return summary.reasons


def _tell_older_tables(
    folder: Path, files: Sequence[OutputPaths], origin: np.datetime64, options: OutputOptions
) -> None:
    """Warn of tables of this day that an earlier run of other options left in the folder."""
    written = chain.from_iterable(_part_files(paths, origin, options) for paths in files)
    if older := tables.find_older_tables(folder, origin, written):
        log.warning(
            "an earlier run left other forecasts of %s, which this one did not write: delete %s",
            origin,
            ", ".join(map(str, older)),
        )


def _tell_limits(rollup: Rollup) -> None:
    """Warn of what tables cannot say: ages beyond the data of the bundle, spend that is unknown."""
    last_age = rollup.sample_forecast.last_supported_age
    if last_age < MAX_AGE:
        reach = f"up to D{last_age}" if last_age >= 0 else "at no age: too few cohorts"
        log.warning(
            "the data that the bundle was trained with support forecasts %s: beyond that, what was "
            "not observed is blank in the tables, and missing in rollup.csv",
            reach,
        )
    if gap := rollup.describe_spend_gap():
        log.warning("%s", gap)


def _write_tables(
    bundle: Bundle,
    pieces: Iterable[Curves],
    paths: OutputPaths,
    options: OutputOptions,
    *,
    first_week: bool,
) -> _Summary:
    """Forecast the pieces and write all tables but the roll-up.

    Each table is a stage of one stream: a piece is read, forecast and written to every table
    before the next one is.
    """
    pattern = shared_interpolation_pattern([bundle.forecaster])
    ages = _forecast_ages(options, every_age=options.wide is not None and pattern is None)
    stream: Iterable[Forecast] = (bundle.forecaster.predict(piece, ages) for piece in pieces)

    if options.ledger is not None:
        stream = _record_in_ledger(stream, bundle, Ledger(Path(options.ledger)))
    if options.explain:
        explain_forecast = partial(explain, bundle.forecaster)
        stream = tables.write_explanations(stream, paths.explanations, explain_forecast)
    if options.wide is not None:
        shape = None if pattern is None else pattern.interpolation_shape
        stream = tables.write_wide(stream, paths, options.wide, shape, first_week=first_week)
    stream = (forecast.at(options.ages) for forecast in stream)

    reasons: Counter[str] = Counter()
    rollup: Rollup | None = None
    for forecast in tables.write_long(stream, paths.long_table, bundle.identity):
        piece_rollup = Rollup.from_forecast(forecast, options.by)
        rollup = piece_rollup if rollup is None else rollup.add(piece_rollup.table)
        reasons.update(forecast.reason.tolist())
    assert rollup is not None  # else there was no table to write either
    return _Summary(reasons, rollup)


def _write_in_parts(
    bundle: Bundle,
    pieces: Iterable[Curves],
    folder: Path,
    options: OutputOptions,
    *,
    first_week: bool,
) -> _Summary:
    """Write tables in parts of `options.part` cohorts, skipping parts already finished (resume)."""
    assert options.part is not None
    reasons: Counter[str] = Counter()
    rollup: Rollup | None = None
    parts = 0
    for part in _group_pieces(pieces, options.part):
        paths = OutputPaths(folder, parts)
        record = _write_part(bundle, part, paths, options, first_week=first_week)

        reasons.update(record["reasons"])
        part_sums = pd.DataFrame(record["sums"]).set_index(["segment", "age"])
        if rollup is None:
            one_cohort = part[0].take(np.arange(1))
            sample = bundle.forecaster.predict(one_cohort, options.ages)
            rollup = Rollup.from_forecast(sample, options.by)._replace(table=part_sums)
        else:
            rollup = rollup.add(part_sums)
        parts += 1
        del part  # before the next one is read

    if rollup is None:
        raise ValueError(f"{folder}: expected forecasts to write, got none: no cohort had begun")
    tables.remove_stale_parts(folder, parts, rollup.sample_forecast.curves.origin)
    return _Summary(reasons, rollup, parts)


def _write_part(
    bundle: Bundle,
    part: Sequence[Curves],
    paths: OutputPaths,
    options: OutputOptions,
    *,
    first_week: bool,
) -> dict[str, Any]:
    """Write a part unless it is finished. Returns the record of it: `reasons` and `sums`.

    The record is kept beside the tables, with the stamp of all that they depend on.
    """
    path = paths.long_table.parent / "_finished" / f"{paths.part:05}.json"
    stamp = _part_stamp(bundle, part, options, first_week=first_week)
    record = _read_part_record(path)
    is_written = all(file.exists() for file in _part_files(paths, part[0].origin, options))
    if record.get("stamp") == stamp and is_written:
        return record

    path.unlink(missing_ok=True)
    summary = _write_tables(bundle, part, paths, options, first_week=first_week)
    record = {
        "stamp": stamp,
        "reasons": summary.reasons,
        "sums": summary.rollup.table.reset_index().to_dict("list"),
    }
    with atomic_write(path) as file:
        file.write_text(json.dumps(record))
    return record


def _read_part_record(path: Path) -> dict[str, Any]:
    """Read the record of a finished part; {} where there is none, or a damaged one."""
    if not path.exists():
        return {}
    try:
        with explain_damage(path, "its part is made again"):
            record: dict[str, Any] = dict(json.loads(path.read_text()))
    except ValueError as error:
        log.warning("%s", error)
        return {}
    return record


def _part_files(paths: OutputPaths, origin: np.datetime64, options: OutputOptions) -> list[Path]:
    """The files of a part."""
    files = [paths.long_table]
    if options.wide is not None:
        files += [paths.wide_table(stage, origin, options.wide) for stage in WIDE_STAGES]
    if options.explain:
        files.append(paths.explanations)
    return files


def _group_pieces(pieces: Iterable[Curves], cohorts: int) -> Iterator[list[Curves]]:
    """Collect pieces until they have so many cohorts, or more."""
    group: list[Curves] = []
    for piece in pieces:
        group.append(piece)
        if sum(map(len, group)) >= cohorts:
            yield group
            group = []
    if group:
        yield group


def _part_stamp(
    bundle: Bundle, part: Sequence[Curves], options: OutputOptions, *, first_week: bool
) -> str:
    """SHA-256 of all that the tables of a part depend on: bundle, options and cohorts."""
    first_piece = part[0]
    series_names = sorted(first_piece.series)
    settings = [
        TABLES_VERSION,
        bundle.identity,
        options.wide,
        list(options.ages),
        options.by,
        options.explain,
        first_week,
        list(first_piece.attribute_codes),
        series_names,
        list(first_piece.hierarchy),
        first_piece.lag_days,
        first_piece.exported_ages,
        str(first_piece.origin),
    ]
    fingerprint = Fingerprint().add_json(settings)
    for curves in part:
        attributes = curves.attribute_codes.values()
        fingerprint.add_json([attribute.values.tolist() for attribute in attributes])
        fingerprint.add_arrays(curves.start.astype(np.int64), curves.end.astype(np.int64))
        fingerprint.add_arrays(*(attribute.codes for attribute in attributes))
        fingerprint.add_arrays(curves.users, curves.spend, curves.values)
        fingerprint.add_arrays(*(curves.series[name] for name in sorted(curves.series)))
    return fingerprint.hex()


def _forecast_ages(options: OutputOptions, *, every_age: bool) -> list[int]:
    """The ages to forecast at: every one, or those that the tables need."""
    ages = set(range(1, AGES)) if every_age else set(options.ages)
    if options.ledger or options.explain or options.wide is not None:
        ages.update(NODES)
    return sorted(ages)


def _peek_first_week(read: Callable[[], Iterable[Curves]]) -> tuple[bool, Iterable[Curves]]:
    """Return whether any cohort is in its first week, and the pieces; read all twice only if need
    be: where there are several pieces and no such cohort is in the first.
    """
    pieces = iter(read())
    first = next(pieces, None)
    if first is None:
        return False, ()
    if _has_first_week(first):
        return True, chain([first], pieces)

    second = next(pieces, None)
    if second is None:
        return False, [first]
    return any(map(_has_first_week, read())), chain([first, second], pieces)


def _has_first_week(curves: Curves) -> bool:
    return bool((curves.observed_age < tables.FIRST_WEEK_DAYS).any())


def _compare_with_training(
    pieces: Iterable[Curves], bundle: Bundle, scale: ScaleCheck
) -> Iterator[Curves]:
    """Yield pieces, and compare them with what the bundle was trained on.

    Raises ValueError where the first piece, or all together, are at another scale; tables that
    are being written then are not kept.
    """
    comparison = LevelComparison.from_manifest(bundle.manifest)
    is_first = True
    for curves in pieces:
        if is_first:
            check_compatibility(bundle, curves)
        comparison.add(curves)
        if is_first:
            raise_refusals(comparison.findings(scale))
        is_first = False
        yield curves
    report_findings(comparison.findings(scale))


def _record_in_ledger(
    stream: Iterable[Forecast], bundle: Bundle, ledger: Ledger
) -> Iterator[Forecast]:
    """Hand forecasts on; when they have all been taken, add them at the nodes to a ledger."""
    entries = []
    for forecast in stream:
        curves = forecast.curves
        ledger.refuse_hindsight(curves.origin, bundle.as_of)
        entries.append(LedgerEntries.from_forecast(forecast.at(NODES), curves.observed_age))
        yield forecast

    if sum(map(len, entries)):
        model = f"{bundle.model_name}-{bundle.identity[:12]}"
        all_entries = LedgerEntries.concatenate(entries)
        issued = issue_forecasts(ledger, model, all_entries, bundle.identity, bundle.as_of)
        log.log(logging.WARNING if issued.revision else logging.INFO, "%s", issued.as_text())
