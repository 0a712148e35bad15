"""Batch prediction: a bundle and cohorts in, forecast tables out, in bounded memory."""

import hashlib
import json
import logging
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import Progress

from ltvnet.backtesting.ledger import Ledger, LedgerEntries
from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.arrays import Bools
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, validate_ages
from ltvnet.forecasting.explanation import explain
from ltvnet.forecasting.forecast import AGE_BUCKETS, Forecast
from ltvnet.forecasting.rollup import Rollup
from ltvnet.models.pattern.pattern import shared_interpolation_pattern
from ltvnet.prediction import tables
from ltvnet.prediction.bundle import Bundle
from ltvnet.prediction.tables import OutputPaths
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

STALE_DAYS = 60
"""Data newer than the bundle by more than so many days call for training anew."""


TABLES_VERSION = 1
"""Part of what tables depend on: raise it when the code would write others of the same cohorts."""

PREFETCH_PIECES = 2
"""Pieces that are read before their turn: some take longer, to read or to forecast, than others."""

SWITCH_SECONDS = 5e-5
"""Seconds after which a thread lets another go on: both mostly wait for numbers, not for turns."""


@dataclass(frozen=True)
class OutputOptions:
    """Which tables are written: the `wide` ones of each day as csv or parquet (None: not), `ages`
    of the long one, `by` what the roll-up sums (None: Campaign, or else Source), `ledger` the
    folder of the table of record (None: these forecasts are not kept there), `explain` whether
    the parts of each forecast are told, and `part` cohorts to a file (None: all in one).

    Raises ValueError for ages that are not within 1..360 and for other words and numbers.
    """

    wide: str | None
    ages: Sequence[int]
    by: str | None
    ledger: str | Path | None = None
    explain: bool = False
    part: int | None = None

    def __post_init__(self) -> None:
        """Check words and numbers."""
        if validate_ages(self.ages)[0] == 0:
            raise ValueError(f"expected ages within 1..{MAX_AGE}: D0 is never forecast")
        if self.wide is not None and self.wide not in tables.WIDE_WRITERS:
            raise ValueError(f"expected wide=csv, parquet or null, got {self.wide}")
        if self.part is not None and (type(self.part) is not int or self.part < 1):
            raise ValueError(f"expected part, a whole number of cohorts >= 1, got {self.part}")
        if self.part is not None and self.ledger is not None:
            raise ValueError("expected part=null with a ledger: it takes the forecasts as a whole")


def predict(
    bundle: Bundle, read: Callable[[], Iterable[Curves]], folder: Path, options: OutputOptions
) -> Counter[str]:
    """Forecast all cohorts that `read()` gives, piece by piece, and write the tables to `folder`.

    With tables in parts, those that another call has finished, of the same cohorts and with the
    same bundle, stay as they are. Returns how many cohorts have which reason. Raises ValueError
    when there are no cohorts, and for a ledger when the bundle knew days after the data.
    """
    young, pieces = _looked_at(read) if options.wide else (False, read())
    pieces = _watched(pieces, bundle)
    if options.part is None:
        reasons, sums = _written(bundle, pieces, OutputPaths(folder), options, young=young)
    else:
        reasons, sums = _in_parts(bundle, pieces, folder, options, young=young)
    tables.write_rollup(sums, folder / "rollup.csv")
    return reasons


Made = tuple[Counter[str], Rollup]
"""How many cohorts have which reason, and the sums over all of them."""


def _written(
    bundle: Bundle,
    pieces: Iterable[Curves],
    places: OutputPaths,
    options: OutputOptions,
    *,
    young: bool,
) -> Made:
    """Forecast the pieces and write all tables but the roll-up."""
    reasons: Counter[str] = Counter()
    sums: Rollup | None = None
    pattern = shared_interpolation_pattern([bundle.forecaster])
    ages = _ages(options, every=options.wide is not None and pattern is None)
    stream: Iterable[Forecast] = (bundle.forecaster.predict(piece, ages) for piece in pieces)
    if options.ledger is not None:
        stream = _recorded(stream, bundle, Ledger(Path(options.ledger)))
    if options.explain:
        told = partial(explain, bundle.forecaster)
        stream = tables.write_explanations(stream, places.explanations, told)
    if options.wide is not None:
        courses = None if pattern is None else pattern.interpolation_shape
        stream = tables.write_wide(stream, places, options.wide, courses, first_week=young)
    stream = (forecast.at(options.ages) for forecast in stream)
    for forecast in tables.write_long(stream, places.long_table, bundle.identity):
        own = Rollup.from_forecast(forecast, options.by)
        sums = own if sums is None else sums.add(own.table)
        reasons.update(forecast.reason.tolist())
    assert sums is not None  # else there was no table to write either
    return reasons, sums


def _in_parts(
    bundle: Bundle, pieces: Iterable[Curves], folder: Path, options: OutputOptions, *, young: bool
) -> Made:
    """The same with the tables in parts of so many cohorts, those that are finished left alone."""
    assert options.part is not None
    reasons: Counter[str] = Counter()
    sums: Rollup | None = None
    for number, part in enumerate(_grouped(pieces, options.part)):
        places = OutputPaths(folder, number)
        path = places.long_table.parent / "_finished" / f"{number:05}.json"
        stamp = _stamp(bundle, part, options, young=young)
        done = json.loads(path.read_text()) if path.exists() else {}
        if done.get("stamp") != stamp or not all(map(Path.exists, _tables(places, part, options))):
            path.unlink(missing_ok=True)
            counts, own = _written(bundle, part, places, options, young=young)
            done = {
                "stamp": stamp,
                "reasons": counts,
                "sums": own.table.reset_index().to_dict("list"),
            }
            with atomic_write(path) as file:
                file.write_text(json.dumps(done))
        table = pd.DataFrame(done["sums"]).set_index(["segment", "age"])
        if sums is None:
            first = bundle.forecaster.predict(part[0].take(np.arange(1)), options.ages)
            sums = Rollup.from_forecast(first, options.by)._replace(table=table)
        else:
            sums = sums.add(table)
        reasons.update(done["reasons"])
        del part  # before the next one is read
    if sums is None:
        raise ValueError(f"{folder}: expected forecasts to write, got none: no cohort had begun")
    tables.remove_stale_parts(folder, number + 1, sums.sample_forecast.curves.origin)
    return reasons, sums


def _tables(places: OutputPaths, part: Sequence[Curves], options: OutputOptions) -> list[Path]:
    """The files of a part."""
    kind, origin = options.wide, part[0].origin
    wide = (
        [] if kind is None else [places.wide_table(stage, origin, kind) for stage in ("", "_Final")]
    )
    return [places.long_table, *wide, *[places.explanations] * options.explain]


def _grouped(pieces: Iterable[Curves], part: int) -> Iterator[list[Curves]]:
    """Pieces until they have so many cohorts, or more."""
    held: list[Curves] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= part:
            yield held
            held = []
    if held:
        yield held


def _stamp(bundle: Bundle, part: Sequence[Curves], options: OutputOptions, *, young: bool) -> str:
    """SHA-256 of all that the tables of a part depend on."""
    told = [
        TABLES_VERSION,
        bundle.identity,
        options.wide,
        list(options.ages),
        options.by,
        options.explain,
    ]
    names = [list(part[0].attribute_codes), sorted(part[0].series), list(part[0].hierarchy)]
    text = json.dumps([*told, young, *names, part[0].lag_days, str(part[0].origin)])
    digest = hashlib.sha256(text.encode())
    for curves in part:
        digest.update(
            json.dumps([w.values.tolist() for w in curves.attribute_codes.values()]).encode()
        )
        further = [curves.series[name] for name in sorted(curves.series)]
        codes = [w.codes for w in curves.attribute_codes.values()]
        days = [curves.start.astype(np.int64), curves.end.astype(np.int64)]
        for array in (*days, *codes, curves.users, curves.spend, curves.values, *further):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _ages(options: OutputOptions, *, every: bool) -> list[int]:
    """The ages to forecast at, `every` one or those that the tables need."""
    asked = {*(range(1, AGES) if every else options.ages)}
    nodes = options.ledger or options.explain or options.wide is not None
    return sorted(asked.union(NODES) if nodes else asked)


def prefetch(pieces: Iterator[Curves]) -> Iterator[Curves]:
    """The pieces, of which a thread reads the next ones while one is worked on."""
    thread, usual = ThreadPoolExecutor(1), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        waiting = deque(thread.submit(next, pieces, None) for _ in range(PREFETCH_PIECES))
        while (piece := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, pieces, None))
            yield piece
    finally:
        thread.shutdown(cancel_futures=True)
        sys.setswitchinterval(usual)


def describe_corrections(bundle: Bundle) -> str:
    """What the past taught a bundle, in a line."""
    model = bundle.forecaster
    stages, names = LearnedStages.neutral(), [bundle.model_name]
    if isinstance(model, Corrected):
        stages, names = model.stages, model.base_names
    weights = [_weights(names, stages.blend, b) for b in range(len(AGE_BUCKETS))]
    said = [
        _acts("blended", stages.blend.is_on, weights),
        _acts("corrected", stages.correction.is_on, [""] * len(AGE_BUCKETS)),
    ]
    if len(names) > 1:
        said = [f"the mean of {', '.join(names)}", *said]
    bounds = (
        "calibrated on the past" if stages.has_intervals else "blank, as no past was learned from"
    )
    return f"{'; '.join(said)}; P10 and P90 are {bounds}"


def _acts(what: str, on: Bools, how: Sequence[str]) -> str:
    """At which observed ages something is done, and how: `on` and `how` by bucket."""
    buckets = [f"{low}-{high - 1}" for low, high in pairwise((*AGE_BUCKETS, MAX_AGE))]
    ages = [age + said for age, said, acts in zip(buckets, how, on, strict=True) if acts]
    return f"{what} at observed ages {', '.join(ages)}" if ages else f"nothing {what}"


def _weights(names: Sequence[str], blend: Blend, b: int) -> str:
    """The weights of models and the pattern in a bucket, those that have any."""
    weights = zip([*names, "pattern"], [*blend.weight[b], blend.pattern_weight[b]], strict=True)
    return (
        f" ({', '.join(f'{name} {100 * weight:.0f} %' for name, weight in weights if weight > 0)})"
    )


def _looked_at(read: Callable[[], Iterable[Curves]]) -> tuple[bool, Iterable[Curves]]:
    """Whether any cohort is in its first week, and the pieces; read twice only where it must be."""
    pieces = iter(read())
    first = next(pieces, None)
    if first is None:
        return False, ()
    if _young(first):
        return True, chain([first], pieces)
    second = next(pieces, None)
    if second is None:
        return False, [first]
    return any(map(_young, read())), chain([first, second], pieces)


def _young(curves: Curves) -> bool:
    return bool((curves.observed_age < tables.FIRST_WEEK_DAYS).any())


def _watched(pieces: Iterable[Curves], bundle: Bundle) -> Iterator[Curves]:
    """The pieces, read ahead, with a bar of how many cohorts are done and a look at the first."""
    done = 0
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("cohorts", total=None)
        for curves in prefetch(iter(pieces)):
            if not done:
                check_compatibility(bundle, curves)
            yield curves
            done += len(curves)
            progress.update(bar, completed=done, description=f"{done:,} cohorts")


def _recorded(stream: Iterable[Forecast], bundle: Bundle, ledger: Ledger) -> Iterator[Forecast]:
    """Hand forecasts on; when they have all been taken, write them at the nodes into a ledger."""
    parts = []
    for forecast in stream:
        ledger.refuse_hindsight(forecast.curves.origin, bundle.as_of)
        parts.append(LedgerEntries.from_forecast(forecast.at(NODES), forecast.curves.observed_age))
        yield forecast
    if sum(map(len, parts)):
        model = f"{bundle.model_name}-{bundle.identity[:12]}"
        ledger.write(model, LedgerEntries.concatenate(parts), bundle.identity, bundle.as_of)


def check_compatibility(bundle: Bundle, curves: Curves) -> None:
    """Say what speaks against forecasting these cohorts with this bundle.

    Raises ValueError when the data have lost the number of users: sums would be of one user each.
    """
    median = bundle.manifest.get("users") or 1.0
    users = curves.users[curves.observed_age >= 0]
    if median > 1 and len(users) and (users == 1).all():
        raise ValueError(
            f"these data have no Users, the bundle was trained with {median:,.0f} a cohort in the "
            "median: name their column as in training, such as 'data.columns={Users: Installs}'"
        )
    days = int((curves.origin - bundle.as_of) / np.timedelta64(1, "D"))
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
    if gone := sorted(set(bundle.manifest["attributes"]) - set(curves.attributes)):
        log.warning(
            "the bundle was trained with %s, which these data lack: every row is unseen_category "
            "and forecast by a coarser segment",
            ", ".join(gone),
        )
    if gone := sorted(set(bundle.manifest["reads"]) - _beside(curves)):
        log.warning(
            "the bundle was trained with %s, which these data lack: every row is forecast as one "
            "of which that is unknown",
            ", ".join(gone),
        )


def _beside(curves: Curves) -> set[str]:
    """What these data have beside curves and attributes, by the names of `bundle.Reading`."""
    spend = curves.spend[curves.observed_age >= 0]
    known = not len(spend) or np.isfinite(spend).any()
    return {f"series {name}" for name in curves.series} | ({"spend"} if known else set())
