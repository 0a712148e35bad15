"""Purchases to cohort curves by DuckDB, out of core, exact at age boundaries.

A customer is acquired on the calendar day of its first line (of a refund too, as what it refunds
was bought earlier), or on the day that the users file says; that day is its age 0, whatever the
hour. A cohort's value at age a sums its customers'
amounts at ages 0..a, each counted from the customer's own acquisition, and divides by its users.

Shapes: N cohorts, A ages, J nodes, B attributes.
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from zipfile import BadZipFile

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data import purchases
from ltvnet.data.arrays import Days, Floats
from ltvnet.data.curves import AGES, MAX_AGE, NODES, History
from ltvnet.data.purchases import Purchases, check_word, file_fingerprint, matching_files, sql_date
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

PERIOD_LAST_DAY = {"day": "start", "week": "start + 6", "month": "last_day(start)"}
"""Cohort periods, with the SQL of their last day; weeks begin on Monday."""

_UNIT_BITS = 52  # bits of the largest amount in units
_COARSE_BITS = 12  # bits dropped before squaring, so that sums of squares fit 128 bits
_CODES = 1 << 32  # more than there are combinations of attributes
_TOTALS_BYTES = 1 << 30  # of users' totals in memory at once
_BATCH = 1 << 18  # lines a batch from DuckDB
_NEVER, _EARLY = -2, -1  # in place of an age: the customer was never acquired, or not yet


@dataclass(frozen=True, kw_only=True)
class PreparedCohorts:
    """Cohorts made of transactions up to the day `until`: what is cached.

    `start`, `end` (N,) first and last day of the cohort's period; `attributes` (B, N) text, ""
    where unknown; `users` (N,); `values` (N, A) cumulative amount per user, still growing at
    ages that are not complete by `until`; `errors` (N, J) standard error of each value at the
    nodes, NaN below two users; `found` numbers of lines and users by what became of them.
    """

    start: Days
    end: Days
    attributes: NDArray[np.str_]
    users: Floats
    values: Floats
    errors: Floats
    until: np.datetime64
    found: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check shapes."""
        rows = len(self.start)
        assert self.end.shape == self.users.shape == self.attributes.shape[1:] == (rows,)
        assert self.values.shape == (rows, AGES)
        assert self.errors.shape == (rows, len(NODES))

    def save(self, path: Path) -> None:
        """Write to a file that appears whole or not at all."""
        arrays = vars(self) | {"found": json.dumps(self.found)}
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "PreparedCohorts":
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        found = json.loads(str(arrays.pop("found")))
        return cls(until=arrays.pop("until")[()], found=found, **arrays)


@dataclass(frozen=True, kw_only=True)
class Transactions(Purchases):
    """Purchases, and the choices by which they become cohorts.

    `period` one of LAST_DAYS; customers acquired before `burn_in` are in no cohort, null for
    none; a cohort has the attributes `by` of its customers' first lines. `hierarchy`, `lag_days`
    as in Cohorts. `cache` is the folder of prepared cohorts, null for the user's cache folder;
    `engine` holds settings of DuckDB. The rest as in Purchases, and errors too.
    """

    period: str
    burn_in: str | None
    hierarchy: Sequence[str]
    lag_days: int
    cache: str | None
    engine: Mapping[str, str | int]

    def __post_init__(self) -> None:
        """Check words, dates and names."""
        super().__post_init__()
        check_word("period", self.period, PERIOD_LAST_DAY)
        sql_date("burn_in", self.burn_in, "-infinity")
        if missing := [name for name in self.hierarchy if name not in self.by]:
            raise ValueError(f"data.hierarchy names {missing}, but data.by only {list(self.by)}")

    def history(self) -> History:
        """The cohorts in one snapshot as of `until`; NaN at ages not complete by then.

        Raises ValueError as `Purchases.load`, and when no user is left in any cohort.
        """
        return self._history

    def default_origin(self, history: History) -> np.datetime64:
        """The last day of the purchases."""
        return history.last_day

    def truth(self) -> None:
        """None: nobody knows what was to be expected of real customers."""
        return

    def standard_errors(self) -> pd.DataFrame:
        """Standard error of each curve at the nodes: index the cohort key, columns the nodes.

        The square root of (sample variance between users / users); NaN where a cohort has fewer
        than two users or the age is not complete. Raises as `history`.
        """
        complete = np.isfinite(self._history.values[:, NODES])  # (N, J)
        errors = np.where(complete, self.prepared.errors, np.nan)
        return pd.DataFrame(errors, index=self._history.index, columns=list(NODES))

    @cached_property
    def _history(self) -> History:
        made = self.prepared
        names = self.attributes.values()
        # as if exported when all ages are complete, so that `until` makes the cut in time
        exported = made.end.max() + MAX_AGE + self.lag_days
        history = History(
            start=made.start,
            end=made.end,
            attributes=dict(zip(names, made.attributes.astype(object), strict=True)),
            users=made.users,
            spend=np.full(len(made.users), np.nan),
            values=made.values,
            hierarchy=tuple(self.hierarchy),
            lag_days=self.lag_days,
            snapshot=np.full(len(made.users), max(exported, made.until)),
        ).until(made.until)
        k = history.observed_age
        found = dict(made.found) | {
            "cohorts": len(k),
            f"cohorts with a complete age on {made.until}": int((k >= 0).sum()),
            f"cohorts observed to D{MAX_AGE}": int((k == MAX_AGE).sum()),
        }
        report = "\n".join(f"{number:>13,} {text}" for text, number in found.items())
        log.info("%s:\n%s", self.path, report)
        return history

    @cached_property
    def prepared(self) -> PreparedCohorts:
        """The cohorts, from the cache where these files met these choices before.

        Raises ValueError as `history`.
        """
        cached = self._cached
        if cached.exists():
            try:
                return PreparedCohorts.load(cached)
            except (OSError, ValueError, KeyError, BadZipFile) as error:
                log.warning("%s cannot be read: transactions prepared again (%s)", cached, error)
        made = self._prepare()
        try:
            made.save(cached)
        except OSError as error:
            log.warning("%s cannot be written: nothing is cached (%s)", cached, error)
        return made

    @property
    def _cached(self) -> Path:
        """The cache file, named by a hash of the files, the choices and the code."""
        others = {"path", "users", "hierarchy", "lag_days", "cache", "engine"}
        choices = {name: value for name, value in asdict(self).items() if name not in others}
        key = hashlib.sha256(json.dumps(choices, default=list).encode())
        files = matching_files(self.path) + (matching_files(self.users) if self.users else [])
        for path in (Path(__file__), Path(purchases.__file__), *files):
            key.update(file_fingerprint(path).encode())
        default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ltvnet")
        folder = default if self.cache is None else Path(self.cache)
        return folder.expanduser() / f"{key.hexdigest()[:32]}.npz"

    def _prepare(self) -> PreparedCohorts:
        with TemporaryDirectory(prefix="ltvnet-") as spill:
            try:
                with duckdb.connect(config={"temp_directory": spill, **self.engine}) as base:
                    base.execute("SET TimeZone = 'UTC'")  # else days depend on the machine
                    return _Pass(self, base).prepared()
            except duckdb.Error as error:
                raise ValueError(
                    f"{self.path}: DuckDB could not prepare these transactions; repair what it"
                    f" names, or give it memory by data.engine.memory_limit: {error}"
                ) from error


@dataclass(frozen=True)
class _Pass:
    """One pass over the data: its tables `cohorts`, `members` and `aged`, and their sums.

    Amounts become integers of a power of two, the `unit`, of which the largest amount has 52
    bits: sums are exact, so neither their order nor the number of threads changes a digit.
    """

    choices: Transactions
    base: duckdb.DuckDBPyConnection

    def prepared(self) -> PreparedCohorts:
        """The cohorts. Raises ValueError as `Transactions.history`."""
        loaded = self.choices.load(self.base)
        unit = 2.0 ** (math.frexp(loaded.largest)[1] - _UNIT_BITS)
        people = self._count_cohorts()
        self._make_ages(unit)
        cohorts = self._fetch("SELECT * FROM cohorts ORDER BY cohort")
        users = cohorts["users"].astype(np.float64)  # (N,)
        if not len(users):
            raise ValueError(
                f"{self.choices.path}: expected users in some cohort, got {people}; check"
                " data.burn_in and data.until"
            )
        values, fates = self._values(users, unit)
        duplicates = loaded.left - sum(fates.values())
        attributes = [cohorts[name] for name in self.choices.attributes]
        return PreparedCohorts(
            start=cohorts["start"].astype("datetime64[D]"),
            end=cohorts["last"].astype("datetime64[D]"),
            attributes=np.array(attributes, np.str_).reshape(-1, len(users)),  # (B, N)
            users=users,
            values=values,
            errors=self._errors(users, values, unit),
            until=loaded.until,
            found={**loaded.found, "lines that stand twice": duplicates, **fates, **people},
        )

    def _fetch(self, query: str) -> dict[str, NDArray[Any]]:
        return cast(dict[str, NDArray[Any]], self.base.execute(query).fetchnumpy())

    def _count_cohorts(self) -> dict[str, int]:
        """Make `cohorts`, and `members`: customers with their acquisition, cohort and number."""
        names = list(self.choices.attributes)
        key = ", ".join(["start", *names])
        self._make_customers(names)
        self.base.execute(f"""
            CREATE TABLE cohorts AS
            SELECT row_number() OVER (ORDER BY {key}) - 1 AS cohort, {key}, code,
                   {PERIOD_LAST_DAY[self.choices.period]} AS last, users
            FROM (SELECT start, code, count(*) AS users
                  FROM customers WHERE start IS NOT NULL GROUP BY start, code)
            JOIN codes USING (code)""")
        self.base.execute("""
            CREATE TABLE members AS
            SELECT customer, acquired, CAST(coalesce(cohort, -1) AS INTEGER) AS cohort,
                   CAST(row_number() OVER () - 1 AS INTEGER) AS member
            FROM customers LEFT JOIN cohorts USING (start, code)""")
        self.base.execute("DROP TABLE customers")
        counts = self._fetch("""
            SELECT count(*) AS people, count(*) FILTER (cohort >= 0) AS users FROM members""")
        people, users = int(counts["people"][0]), int(counts["users"][0])
        return {"customers acquired before data.burn_in": people - users, "users": users}

    def _make_customers(self, names: Sequence[str]) -> None:
        """Make `codes`, the attributes by number in their order, and `customers` who have them.

        A customer's first line is the least by its moment and then its code, as one integer:
        which takes less time than the least of text.
        """
        key = ", ".join(names)
        if names:
            distinct = f"SELECT row_number() OVER (ORDER BY {key}) - 1 AS code, {key}"
            self.base.execute(f"""
                CREATE TABLE codes AS {distinct} FROM (SELECT DISTINCT {key} FROM people)""")
            coded, moment = f"people JOIN codes USING ({key})", "CAST(epoch_us(moment) AS HUGEINT)"
            first = f"min(({moment} + {1 << 63}) * {_CODES} + code) % {_CODES}"
        else:
            self.base.execute("CREATE TABLE codes AS SELECT CAST(0 AS BIGINT) AS code")
            coded, first = "people", "0"
        period, burn_in = self.choices.period, self.choices.burn_in
        self.base.execute(f"""
            CREATE TABLE customers AS
            SELECT customer, acquired, CAST(code AS BIGINT) AS code,
                   CASE WHEN acquired >= {sql_date("burn_in", burn_in, "-infinity")}
                        THEN CAST(date_trunc('{period}', acquired) AS DATE) END AS start
            FROM (SELECT customer, min(day) AS acquired, {first} AS code
                  FROM {coded} GROUP BY customer)""")

    def _make_ages(self, unit: float) -> None:
        """Make `aged`: member, cohort (-1 for none), age and amount of each line that counts."""
        self.base.execute(f"""
            CREATE TABLE aged AS
            SELECT member, coalesce(cohort, -1) AS cohort,
                   CAST(CASE WHEN acquired IS NULL THEN {_NEVER}
                             ELSE greatest(least(day - acquired, {AGES}), {_EARLY})
                        END AS SMALLINT) AS age,
                   CAST(round(amount / CAST('{unit!r}' AS DOUBLE)) AS BIGINT) AS units
            FROM lines LEFT JOIN members USING (customer)
            WHERE counts""")

    def _values(self, users: Floats, unit: float) -> tuple[Floats, dict[str, int]]:
        """Cumulative amount per user (N, A), and how many lines are in it and are not."""
        sums = self._fetch("""
            SELECT cohort, age, CAST(sum(units) AS DOUBLE) AS units, count(*) AS lines
            FROM aged GROUP BY cohort, age""")
        cohort, age = sums["cohort"], sums["age"]
        member, acquired = cohort >= 0, age != _NEVER
        counted = member & (age >= 0) & (age < AGES)
        fates = {
            "lines of customers that data.users lacks": ~acquired,
            "lines of customers acquired before data.burn_in": acquired & ~member,
            "lines before their customer was acquired": member & (age == _EARLY),
            f"lines later than D{MAX_AGE} of their customer": member & (age == AGES),
            "lines counted": counted,
        }
        amounts = np.zeros((len(users), AGES))
        amounts[cohort[counted], age[counted]] = sums["units"][counted] * unit
        lines = {text: int(sums["lines"][chosen].sum()) for text, chosen in fates.items()}
        return amounts.cumsum(axis=1) / users[:, None], lines

    def _errors(self, users: Floats, values: Floats, unit: float) -> Floats:
        """Standard errors at the nodes (N, J), by sums of squares over users."""
        square = self._squares(len(users)) * (unit * 2.0**_COARSE_BITS) ** 2  # (N, J)
        n = users[:, None]
        variance = (square - n * values[:, NODES] ** 2) / np.maximum(n - 1, 1)  # (N, J)
        return np.where(n > 1, np.sqrt(np.maximum(variance, 0) / n), np.nan)

    def _squares(self, rows: int) -> Floats:
        """Sums over a cohort's users of their squared totals by each node, coarse units: (N, J)."""
        names = [f"d{node}" for node in NODES]
        self.base.execute(
            f"CREATE TABLE squares (cohort INTEGER, {' HUGEINT, '.join(names)} HUGEINT)"
        )
        cohort = self._fetch("SELECT cohort FROM members ORDER BY member")["cohort"]
        size = max(_TOTALS_BYTES // (8 * len(NODES)), 1)
        sums = ", ".join(
            f"sum(CAST({name} AS HUGEINT) * CAST({name} AS HUGEINT))" for name in names
        )
        for low in range(0, len(cohort), size):
            totals = self._totals(low, min(low + size, len(cohort)))  # (J, members)
            columns = dict(zip(names, totals, strict=True))
            self.base.register("totals", {"cohort": cohort[low : low + size], **columns})
            self.base.execute(f"""
                INSERT INTO squares SELECT cohort, {sums} FROM totals
                WHERE cohort >= 0 GROUP BY cohort""")
            self.base.unregister("totals")
        whole = ", ".join(f"CAST(sum({name}) AS DOUBLE) AS {name}" for name in names)
        found = self._fetch(f"SELECT {whole} FROM squares GROUP BY cohort ORDER BY cohort")
        square = np.stack([found[name] for name in names], axis=1)
        assert square.shape == (rows, len(NODES))
        return square

    def _totals(self, low: int, high: int) -> Floats:
        """What members low..high spent by each node, in coarse units: (J, members)."""
        totals = np.zeros((len(NODES), high - low))
        begins = np.searchsorted(NODES, np.arange(AGES)) * (high - low) - low  # (A,)
        lines = self.base.sql(f"""
            SELECT member, age, CAST(units >> {_COARSE_BITS} AS DOUBLE) AS units FROM aged
            WHERE cohort >= 0 AND age BETWEEN 0 AND {MAX_AGE}
            AND member >= {low} AND member < {high}""")
        for batch in lines.to_arrow_reader(_BATCH):
            member, age, units = (column.to_numpy() for column in batch.columns)
            np.add.at(totals.reshape(-1), begins[age] + member, units)
        return np.cumsum(totals, axis=0, out=totals)
