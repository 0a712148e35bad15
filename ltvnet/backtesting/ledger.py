"""The table of record: forecasts as issued, at nodes; what came true is joined on reading.

On disk a folder of Parquet files, one a model and origin, a row a cell, null where nothing is
known; the origin stands in the name of the folder, `origin=2025-02-10`, where pandas and DuckDB
read it. In memory `Entries`, a row a cohort and observed age. A file is written whole or not at
all, and written again it is the same file.

Shapes: E entries, J nodes, C cells, K cohorts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from ltvnet.data.arrays import Bools, Categorical, Days, Floats, Ints, Strings
from ltvnet.data.columns import END, START
from ltvnet.data.curves import NODES, Curves, History, parse_day
from ltvnet.forecasting.forecast import QUANTITIES, Band, Forecast
from ltvnet.storage import atomic_write

STAGES = ("raw", "blended", "corrected", "final")
"""A forecast of the model; blended with the pattern; corrected on increments; calibrated."""


@dataclass(frozen=True)
class CohortKeys:
    """Cohorts of which the key alone is known: `keys` (K) start, end and attributes."""

    keys: pd.MultiIndex

    def __len__(self) -> int:
        """Number of cohorts."""
        return len(self.keys)

    @property
    def attributes(self) -> Mapping[str, Strings]:
        """The attributes of each cohort, (K,) each."""
        names = list(map(str, self.keys.names))
        return {n: self.keys.get_level_values(n).to_numpy() for n in names[2:]}

    @property
    def attribute_codes(self) -> Mapping[str, Categorical]:
        """The same as codes of their values."""
        parts = zip(self.keys.names, self.keys.codes, self.keys.levels, strict=True)
        found = [(str(name), codes, values) for name, codes, values in parts][2:]
        return {n: Categorical(codes.astype(np.int64), v.to_numpy(object)) for n, codes, v in found}


@dataclass(frozen=True)
class LedgerEntries:
    """Forecasts as they were issued, at NODES.

    `keys` (K) of cohorts and `cohort` (E,) positions in them; `origin` (E,); `natural` (E,) last
    complete age at the origin, `observed` (E,) the age that the prefix was cut to; `value` (E,)
    revenue per user at the observed age; `users`, `spend`, `reach` (E,) last age that the data
    supported; `pattern` (E, J) and `bands` stage -> (E, J), NaN where nothing was forecast;
    `borrowed` (E, J) cells whose interval is that of another horizon.
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
    def from_forecast(cls, forecast: Forecast, natural: Ints) -> Self:
        """The forecasts of cohorts that have a complete age.

        `natural` (N,) the last complete age of each cohort, before its prefix was cut. A cut
        forecast is issued at ages above the natural one only. Of a forecast that was corrected
        the stages between raw and final are blank; of another every stage is the raw one. Raises
        ValueError unless it is at NODES.
        """
        if tuple(forecast.ages.tolist()) != NODES:
            raise ValueError(f"expected a forecast at the nodes {NODES}, got ages {forecast.ages}")
        curves = forecast.curves
        issued = np.array(NODES) > natural[:, None]
        rows = np.flatnonzero((natural >= 0) & issued.any(axis=1))

        def cells(values: Floats) -> Floats:
            return np.where(issued, values, np.nan)[rows]

        raw = between = final = Band(*(cells(getattr(forecast.raw, name)) for name in QUANTITIES))
        if forecast.final is not forecast.raw:
            between = Band(*(np.full_like(raw.mean, np.nan) for _ in QUANTITIES))
            final = Band(*(cells(getattr(forecast.final, name)) for name in QUANTITIES))
        borrowed = np.zeros_like(issued) if forecast.is_borrowed is None else forecast.is_borrowed
        return cls(
            hierarchy=curves.hierarchy,
            keys=curves.index[rows],
            cohort_index=np.arange(len(rows)),
            origin=np.full(len(rows), curves.origin),
            natural_age=natural[rows],
            observed_age=curves.observed_age[rows],
            observed_value=curves.observed_value[rows],
            users=curves.users[rows],
            spend=curves.spend[rows],
            last_supported_age=np.full(len(rows), forecast.last_supported_age),
            pattern=cells(forecast.pattern),
            bands=dict(zip(STAGES, (raw, between, between, final), strict=True)),
            is_borrowed=(issued & borrowed)[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence["LedgerEntries"]) -> "LedgerEntries":
        """Entries as one, sorted by origin, cohort and observed age; their keys are distinct."""
        keys = [part.keys.take(part.cohort_index) for part in parts]
        cohort, distinct = _told_apart(keys[0].append(keys[1:]))
        made = _mapped(lambda *arrays: np.concatenate(arrays), *parts)
        made = replace(made, keys=distinct, cohort_index=cohort)
        order = np.lexsort((made.observed_age, made.cohort_index, made.origin))
        return made if (np.diff(order) == 1).all() else made.take(order)

    def take(self, rows: NDArray[np.generic]) -> "LedgerEntries":
        """Some of the entries, by mask or row numbers."""
        return _mapped(lambda array: array[rows], self)

    @property
    def has_forecast(self) -> Bools:
        """Which cells (E, J) were forecast."""
        return np.isfinite(self.pattern)

    @property
    def start(self) -> Days:
        """First acquisition day of each entry's cohort: (E,)."""
        return self.keys.get_level_values(0).to_numpy()[self.cohort_index]

    @property
    def acquisition_week(self) -> Ints:
        """Number of the week, from Monday, in which each entry's cohort began: (E,)."""
        return (self.start.astype("datetime64[D]").astype(np.int64) + 3) // 7

    @property
    def attributes(self) -> Mapping[str, Strings]:
        """The attributes of each entry's cohort, (E,) each."""
        return {name: text[self.cohort_index] for name, text in self.cohorts.attributes.items()}

    @property
    def cohorts(self) -> "CohortKeys":
        """The cohorts (K) of the entries, each once."""
        return CohortKeys(self.keys)

    def look_up_actuals(self, known: Curves) -> Floats:
        """What had come true by the origin of `known`: (E, J), NaN where it had not matured.

        Raises ValueError for cohorts with other attributes.
        """
        ours, theirs = (", ".join(map(str, index.names)) for index in (self.keys, known.index))
        if ours != theirs:
            raise ValueError(
                f"expected cohorts by {ours} as in the ledger, got {theirs}: read the data with "
                "the attributes that the forecasts were made with, see data.attributes"
            )
        nothing = np.full((1, len(NODES)), np.nan)
        values = np.concatenate((known.values[:, list(NODES)], nothing))  # (N + 1, J)
        place = known.index.get_indexer(self.keys)  # -1 of an unknown cohort: the last row
        came_true: Floats = np.where(self.has_forecast, values[place[self.cohort_index]], np.nan)
        return came_true


@dataclass(frozen=True)
class Ledger:
    """A folder of forecasts as they were issued.

    A backtest and production forecasts may share it: `model` in a row says whose they are, one
    name for each bundle or configuration.
    """

    folder: Path

    def path(self, model: str, origin: np.datetime64) -> Path:
        """The file of a model's forecasts of one origin."""
        return self.folder / f"origin={parse_day(origin)}" / f"{model}.parquet"

    def write(
        self, model: str, entries: LedgerEntries, bundle: str, last_training_day: np.datetime64
    ) -> None:
        """Write the entries of one origin; what stood there of the model is replaced.

        `bundle` the identity of what forecast, `trained` the last day that it knew. Raises
        ValueError for entries of several origins, or of one before that day, for a cohort twice
        at one observed age, and for an attribute named like a column.
        """
        origins = np.unique(entries.origin)
        if len(origins) != 1:
            raise ValueError(f"expected entries of one origin, got those of {len(origins)}")
        self.refuse_hindsight(origins[0], last_training_day)
        entries = LedgerEntries.concatenate([entries])
        again = (np.diff(entries.cohort_index) == 0) & (np.diff(entries.observed_age) == 0)
        if again.any():
            row = int(again.argmax())
            key = " ".join(str(part) for part in entries.keys[entries.cohort_index[row]])
            raise ValueError(
                f"expected a cohort once at an observed age, got {key} twice at "
                f"{entries.observed_age[row]}: append what was forecast of it once"
            )
        issuer = {
            "model": model,
            "bundle": bundle,
            "trained": last_training_day.astype("datetime64[D]").item(),
        }
        table = _table(entries, issuer)
        repeated = table.column_names[: table.column_names.index("pattern")]
        with atomic_write(self.path(model, origins[0])) as part:
            parquet.write_table(table, part, use_dictionary=repeated, store_schema=False)

    @staticmethod
    def refuse_hindsight(origin: np.datetime64, last_training_day: np.datetime64) -> None:
        """Raise ValueError for a forecast of a day before the last one that its model knew."""
        if origin < last_training_day:
            raise ValueError(
                f"a forecast of {origin} by a model that knew {last_training_day} proves nothing: "
                "forecast data from after its training, or train it as of an earlier day"
            )

    def has(self, model: str, origin: np.datetime64) -> bool:
        """Whether a model's forecasts of an origin are there."""
        return self.path(model, origin).exists()

    def last_training_day(self, model: str, origin: np.datetime64) -> np.datetime64 | None:
        """The last day known to what forecast an origin; None where no forecasts are there."""
        if not self.has(model, origin):
            return None
        file = parquet.ParquetFile(self.path(model, origin))
        place = file.schema_arrow.get_field_index("trained")
        return np.datetime64(file.metadata.row_group(0).column(place).statistics.min, "D")

    def read(
        self, model: str, origins: Sequence[np.datetime64], hierarchy: tuple[str, ...]
    ) -> LedgerEntries:
        """The entries of a model at some origins. Raises ValueError when there are none of one."""
        if not origins:
            raise ValueError(f"expected origins to read of {model}, got none")
        files = [self.path(model, origin) for origin in origins]
        if missing := [str(path) for path in files if not path.exists()]:
            raise ValueError(
                f"expected forecasts of {model} at {len(files)} origins, found none at "
                f"{', '.join(missing)}: run the backtest that makes them"
            )
        pairs = zip(files, origins, strict=True)
        return LedgerEntries.concatenate(
            [_entries(file, origin, hierarchy) for file, origin in pairs]
        )


def scored(entries: LedgerEntries, history: History, date: object) -> Floats:
    """What had come true of the entries by the end of a day: (E, J)."""
    return entries.look_up_actuals(history.as_of(date))


_FIXED = {
    "natural_age": "natural_k",
    "observed_age": "observed_age",
    "observed_value": "observed_value",
    "users": "users",
    "spend": "spend",
    "last_supported_age": "reach",
}
"""Columns of what an entry has one of; they stand between its key and its cells."""

_BANDS = {
    (stage, quantity): quantity if stage == "final" else f"{stage}_{quantity}"
    for stage, quantity in product(STAGES, QUANTITIES)
}
_ISSUER = ("model", "bundle", "trained")
_COLUMNS = (START, END, *_FIXED.values(), "age", "pattern", *_BANDS.values(), "borrowed")


def _mapped(make: Callable[..., NDArray[Any]], *parts: LedgerEntries) -> LedgerEntries:
    """Entries whose arrays are made of those of `parts`; hierarchy and keys are the first's."""

    def made(name: str, owners: Sequence[object]) -> NDArray[Any]:
        return make(*(getattr(owner, name) for owner in owners))

    arrays: dict[str, Any] = {
        field.name: made(field.name, parts)
        for field in fields(LedgerEntries)
        if field.name not in ("hierarchy", "keys", "bands")
    }
    bands: dict[tuple[int, ...], Band] = {}  # a band that stages share is made once
    for stage in STAGES:
        owners = [part.bands[stage] for part in parts]
        if (same := tuple(map(id, owners))) not in bands:
            bands[same] = Band(*(made(name, owners) for name in QUANTITIES))
    shared = {stage: bands[tuple(id(part.bands[stage]) for part in parts)] for stage in STAGES}
    return replace(parts[0], bands=shared, **arrays)


def _told_apart(keys: pd.MultiIndex) -> tuple[Ints, pd.MultiIndex]:
    """Where each of the keys (E) stands among the distinct ones, and those (K), sorted.

    By arithmetic on the codes of each level, as objects for rows would take minutes.
    """
    rank = first = np.zeros(len(keys), dtype=np.int64)
    for level in range(keys.nlevels):
        codes, words = pd.factorize(keys.get_level_values(level), sort=True)
        _, first, rank = np.unique(
            rank * len(words) + codes, return_index=True, return_inverse=True
        )
    return rank, keys[first]


def _table(entries: LedgerEntries, issuer: Mapping[str, object]) -> pa.Table:
    """The rows of a file, a cell each; raises ValueError for an attribute named like a column."""
    row, place = np.nonzero(entries.has_forecast)  # (C,)
    attributes = list(map(str, entries.keys.names))[2:]
    if taken := sorted({*_ISSUER, *_COLUMNS, "origin"}.intersection(attributes)):
        raise ValueError(
            f"expected no attribute named like a column of the ledger, got {', '.join(taken)}: "
            "rename it with data.columns"
        )
    columns: dict[str, Any] = {
        name: pa.repeat(pa.scalar(value), len(row)) for name, value in issuer.items()
    }
    for level, name in enumerate((START, END, *attributes)):
        codes, words = pd.factorize(entries.keys.get_level_values(level))
        values = pa.array(words, pa.date32() if level < 2 else pa.string())
        columns[name] = pa.DictionaryArray.from_arrays(codes[entries.cohort_index[row]], values)
    columns |= {column: getattr(entries, name)[row] for name, column in _FIXED.items()}
    columns |= {"age": np.array(NODES)[place], "pattern": entries.pattern[row, place]}
    for (stage, quantity), column in _BANDS.items():
        columns[column] = getattr(entries.bands[stage], quantity)[row, place]
    columns["borrowed"] = entries.is_borrowed[row, place]
    arrays = {
        name: pa.array(cells, from_pandas=True) if isinstance(cells, np.ndarray) else cells
        for name, cells in columns.items()
    }
    return pa.table(arrays)


def _entries(file: Path, origin: np.datetime64, hierarchy: tuple[str, ...]) -> LedgerEntries:
    """The entries in a file; the cells of one stand together there."""
    names = parquet.read_schema(file).names
    attributes = [name for name in names if name not in (*_ISSUER, *_COLUMNS)]
    table = parquet.read_table(
        file, columns=[*attributes, *_COLUMNS], read_dictionary=attributes, partitioning=None
    )
    texts = [column.combine_chunks() for column in table.select(attributes).itercolumns()]
    codes = [text.indices.to_numpy() for text in texts]
    columns = {name: table[name].to_numpy() for name in _COLUMNS}

    parts = [columns[START], columns[END], *codes, columns["observed_age"]]
    begins = np.ones(len(table), dtype=bool)  # (C,)
    begins[1:] = np.any([part[1:] != part[:-1] for part in parts], axis=0)
    first = np.flatnonzero(begins)
    place = np.searchsorted(np.array(NODES), columns["age"])
    cell = (np.cumsum(begins) - 1) * len(NODES) + place

    def wide(name: str, blank: object) -> NDArray[Any]:
        cells = np.full((len(first), len(NODES)), blank)
        cells.reshape(-1)[cell] = columns[name]
        return cells

    keys = [columns[name][first].astype("datetime64[s]") for name in (START, END)]
    keys += [text.take(pa.array(first)).to_numpy(zero_copy_only=False) for text in texts]
    return LedgerEntries(
        hierarchy=tuple(name for name in hierarchy if name in attributes),
        keys=pd.MultiIndex.from_arrays(keys, names=["start", "end", *attributes]),
        cohort_index=np.arange(len(first)),
        origin=np.full(len(first), parse_day(origin)),
        pattern=wide("pattern", np.nan),
        bands=_bands(columns, wide),
        is_borrowed=wide("borrowed", blank=False),
        **{name: columns[column][first] for name, column in _FIXED.items()},
    )


def _bands(
    columns: Mapping[str, NDArray[Any]], wide: Callable[[str, float], Floats]
) -> dict[str, Band]:
    """The band of each stage; a stage that changed no bit shares the band of the one before it."""
    bands: dict[str, Band] = {}
    before: list[Ints] = []
    for stage in STAGES:
        names = [_BANDS[stage, quantity] for quantity in QUANTITIES]
        bits = [columns[name].view(np.int64) for name in names]
        if not before or not all(map(np.array_equal, bits, before)):
            band = Band(*(wide(name, np.nan) for name in names))
        bands[stage], before = band, bits
    return bands
