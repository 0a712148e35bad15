"""Forecasts as a bundle issues them: added to the table of record, which nothing overwrites.

The first forecast of a cohort on a day by a bundle stands as it was issued, and is the one that is
scored. What the same bundle says later of the same cohort and day, since its data changed, is kept
beside as a numbered revision, in the folder `_revisions` that readers of Parquet skip.

Shapes: E entries, K cohorts.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from ltvnet.backtesting.ledger import STAGES, Ledger, LedgerEntries
from ltvnet.data.arrays import Bools, Floats, Ints
from ltvnet.forecasting.forecast import QUANTITIES
from ltvnet.storage import lock_folder

SAME_FORECAST_TOLERANCE = 1e-5
"""Relative difference up to which forecasts are the same: nets round by the size of a batch."""

WAITING_SECONDS = 60.0
"""Seconds for which a ledger that another process writes to is waited for."""

RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class IssueSummary:
    """Cohorts whose forecasts were issued: `added`, `unchanged`, since they stand there already,
    and `revised` in a file of that `revision` (None: there is no new one).
    """

    model: str
    origin: np.datetime64
    added: int
    unchanged: int
    revised: int
    revision: str | None

    def as_text(self) -> str:
        """The summary for a log."""
        counts = f"{self.added:,} cohorts added, {self.unchanged:,} there already"
        text = f"table of record, {self.model} on {self.origin}: {counts}"
        if self.revision is None:
            return text
        return (
            f"{text}; {self.revised:,} were forecast otherwise before: their first forecasts stay "
            f"as issued and are the ones scored, these are kept beside, in {self.revision}"
        )


def issue_forecasts(
    ledger: Ledger,
    model: str,
    entries: LedgerEntries,
    bundle: str,
    last_training_day: np.datetime64,
) -> IssueSummary:
    """Add entries of one origin to a ledger; entries of cohorts that stand there stay as issued.

    `bundle` the identity of what forecast, `last_training_day` the last that it knew. Two processes
    may issue at once: one waits for the other. Raises ValueError as `Ledger.write` does, for
    cohorts with other attributes than in the ledger, and where the ledger stays locked.
    """
    with _ledger_lock(ledger.folder):
        return _issue_alone(ledger, model, entries, bundle, last_training_day)


@contextmanager
def _ledger_lock(folder: Path) -> Iterator[None]:
    """Keep a ledger for this process, once others have written what they had to."""
    last_try = monotonic() + WAITING_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(folder, "adds forecasts to a table of record"))
                break
            except ValueError:
                if monotonic() > last_try:
                    raise
            sleep(RETRY_SECONDS)
        yield


def _issue_alone(
    ledger: Ledger,
    model: str,
    entries: LedgerEntries,
    bundle: str,
    last_training_day: np.datetime64,
) -> IssueSummary:
    """Issue forecasts while no other process writes to the ledger: see `issue_forecasts`."""
    origin = entries.origin[0]
    issued = None
    is_new = np.ones(len(entries), dtype=bool)
    is_revised = np.zeros(len(entries), dtype=bool)
    if ledger.has(model, origin):
        issued = ledger.read(model, [origin], entries.hierarchy)
        row = _rows_of_cohorts(entries, issued)
        is_new = row < 0
        is_revised = ~is_new & ~_are_same(entries, issued, row)

    if is_new.any():
        new_entries = entries.take(is_new)
        parts = [new_entries] if issued is None else [issued, new_entries]
        all_entries = LedgerEntries.concatenate(parts)
        ledger.write(model, all_entries, bundle, last_training_day)

    revisions = Ledger(ledger.folder / "_revisions")
    is_untold = _not_in_revisions(revisions, model, entries, is_revised)
    revision = None
    if is_untold.any():
        name = f"{model}.{1 + len(list(_revision_names(revisions, model, origin)))}"
        revisions.write(name, entries.take(is_untold), bundle, last_training_day)
        revision = str(revisions.path(name, origin))
    return IssueSummary(
        model=model,
        origin=origin,
        added=int(is_new.sum()),
        unchanged=int((~is_new & ~is_untold).sum()),
        revised=int(is_untold.sum()),
        revision=revision,
    )


def _revision_names(revisions: Ledger, model: str, origin: np.datetime64) -> Iterator[str]:
    """Names of a model's revisions of an origin, the oldest first."""
    number = 1
    while revisions.has(f"{model}.{number}", origin):
        yield f"{model}.{number}"
        number += 1


def _not_in_revisions(
    revisions: Ledger, model: str, entries: LedgerEntries, is_revised: Bools
) -> Bools:
    """Which of the revised entries (E,) the newest revision of their cohort does not hold."""
    is_untold = is_revised.copy()
    is_undecided = is_revised.copy()
    origin = entries.origin[0]
    for name in reversed(list(_revision_names(revisions, model, origin))):
        if not is_undecided.any():
            break
        revision = revisions.read(name, [origin], entries.hierarchy)
        row = _rows_of_cohorts(entries, revision)
        is_there = is_undecided & (row >= 0)
        is_untold[is_there & _are_same(entries, revision, row)] = False
        is_undecided &= ~is_there
    return is_untold


def _rows_of_cohorts(entries: LedgerEntries, issued: LedgerEntries) -> Ints:
    """Row of each entry's cohort among the issued ones: (E,), -1 where it is not there."""
    names, issued_names = ([str(n) for n in e.keys.names] for e in (entries, issued))
    if names != issued_names:
        raise ValueError(
            f"expected cohorts by {', '.join(issued_names)} as in the ledger, got "
            f"{', '.join(names)}: read the data with the attributes of the first forecasts of "
            f"{entries.origin[0]}, see data.attributes, or use another ledger"
        )
    first_row = np.full(len(issued.keys) + 1, -1)  # (K + 1,), the last of an unknown cohort
    first_row[issued.cohort_index[::-1]] = np.arange(len(issued))[::-1]
    position: Ints = issued.keys.get_indexer(entries.keys)  # (K,)
    rows: Ints = first_row[position[entries.cohort_index]]
    return rows


def _are_same(entries: LedgerEntries, issued: LedgerEntries, row: Ints) -> Bools:
    """Whether each entry (E,) says what the issued one in its `row` does; any is false of -1."""
    found = row >= 0
    own = entries.take(found)
    other = issued.take(row[found])
    is_same = (own.observed_age == other.observed_age) & (own.natural_age == other.natural_age)

    def compare(cells: Floats, other_cells: Floats) -> None:
        is_close = np.isclose(
            cells, other_cells, rtol=SAME_FORECAST_TOLERANCE, atol=0, equal_nan=True
        )
        is_same[~is_close.all(axis=tuple(range(1, is_close.ndim)))] = False

    compare(own.users, other.users)
    compare(own.observed_value, other.observed_value)
    compare(own.pattern, other.pattern)
    for stage in STAGES:
        for quantity in QUANTITIES:
            compare(getattr(own.bands[stage], quantity), getattr(other.bands[stage], quantity))

    are_same = np.zeros(len(row), dtype=bool)
    are_same[found] = is_same
    return are_same
