"""The table of record: forecasts as issued, at nodes; what came true is joined on reading.

On disk a folder of Parquet files, one a model and origin, a row a cell, null where nothing is
known; the origin stands in the name of the folder, `origin=2025-02-10`, where pandas and DuckDB
read it. In memory `LedgerEntries`, a row a cohort and observed age. A file is written whole or not
at all, and written again it is the same file.

Shapes: E entries, J nodes, C cells, K cohorts, N cohorts of the curves.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.backtesting.cohort_keys import DATE_LEVELS, CohortKeys, rank_keys
from ltvnet.data.arrays import Bools, Days, Floats, Ints, Strings
from ltvnet.data.columns import END, START
from ltvnet.data.curves import MAX_AGE, NODE_AGES, NODES, Curves, is_within_week_past, parse_day
from ltvnet.data.output_columns import attribute_column, attribute_of_column
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.storage import atomic_write, explain_damage

Stage = Literal["raw", "blended", "corrected", "final"]

DAMAGE_ADVICE = (
    "delete it, and the day is done again; what predict.py issued is not, restore that from a "
    "backup or move it away"
)
"""Way out of a file that cannot be read."""

STAGES: tuple[Stage, ...] = ("raw", "blended", "corrected", "final")
"""A forecast of the model; blended with the pattern; corrected on increments; calibrated."""


@dataclass(frozen=True)
class LedgerEntries:
    """Forecasts as they were issued, at NODES.

    `keys` (K) of cohorts and `cohort_index` (E,) positions in them; `origin` (E,); `natural_age`
    (E,) last complete age at the origin, `observed_age` (E,) the age that the prefix was cut to;
    `observed_value` (E,) revenue per user at the observed age; `users`, `spend` (E,);
    `last_supported_age` (E,) that the data supported; `pattern` (E, J) and `bands` stage -> (E, J),
    NaN where nothing was forecast; `is_borrowed` (E, J) cells whose interval is that of another
    horizon.
    """

    hierarchy: tuple[str, ...]
    keys: pd.MultiIndex
    cohort_index: Ints
    origin: Days
    natural_age: Ints
    observed_age: Ints
    observed_value: Floats
    users: Floats
    spend: Floats
    last_supported_age: Ints
    pattern: Floats
    bands: Mapping[str, Band]
    is_borrowed: Bools

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.cohort_index)

    @classmethod
    def from_forecast(cls, forecast: Forecast, natural_age: Ints) -> Self:
        """Take the forecasts of cohorts that have a complete age.

        `natural_age` (N,) the last complete age of each cohort, before its prefix was cut. A cut
        forecast is issued at ages above the natural one only. Of a forecast that was corrected
        the stages between raw and final are blank; of another every stage is the raw one. Raises
        ValueError unless it is at NODES.
        """
        if tuple(forecast.ages.tolist()) != NODES:
            raise ValueError(f"expected a forecast at the nodes {NODES}, got ages {forecast.ages}")

        curves = forecast.curves
        is_issued = NODE_AGES > natural_age[:, None]  # (N, J)
        rows = np.flatnonzero((natural_age >= 0) & is_issued.any(axis=1))  # (E,)

        def issued_cells(values: Floats) -> Floats:
            return np.where(is_issued, values, np.nan)[rows]

        raw = forecast.raw.map(issued_cells)
        middle = final = raw
        if forecast.final is not forecast.raw:
            middle = Band.from_mean(np.full_like(raw.mean, np.nan))
            final = forecast.final.map(issued_cells)

        is_borrowed = np.zeros_like(is_issued)
        if forecast.is_borrowed is not None:
            is_borrowed = is_issued & forecast.is_borrowed
        return cls(
            hierarchy=curves.hierarchy,
            keys=curves.index[rows],
            cohort_index=np.arange(len(rows)),
            origin=np.full(len(rows), curves.origin),
            natural_age=natural_age[rows],
            observed_age=curves.observed_age[rows],
            observed_value=curves.observed_value[rows],
            users=curves.users[rows],
            spend=curves.spend[rows],
            last_supported_age=np.full(len(rows), forecast.last_supported_age),
            pattern=issued_cells(forecast.pattern),
            bands={"raw": raw, "blended": middle, "corrected": middle, "final": final},
            is_borrowed=is_borrowed[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence["LedgerEntries"]) -> "LedgerEntries":
        """Join entries, sorted by origin, cohort and observed age; their keys are distinct."""
        keys = [entries.keys.take(entries.cohort_index) for entries in parts]
        cohort_index, distinct_keys = rank_keys(keys[0].append(keys[1:]))
        joined = _combine_arrays(lambda *arrays: np.concatenate(arrays), *parts)
        joined = replace(joined, keys=distinct_keys, cohort_index=cohort_index)

        order = np.lexsort((joined.observed_age, joined.cohort_index, joined.origin))
        is_sorted = (np.diff(order) == 1).all()
        return joined if is_sorted else joined.take(order)

    def take(self, rows: NDArray[np.generic]) -> "LedgerEntries":
        """Select entries by mask or row numbers."""
        return _combine_arrays(lambda array: array[rows], self)

    @property
    def has_forecast(self) -> Bools:
        """Whether each cell (E, J) was forecast."""
        return np.isfinite(self.pattern)

    @property
    def at_own_age(self) -> Bools:
        """Whether each entry (E,) was forecast from all that was known, its prefix not cut."""
        at_own_age: Bools = self.natural_age == self.observed_age
        return at_own_age

    def at_observed_ages(self, ages: Iterable[int]) -> Bools:
        """Return which entries (E,) were forecast at one of `ages`, or cut to it within a week.

        By the calendar: a cohort of which no newer age was exported is not counted week after week.
        """
        is_asked = np.isin(self.observed_age, list(ages))
        is_near = is_within_week_past(self.natural_age, self.observed_age)
        return is_asked & is_near & is_within_week_past(self.age_by_calendar, self.observed_age)

    @property
    def age_by_calendar(self) -> Ints:
        """Last age of each entry (E,) that was complete at its origin, exported or not.

        An age is complete a number of days after it ends, which is the least that any entry shows.
        """
        end = self.keys.get_level_values(1).to_numpy()[self.cohort_index].astype("datetime64[D]")
        days: Ints = (self.origin - end).astype("timedelta64[D]").astype(np.int64)
        age: Ints = days - (days - self.natural_age).min(initial=MAX_AGE)
        return age

    @property
    def start(self) -> Days:
        """First acquisition day of each entry's cohort: (E,)."""
        return self.keys.get_level_values(0).to_numpy()[self.cohort_index]

    @property
    def acquisition_week(self) -> Ints:
        """Number of the week, from Monday, in which each entry's cohort began: (E,)."""
        days = self.start.astype("datetime64[D]").astype(np.int64)
        return (days + 3) // 7  # day 0, 1970-01-01, was a Thursday

    @property
    def attributes(self) -> Mapping[str, Strings]:
        """The attributes of each entry's cohort, (E,) each."""
        return {name: text[self.cohort_index] for name, text in self.cohorts.attributes.items()}

    @property
    def cohorts(self) -> CohortKeys:
        """The cohorts (K) of the entries, each once."""
        return CohortKeys(self.keys)

    def look_up_actuals(self, curves: Curves) -> Floats:
        """Look up what had come true by the origin of `curves`: (E, J), NaN where not matured.

        Raises ValueError for cohorts with other attributes.
        """
        own_names = ", ".join(map(str, self.keys.names))
        curve_names = ", ".join(map(str, curves.index.names))
        if own_names != curve_names:
            raise ValueError(
                f"expected cohorts by {own_names} as in the ledger, got {curve_names}: read the "
                "data with the attributes that the forecasts were made with, see data.attributes"
            )

        nothing = np.full((1, len(NODES)), np.nan)
        values = np.concatenate((curves.values[:, NODE_AGES], nothing))  # (N + 1, J)
        row = curves.index.get_indexer(self.keys)  # -1 of an unknown cohort: the last row
        actual: Floats = np.where(self.has_forecast, values[row[self.cohort_index]], np.nan)
        return actual


@dataclass(frozen=True)
class Ledger:
    """A folder of forecasts as they were issued.

    A backtest and production forecasts may share it: `model` in a row says whose they are, one
    name for each bundle or configuration.
    """

    folder: Path

    def path(self, model: str, origin: np.datetime64) -> Path:
        """Path of the file with a model's forecasts of one origin."""
        return self.folder / f"origin={parse_day(origin)}" / f"{model}.parquet"

    def write(
        self, model: str, entries: LedgerEntries, bundle: str, last_training_day: np.datetime64
    ) -> None:
        """Write the entries of one origin; what stood there of the model is replaced.

        Forecasts that count as issued are never replaced: see `issuing.issue_forecasts`.
        `bundle` the identity of what forecast, `last_training_day` the last that it knew. Raises
        ValueError for entries of several origins, or of one before that day, for a cohort twice
        at one observed age.
        """
        origins = np.unique(entries.origin)
        if len(origins) != 1:
            raise ValueError(f"expected entries of one origin, got those of {len(origins)}")
        self.refuse_hindsight(origins[0], last_training_day)

        entries = LedgerEntries.concatenate([entries])
        _refuse_duplicates(entries)
        issuer = {
            "model": model,
            "bundle": bundle,
            "trained": last_training_day.astype("datetime64[D]").item(),
        }
        table = _to_table(entries, issuer)

        repeated_columns = table.column_names[: table.column_names.index("pattern")]
        with atomic_write(self.path(model, origins[0])) as path:
            parquet.write_table(table, path, use_dictionary=repeated_columns, store_schema=False)

    @staticmethod
    def refuse_hindsight(origin: np.datetime64, last_training_day: np.datetime64) -> None:
        """Raise ValueError for a forecast of a day before the last one that its model knew."""
        if origin < last_training_day:
            raise ValueError(
                f"a forecast of {origin} by a model that knew {last_training_day} proves nothing: "
                "forecast data from after its training, or train it as of an earlier day"
            )

    def has(self, model: str, origin: np.datetime64) -> bool:
        """Return whether a model's forecasts of an origin are there."""
        return self.path(model, origin).exists()

    def last_training_day(self, model: str, origin: np.datetime64) -> np.datetime64 | None:
        """Read the last day known to what forecast an origin; None where no forecasts are there."""
        if not self.has(model, origin):
            return None
        # The statistics of the column hold it, so that no data are read.
        path = self.path(model, origin)
        with explain_damage(path, DAMAGE_ADVICE):
            file = parquet.ParquetFile(path)
            column = file.schema_arrow.get_field_index("trained")
            return np.datetime64(file.metadata.row_group(0).column(column).statistics.min, "D")

    def read(
        self, model: str, origins: Sequence[np.datetime64], hierarchy: tuple[str, ...]
    ) -> LedgerEntries:
        """Read the entries of a model at some origins.

        Raises ValueError when an origin has none, and when there is no origin.
        """
        if not origins:
            raise ValueError(f"expected origins to read of {model}, got none")
        paths = [self.path(model, origin) for origin in origins]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise ValueError(
                f"expected forecasts of {model} at {len(paths)} origins, found none at "
                f"{', '.join(missing)}: run the backtest that makes them"
            )

        entries_by_origin = [
            _LedgerFile.read(path).entries(origin, hierarchy)
            for path, origin in zip(paths, origins, strict=True)
        ]
        return LedgerEntries.concatenate(entries_by_origin)


_ENTRY_COLUMNS = {
    "natural_age": "natural_k",
    "observed_age": "observed_age",
    "observed_value": "observed_value",
    "users": "users",
    "spend": "spend",
    "last_supported_age": "reach",
}
"""Column of each field that an entry has one value of; they stand between its key and its cells."""

_BAND_COLUMNS: dict[tuple[Stage, str], str] = {
    (stage, quantity): quantity if stage == "final" else f"{stage}_{quantity}"
    for stage, quantity in product(STAGES, QUANTITIES)
}
_ISSUER_COLUMNS = ("model", "bundle", "trained")
_CELL_COLUMNS = ("age", "pattern", *_BAND_COLUMNS.values(), "borrowed")
_FIXED_COLUMNS = (START, END, *_ENTRY_COLUMNS.values(), *_CELL_COLUMNS)
"""Columns of every file, whatever the attributes, but for those of its issuer."""


def _refuse_duplicates(entries: LedgerEntries) -> None:
    """Raise ValueError for a cohort that is twice at one observed age in sorted entries."""
    is_same_cohort = np.diff(entries.cohort_index) == 0
    is_repeated = is_same_cohort & (np.diff(entries.observed_age) == 0)
    if is_repeated.any():
        row = int(is_repeated.argmax())
        key = " ".join(str(value) for value in entries.keys[entries.cohort_index[row]])
        raise ValueError(
            f"expected a cohort once at an observed age, got {key} twice at "
            f"{entries.observed_age[row]}: append what was forecast of it once"
        )


def _combine_arrays(combine: Callable[..., NDArray[Any]], *parts: LedgerEntries) -> LedgerEntries:
    """Make each array of entries from those of `parts`; hierarchy and keys are the first's."""

    def combine_field(name: str, owners: Sequence[object]) -> NDArray[Any]:
        return combine(*(getattr(owner, name) for owner in owners))

    arrays: dict[str, Any] = {
        field.name: combine_field(field.name, parts)
        for field in fields(LedgerEntries)
        if field.name not in ("hierarchy", "keys", "bands")
    }

    band_by_sources: dict[tuple[int, ...], Band] = {}  # a band that stages share is made once
    bands: dict[str, Band] = {}
    for stage in STAGES:
        sources = [entries.bands[stage] for entries in parts]
        identity = tuple(map(id, sources))
        if identity not in band_by_sources:
            band_by_sources[identity] = Band(*(combine_field(name, sources) for name in QUANTITIES))
        bands[stage] = band_by_sources[identity]
    return replace(parts[0], bands=bands, **arrays)


def _to_table(entries: LedgerEntries, issuer: Mapping[str, object]) -> pa.Table:
    """Build the rows of a file, a cell each."""
    entry, node = np.nonzero(entries.has_forecast)  # (C,) each

    columns: dict[str, Any] = {}
    for name, value in issuer.items():
        columns[name] = pa.repeat(pa.scalar(value), len(entry))
    columns |= _cell_key_columns(entries, entry)
    columns |= {column: getattr(entries, name)[entry] for name, column in _ENTRY_COLUMNS.items()}
    columns["age"] = NODE_AGES[node]
    columns["pattern"] = entries.pattern[entry, node]
    for (stage, quantity), column in _BAND_COLUMNS.items():
        values = getattr(entries.bands[stage], quantity)  # (E, J)
        columns[column] = values[entry, node]
    columns["borrowed"] = entries.is_borrowed[entry, node]

    arrays = {
        name: pa.array(cells, from_pandas=True) if isinstance(cells, np.ndarray) else cells
        for name, cells in columns.items()
    }
    return pa.table(arrays)


def _cell_key_columns(entries: LedgerEntries, entry: Ints) -> dict[str, pa.DictionaryArray]:
    """Columns of the key of each cell's entry (C,): start, end and attributes."""
    attributes = list(map(str, entries.keys.names))[DATE_LEVELS:]
    columns = {}
    cohort_index = entries.cohort_index[entry]
    for level, name in enumerate((START, END, *attributes)):
        codes, values = pd.factorize(entries.keys.get_level_values(level))
        value_type = pa.date32() if level < DATE_LEVELS else pa.string()
        dictionary = pa.array(values, value_type)
        columns[name] = pa.DictionaryArray.from_arrays(codes[cohort_index], dictionary)
    return columns


@dataclass(frozen=True)
class _LedgerFile:
    """Columns of one file, a row a cell; the cells of an entry stand together.

    `attributes` names, `texts` (C,) of each and `columns` (C,) by name, without attributes.
    """

    attributes: Sequence[str]
    texts: Sequence[pa.DictionaryArray]
    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; its attributes are the columns that are not the ledger's own.

        Raises ValueError for a file that is damaged.
        """
        with explain_damage(path, DAMAGE_ADVICE):
            names = parquet.read_schema(path).names
            texts = [name for name in names if name not in (*_ISSUER_COLUMNS, *_FIXED_COLUMNS)]
            columns = [*texts, *_FIXED_COLUMNS]
            table = parquet.read_table(
                path, columns=columns, read_dictionary=texts, partitioning=None
            )
            return cls(
                attributes=[attribute_of_column(name) for name in texts],
                texts=[table[name].combine_chunks() for name in texts],
                columns={name: table[name].to_numpy() for name in _FIXED_COLUMNS},
            )

    @cached_property
    def is_first_cell(self) -> Bools:
        """Whether each cell (C,) is the first of its entry: its key or observed age is new."""
        codes = [text.indices.to_numpy() for text in self.texts]
        dates = [self.columns[START], self.columns[END]]
        key = [*dates, *codes, self.columns["observed_age"]]
        is_first = np.ones(len(key[0]), dtype=bool)
        is_new = [column[1:] != column[:-1] for column in key]
        is_first[1:] = np.any(is_new, axis=0)
        return is_first

    @cached_property
    def first_cell(self) -> Ints:
        """Row of the first cell of each entry: (E,)."""
        return np.flatnonzero(self.is_first_cell)

    @cached_property
    def position(self) -> Ints:
        """Position of each cell (C,) in an array (E, J) that is read row by row."""
        entry = np.cumsum(self.is_first_cell) - 1
        node = np.searchsorted(NODE_AGES, self.columns["age"])
        return entry * len(NODES) + node

    def by_node(self, name: str, blank: object) -> NDArray[Any]:
        """Cells of a column by entry and node: (E, J), `blank` where there is none."""
        cells = np.full((len(self.first_cell), len(NODES)), blank)
        cells.reshape(-1)[self.position] = self.columns[name]
        return cells

    def keys(self) -> pd.MultiIndex:
        """Key of the cohort of each entry: (E,)."""
        first_cell = self.first_cell
        dates = [self.columns[name][first_cell] for name in (START, END)]
        levels = [days.astype("datetime64[s]") for days in dates]
        rows = pa.array(first_cell)
        levels += [text.take(rows).to_numpy(zero_copy_only=False) for text in self.texts]
        columns = map(attribute_column, self.attributes)
        return pd.MultiIndex.from_arrays(levels, names=["start", "end", *columns])

    def bands(self) -> dict[str, Band]:
        """Band of each stage; one that changed no bit shares the band of the stage before it."""
        bands: dict[str, Band] = {}
        previous_bits: list[Ints] = []
        for stage in STAGES:
            names = [_BAND_COLUMNS[stage, quantity] for quantity in QUANTITIES]
            bits = [self.columns[name].view(np.int64) for name in names]
            is_unchanged = bool(previous_bits) and all(map(np.array_equal, bits, previous_bits))
            if not is_unchanged:
                band = Band(*(self.by_node(name, np.nan) for name in names))
            bands[stage] = band
            previous_bits = bits
        return bands

    def entries(self, origin: np.datetime64, hierarchy: tuple[str, ...]) -> LedgerEntries:
        """Entries of the file, which holds those of `origin`."""
        first_cell = self.first_cell
        values = {name: self.columns[column][first_cell] for name, column in _ENTRY_COLUMNS.items()}
        return LedgerEntries(
            hierarchy=tuple(name for name in hierarchy if name in self.attributes),
            keys=self.keys(),
            cohort_index=np.arange(len(first_cell)),
            origin=np.full(len(first_cell), parse_day(origin)),
            pattern=self.by_node("pattern", np.nan),
            bands=self.bands(),
            is_borrowed=self.by_node("borrowed", blank=False),
            **values,
        )
