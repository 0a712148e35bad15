"""Batch prediction: a bundle and cohorts in, forecast tables out, in bounded memory."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from rich.progress import Progress

from ltvnet import predictions
from ltvnet.bundle import Bundle
from ltvnet.corrected import Corrected
from ltvnet.correction import Blend
from ltvnet.curves import AGES, MAX_AGE, NODES, Bools, Curves
from ltvnet.explanation import explain
from ltvnet.forecasting import BUCKETS, Forecast, checked_ages
from ltvnet.ledger import Entries, Ledger
from ltvnet.stages import Stages

log = logging.getLogger(__name__)

STALE_DAYS = 60
"""Data newer than the bundle by more than so many days call for training anew."""


@dataclass(frozen=True)
class Tables:
    """Which tables are written: the `wide` ones of each day, `ages` of the long one, `by` what
    the roll-up sums (None: Campaign, or else Source), `ledger` the folder of the table of
    record (None: these forecasts are not kept there), and `explain` whether the parts of each
    forecast are told.

    Raises ValueError for ages that are not within 1..360.
    """

    wide: bool
    ages: Sequence[int]
    by: str | None
    ledger: Path | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        """Check the ages."""
        if checked_ages(self.ages)[0] == 0:
            raise ValueError(f"expected ages within 1..{MAX_AGE}: D0 is never forecast")


def predict(
    bundle: Bundle, read: Callable[[], Iterable[Curves]], folder: Path, tables: Tables
) -> Counter[str]:
    """Forecast all cohorts that `read()` gives, piece by piece, and write the tables to `folder`.

    Returns how many cohorts have which reason. Raises ValueError when there are no cohorts, and
    for a ledger when the bundle knew days after the data.
    """
    young, pieces = _looked_at(read) if tables.wide else (False, read())
    reasons: Counter[str] = Counter()
    stream: Iterable[Forecast] = _forecasts(bundle, pieces, tables)
    if tables.ledger is not None:
        stream = _recorded(stream, bundle, Ledger(tables.ledger))
    if tables.explain:
        told = partial(explain, bundle.forecaster)
        stream = predictions.explained(stream, folder / "explanations.csv", told)
    if tables.wide:
        every = (forecast.at(range(1, AGES)) for forecast in stream)
        stream = predictions.wide(every, folder, young=young)
    stream = (forecast.at(tables.ages) for forecast in stream)
    stream = predictions.long(stream, folder / "forecasts.parquet", bundle.identity)
    for forecast in predictions.rollup(stream, folder / "rollup.csv", tables.by):
        reasons.update(forecast.reason.tolist())
    return reasons


def learned(bundle: Bundle) -> str:
    """What the past taught a bundle, in a line."""
    model = bundle.forecaster
    stages, names = Stages.none(), [bundle.name]
    if isinstance(model, Corrected):
        stages, names = model.stages, model.names
    weights = [_weights(names, stages.blend, b) for b in range(len(BUCKETS))]
    said = [
        _acts("blended", stages.blend.on, weights),
        _acts("corrected", stages.correction.on, [""] * len(BUCKETS)),
    ]
    if len(names) > 1:
        said = [f"the mean of {', '.join(names)}", *said]
    bounds = "calibrated on the past" if stages.calibrated else "blank, as no past was learned from"
    return f"{'; '.join(said)}; P10 and P90 are {bounds}"


def _acts(what: str, on: Bools, how: Sequence[str]) -> str:
    """At which observed ages something is done, and how: `on` and `how` by bucket."""
    buckets = [f"{low}-{high - 1}" for low, high in pairwise((*BUCKETS, MAX_AGE))]
    ages = [age + said for age, said, acts in zip(buckets, how, on, strict=True) if acts]
    return f"{what} at observed ages {', '.join(ages)}" if ages else f"nothing {what}"


def _weights(names: Sequence[str], blend: Blend, b: int) -> str:
    """The weights of models and the pattern in a bucket, those that have any."""
    weights = zip([*names, "pattern"], [*blend.weight[b], blend.pattern[b]], strict=True)
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
    return bool((curves.observed_age < predictions.FIRST_WEEK).any())


def _forecasts(bundle: Bundle, pieces: Iterable[Curves], tables: Tables) -> Iterator[Forecast]:
    asked = {*(range(1, AGES) if tables.wide else tables.ages)}
    ages = sorted(asked.union(NODES) if tables.ledger or tables.explain else asked)
    done = 0
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("cohorts", total=None)
        for curves in pieces:
            if not done:
                _warn(bundle, curves)
            yield bundle.forecaster.predict(curves, ages)
            done += len(curves)
            progress.update(bar, completed=done, description=f"{done:,} cohorts")


def _recorded(stream: Iterable[Forecast], bundle: Bundle, ledger: Ledger) -> Iterator[Forecast]:
    """Hand forecasts on; when they have all been taken, write them at the nodes into a ledger."""
    parts = []
    for forecast in stream:
        ledger.refuse_hindsight(forecast.curves.origin, bundle.as_of)
        parts.append(Entries.of(forecast.at(NODES), forecast.curves.observed_age))
        yield forecast
    if sum(map(len, parts)):
        model = f"{bundle.name}-{bundle.identity[:12]}"
        ledger.append(model, Entries.joined(parts), bundle.identity, bundle.as_of)


def _warn(bundle: Bundle, curves: Curves) -> None:
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
