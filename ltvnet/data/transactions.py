"""Purchases to cohort curves by DuckDB, out of core, exact at age boundaries.

A customer is acquired on the calendar day of its first line (of a refund too, as what it refunds
was bought earlier), or on the day that the users file says; that day is its age 0, whatever the
hour. A cohort's value at age a sums its customers' amounts at ages 0..a, each counted from the
customer's own acquisition, and divides by its users.

Shapes: N cohorts, A ages, J nodes, B attributes.
"""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltvnet.data.arrays import Days, Floats, Ints
from ltvnet.data.cohort_members import PERIOD_LAST_DAY, Period, make_members
from ltvnet.data.curves import AGES, MAX_AGE, NODES, History
from ltvnet.data.fingerprints import Fingerprint, file_fingerprint
from ltvnet.data.purchase_files import fetch_arrays, matching_files
from ltvnet.data.purchases import Purchases, check_word, sql_date
from ltvnet.storage import atomic_write

log = logging.getLogger(__name__)

_UNIT_BITS = 52  # bits of the largest amount in units
_COARSE_BITS = 12  # bits dropped before squaring, so that sums of squares fit 128 bits
_WITHOUT_USER = "lines of customers that data.users lacks"
TOTALS_BYTES = 1 << 30  # of users' totals in memory at once
_BATCH_LINES = 1 << 18  # lines a batch from DuckDB
_NEVER, _EARLY = -2, -1  # in place of an age: the customer was never acquired, or not yet


@dataclass(frozen=True, kw_only=True)
class PreparedCohorts:
    """Cohorts made of transactions up to the day `until`: the content of the cache.

    `start`, `end` (N,) first and last day of the cohort's period; `attributes` (B, N) text, ""
    where unknown; `users` (N,); `values` (N, A) cumulative amount per user, still growing at
    ages that are not complete by `until`; `errors` (N, J) standard error of each value at the
    nodes, NaN below two users; `row_counts` numbers of lines and users by what became of them,
    "found" in the file; `notes` on how the files were understood.
    """

    start: Days
    end: Days
    attributes: NDArray[np.str_]
    users: Floats
    values: Floats
    errors: Floats
    until: np.datetime64
    row_counts: Mapping[str, int]
    notes: Sequence[str]

    def __post_init__(self) -> None:
        """Check shapes."""
        rows = len(self.start)
        assert self.end.shape == self.users.shape == self.attributes.shape[1:] == (rows,)
        assert self.values.shape == (rows, AGES)
        assert self.errors.shape == (rows, len(NODES))

    def save(self, path: Path) -> None:
        """Write to a file that appears whole or not at all."""
        arrays = dict(vars(self))
        arrays["found"] = json.dumps(arrays.pop("row_counts"))
        arrays["notes"] = json.dumps(list(arrays.pop("notes")))
        with atomic_write(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "PreparedCohorts":
        """Read the file that `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        row_counts = json.loads(str(arrays.pop("found")))
        notes = json.loads(str(arrays.pop("notes")))
        until = arrays.pop("until")[()]
        return cls(until=until, row_counts=row_counts, notes=notes, **arrays)


@dataclass(frozen=True, kw_only=True)
class Transactions(Purchases):
    """Purchases, and the choices by which they become cohorts.

    - `period`: one of PERIOD_LAST_DAY.
    - `burn_in`: customers acquired before this day are in no cohort, null for none.
    - `hierarchy`, `lag_days`: as in Cohorts; a cohort has the attributes `by` of its customers'
      first lines.
    - `cache`: the folder of prepared cohorts, null for the user's cache folder.
    - `engine`: settings of DuckDB.

    The other fields and the errors are those of Purchases.
    """

    period: Period
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
        is_complete = np.isfinite(self._history.values[:, NODES])  # (N, J)
        errors = np.where(is_complete, self.prepared_cohorts.errors, np.nan)
        return pd.DataFrame(errors, index=self._history.index, columns=list(NODES))

    @cached_property
    def _history(self) -> History:
        """The history of the prepared cohorts; the report of their making is logged once."""
        prepared = self.prepared_cohorts
        names = self.attribute_names.values()
        text_by_name = zip(names, prepared.attributes, strict=True)
        attributes = {name: text.astype(object) for name, text in text_by_name}
        # as if exported when all ages are complete, so that `until` makes the cut in time
        all_complete = prepared.end.max() + MAX_AGE + self.lag_days
        snapshot = max(all_complete, prepared.until)
        history = History(
            start=prepared.start,
            end=prepared.end,
            attributes=attributes,
            users=prepared.users,
            spend=np.full(len(prepared.users), np.nan),
            values=prepared.values,
            hierarchy=tuple(self.hierarchy),
            lag_days=self.lag_days,
            snapshot=np.full(len(prepared.users), snapshot),
        ).until(prepared.until)

        self._log_counts(prepared, history.observed_age)
        return history

    def _log_counts(self, prepared: PreparedCohorts, observed_age: Ints) -> None:
        """Log what became of lines and users, and how far cohorts (N,) are observed."""
        counts = dict(prepared.row_counts) | {
            "cohorts": len(observed_age),
            f"cohorts with a complete age on {prepared.until}": int((observed_age >= 0).sum()),
            f"cohorts observed to D{MAX_AGE}": int((observed_age == MAX_AGE).sum()),
        }
        report = [f"{number:>13,} {text}" for text, number in counts.items()]
        log.info("%s:\n%s", self.path, "\n".join([*prepared.notes, *report]))

    @cached_property
    def prepared_cohorts(self) -> PreparedCohorts:
        """The cohorts, from the cache where these files met these choices before.

        Raises ValueError as `history`.
        """
        cache_file = self._cache_file
        if cache_file.exists():
            try:
                return PreparedCohorts.load(cache_file)
            except (OSError, ValueError, KeyError, BadZipFile) as error:
                log.warning(
                    "%s cannot be read: transactions prepared again (%s)", cache_file, error
                )

        prepared = self._prepare()
        try:
            prepared.save(cache_file)
        except OSError as error:
            log.warning("%s cannot be written: nothing is cached (%s)", cache_file, error)
        return prepared

    @property
    def _cache_file(self) -> Path:
        """Path of the cache file, named by a hash of the files, the choices and the code."""
        without_effect = {"path", "users", "hierarchy", "lag_days", "cache", "engine"}
        choices = {
            name: value for name, value in asdict(self).items() if name not in without_effect
        }
        key = Fingerprint().add_json(choices, default=list)

        files = matching_files(self.path)
        if self.users:
            files += matching_files(self.users)
        for path in (*code_files(), *files):
            key.add_text(file_fingerprint(path))

        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ltvnet")
        if self.cache is not None:
            folder = Path(self.cache)
        return folder.expanduser() / f"{key.hex(32)}.npz"

    def _prepare(self) -> PreparedCohorts:
        """Make the cohorts of the files, in a database that spills to a temporary folder."""
        with TemporaryDirectory(prefix="ltvnet-") as spill:
            try:
                with duckdb.connect(config={"temp_directory": spill, **self.engine}) as connection:
                    return _Preparation(self, connection).run()
            except duckdb.Error as error:
                raise ValueError(
                    f"{self.path}: DuckDB could not prepare these transactions; repair what it"
                    f" names, or give it memory by data.engine.memory_limit: {error}"
                ) from error


def code_files() -> list[Path]:
    """Return the files of the code by which lines become cohorts."""
    folder = Path(__file__).parent
    return sorted([*folder.glob("*.py"), *(folder / "importers").glob("*.py")])


@dataclass(frozen=True)
class _AmountUnit:
    """The power of two of which amounts become integers, of which usual amounts have 52 bits.

    Sums of integers are exact, so neither their order nor the number of threads changes a digit.
    `has_absurd` says whether some amounts have more bits: these take no digit from the others.
    """

    size: float
    has_absurd: bool

    @classmethod
    def of_amounts(cls, usual: float, largest: float) -> "_AmountUnit":
        """Make the unit of amounts up to a usual one, beside which a larger one may stand."""
        size = 2.0 ** (math.frexp(usual)[1] - _UNIT_BITS)
        return cls(size, has_absurd=largest >= size * 2.0 ** (_UNIT_BITS + 1))

    @property
    def integer_type(self) -> str:
        """Type of the integers in SQL."""
        return "HUGEINT" if self.has_absurd else "BIGINT"


@dataclass(frozen=True)
class _Preparation:
    """One pass over the data: its tables `cohorts`, `members` and `aged`, and their sums."""

    source: Transactions
    connection: duckdb.DuckDBPyConnection

    def run(self) -> PreparedCohorts:
        """Make the cohorts. Raises ValueError as `Transactions.history`."""
        summary = self.source.load(self.connection)
        unit = _AmountUnit.of_amounts(summary.usual_amount, summary.largest_amount)
        customer_counts = make_members(
            self.connection,
            list(self.source.attribute_names),
            self.source.period,
            sql_date("burn_in", self.source.burn_in, "-infinity"),
        )
        self._make_ages(unit)

        cohorts = self._fetch("SELECT * FROM cohorts ORDER BY cohort")
        users = cohorts["users"].astype(np.float64)  # (N,)
        if not len(users):
            raise ValueError(
                f"{self.source.path}: expected users in some cohort, got {customer_counts}; check"
                " data.burn_in and data.until"
            )

        values, line_counts = self._values(users, unit.size)
        notes = [*summary.notes, *self._check_users_found(line_counts)]
        duplicates = summary.kept_lines - sum(line_counts.values())
        row_counts = {
            **summary.row_counts,
            "lines that stand twice": duplicates,
            **line_counts,
            **customer_counts,
        }
        attributes = [cohorts[name] for name in self.source.attribute_names]
        return PreparedCohorts(
            start=cohorts["start"].astype("datetime64[D]"),
            end=cohorts["last"].astype("datetime64[D]"),
            attributes=np.array(attributes, np.str_).reshape(-1, len(users)),  # (B, N)
            users=users,
            values=values,
            errors=self._standard_errors(users, values, unit),
            until=summary.until,
            row_counts=row_counts,
            notes=notes,
        )

    def _fetch(self, query: str) -> dict[str, NDArray[Any]]:
        return fetch_arrays(self.connection, query)

    def _make_ages(self, unit: _AmountUnit) -> None:
        """Make `aged`: member, cohort (-1 for none), age and amount of each line that counts."""
        self.connection.execute(f"""
            CREATE TABLE aged AS
            SELECT member, coalesce(cohort, -1) AS cohort,
                   CAST(CASE WHEN acquired IS NULL THEN {_NEVER}
                             ELSE greatest(least(day - acquired, {AGES}), {_EARLY})
                        END AS SMALLINT) AS age,
                   CAST(round(amount / CAST('{unit.size!r}' AS DOUBLE)) AS {unit.integer_type})
                       AS units
            FROM lines LEFT JOIN members USING (customer)
            WHERE counts""")

    def _values(self, users: Floats, unit: float) -> tuple[Floats, dict[str, int]]:
        """Cumulative amount per user (N, A), and how many lines are in it and are not."""
        sums = self._fetch("""
            SELECT cohort, age, CAST(sum(units) AS DOUBLE) AS units, count(*) AS lines
            FROM aged GROUP BY cohort, age""")
        cohort = sums["cohort"]
        age = sums["age"]

        in_cohort = cohort >= 0
        is_acquired = age != _NEVER
        is_counted = in_cohort & (age >= 0) & (age < AGES)
        outcomes = {
            _WITHOUT_USER: ~is_acquired,
            "lines of customers acquired before data.burn_in": is_acquired & ~in_cohort,
            "lines before their customer was acquired": in_cohort & (age == _EARLY),
            f"lines later than D{MAX_AGE} of their customer": in_cohort & (age == AGES),
            "lines counted": is_counted,
        }
        line_counts = {text: int(sums["lines"][rows].sum()) for text, rows in outcomes.items()}

        amounts = np.zeros((len(users), AGES))
        counted_amounts = sums["units"][is_counted] * unit
        amounts[cohort[is_counted], age[is_counted]] = counted_amounts
        return amounts.cumsum(axis=1) / users[:, None], line_counts

    def _check_users_found(self, line_counts: Mapping[str, int]) -> list[str]:
        """Note it when few lines find their customer among users. Raises ValueError unless kept."""
        lost = line_counts[_WITHOUT_USER]
        total = sum(line_counts.values())
        if 2 * lost <= total:
            return []

        lines, users = (
            ", ".join(repr(id) for [id] in self.connection.execute(query).fetchall())
            for query in (
                "SELECT DISTINCT customer FROM lines ANTI JOIN members USING (customer)"
                " ORDER BY customer LIMIT 3",
                "SELECT customer FROM members ORDER BY customer LIMIT 3",
            )
        )
        problem = (
            f"{self.source.path}: expected lines of the customers in {self.source.users}, but"
            f" {lost:,} of {total:,} lines find none; such customers of lines are {lines}, users"
            f" are {users}"
        )
        if self.source.doubtful == "keep":
            return [f"believed, by data.doubtful=keep: {problem}"]
        raise ValueError(
            f"{problem}; check data.customer and data.users_customer, or set data.doubtful=keep"
            " if the users are some of them"
        )

    def _standard_errors(self, users: Floats, values: Floats, unit: _AmountUnit) -> Floats:
        """Standard errors at the nodes (N, J), by sums of squares over users."""
        coarse_bits = self._coarse_bits(len(users), unit)
        coarse_unit = unit.size * 2.0**coarse_bits  # (N,)
        squares = self._sums_of_squares(coarse_bits) * coarse_unit[:, None] ** 2  # (N, J)
        count = users[:, None]
        squared_mean = values[:, NODES] ** 2
        degrees_of_freedom = np.maximum(count - 1, 1)
        variance = (squares - count * squared_mean) / degrees_of_freedom  # (N, J)
        error = np.sqrt(np.maximum(variance, 0) / count)
        return np.where(count > 1, error, np.nan)

    def _coarse_bits(self, rows: int, unit: _AmountUnit) -> Ints:
        """Bits (N,) that a cohort's amounts drop before they are squared: more if one is absurd."""
        coarse_bits = np.full(rows, _COARSE_BITS)
        if unit.has_absurd:
            largest = self._fetch("""
                SELECT cohort, CAST(max(abs(units)) AS DOUBLE) AS units
                FROM aged WHERE cohort >= 0 GROUP BY cohort""")
            bits = np.frexp(largest["units"])[1]
            coarse_bits[largest["cohort"]] += np.maximum(bits - _UNIT_BITS, 0)
        return coarse_bits

    def _sums_of_squares(self, coarse_bits: Ints) -> Floats:
        """Sums over a cohort's users of their squared totals by each node, coarse units: (N, J).

        A table of exact sums grows by blocks of members, whose totals are in memory at once.
        """
        columns = [f"d{node}" for node in NODES]
        self.connection.execute(
            f"CREATE TABLE squares (cohort INTEGER, {' HUGEINT, '.join(columns)} HUGEINT)"
        )
        cohort = self._fetch("SELECT cohort FROM members ORDER BY member")["cohort"]
        block_size = max(TOTALS_BYTES // (8 * len(NODES)), 1)
        for low in range(0, len(cohort), block_size):
            block = slice(low, min(low + block_size, len(cohort)))
            bits = coarse_bits[cohort[block]]  # (members,); of no cohort: any
            totals = self._totals(block.start, bits)  # (J, members)
            self._add_squares(cohort[block], dict(zip(columns, totals, strict=True)))

        sums = ", ".join(f"CAST(sum({column}) AS DOUBLE) AS {column}" for column in columns)
        table = self._fetch(f"SELECT {sums} FROM squares GROUP BY cohort ORDER BY cohort")
        squares = np.stack([table[column] for column in columns], axis=1)
        assert squares.shape == (len(coarse_bits), len(NODES))
        return squares

    def _add_squares(self, cohort: Ints, totals: Mapping[str, Floats]) -> None:
        """Add to `squares` the sums over a block's members of their squared totals by node."""
        sums = ", ".join(
            f"sum(CAST({column} AS HUGEINT) * CAST({column} AS HUGEINT))" for column in totals
        )
        self.connection.register("totals", {"cohort": cohort, **totals})
        self.connection.execute(f"""
            INSERT INTO squares SELECT cohort, {sums} FROM totals
            WHERE cohort >= 0 GROUP BY cohort""")
        self.connection.unregister("totals")

    def _totals(self, low: int, coarse_bits: Ints) -> Floats:
        """Amounts that members from `low` on spent by each node, coarse units: (J, members)."""
        count = len(coarse_bits)
        totals = np.zeros((len(NODES), count))
        flat_totals = totals.reshape(-1)
        node_of_age = np.searchsorted(NODES, np.arange(AGES))
        offset_of_age = node_of_age * count  # (A,) of the first member in flat_totals

        lines = self.connection.sql(f"""
            SELECT member - {low} AS place, age, CAST(units AS DOUBLE) AS units FROM aged
            WHERE cohort >= 0 AND age BETWEEN 0 AND {MAX_AGE}
            AND member >= {low} AND member < {low + count}""")
        for batch in lines.to_arrow_reader(_BATCH_LINES):
            place, age, units = (column.to_numpy() for column in batch.columns)
            coarse_units = np.floor(np.ldexp(units, -coarse_bits[place]))
            np.add.at(flat_totals, offset_of_age[age] + place, coarse_units)
        return np.cumsum(totals, axis=0, out=totals)
