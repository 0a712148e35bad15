"""Batch prediction: a bundle and cohorts in, forecast tables out, in bounded memory."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from ltvnet import predictions
from ltvnet.bundle import Bundle
from ltvnet.curves import AGES, MAX_AGE, Curves
from ltvnet.forecasting import Forecast, checked_ages

log = logging.getLogger(__name__)

STALE_DAYS = 60
"""Data newer than the bundle by more than so many days call for training anew."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Which tables are written: the `wide` ones of each day, `ages` of the long one, and `by` what
    the roll-up sums (None: Campaign, or else Source).

    Raises ValueError for ages that are not within 1..360.
    """

    wide: bool
    ages: Sequence[int]
    by: str | None

    def __post_init__(self) -> None:
        """Check the ages."""
        if checked_ages(self.ages)[0] == 0:
            raise ValueError(f"expected ages within 1..{MAX_AGE}: D0 is never forecast")


def predict(
    bundle: Bundle, read: Callable[[], Iterable[Curves]], folder: Path, tables: Tables
) -> Counter[str]:
    """Forecast all cohorts that `read()` gives, piece by piece, and write the tables to `folder`.

    Returns how many cohorts have which reason. Raises ValueError when there are no cohorts.
    """
    young = tables.wide and any((piece.observed_age < 7).any() for piece in read())
    reasons: Counter[str] = Counter()
    forecasts = _forecasts(bundle, read(), tables)
    stream: Iterable[Forecast] = forecasts
    if tables.wide:
        stream = predictions.wide(stream, folder, young=young)
    stream = (forecast.at(tables.ages) for forecast in stream)
    stream = predictions.long(stream, folder / "forecasts.parquet", bundle.identity)
    for forecast in predictions.rollup(stream, folder / "rollup.csv", tables.by):
        reasons.update(forecast.reason.tolist())
    return reasons


def _forecasts(bundle: Bundle, pieces: Iterable[Curves], tables: Tables) -> Iterator[Forecast]:
    ages = range(1, AGES) if tables.wide else tables.ages
    done = 0
    with Progress(disable=not sys.stderr.isatty(), transient=True) as progress:
        bar = progress.add_task("cohorts", total=None)
        for curves in pieces:
            if not done:
                _warn(bundle, curves)
            yield bundle.forecaster.predict(curves, ages)
            done += len(curves)
            progress.update(bar, completed=done, description=f"{done:,} cohorts")


def _warn(bundle: Bundle, curves: Curves) -> None:
    """Say what speaks against forecasting these cohorts with this bundle."""
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
