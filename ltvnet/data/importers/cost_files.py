"""Files of what advertising cost, as networks export them: see configs/data/import/cost*.yaml.

Shapes: R rows of cost.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ltvnet.data.arrays import Days, Floats, Strings
from ltvnet.data.columns import DATE, END, SPEND, START
from ltvnet.data.curves import History
from ltvnet.data.importers.cohort_blocks import (
    DateRanges,
    NumberReader,
    find_rows_left_out,
    read_dates,
    scale_amounts,
)
from ltvnet.data.importers.column_mapping import COLUMNS_SHOWN, ColumnMapping, refuse_repeated_names
from ltvnet.data.importers.conventions import Conventions, MappedFile, decide_conventions
from ltvnet.data.importers.costs import Costs, join_costs
from ltvnet.data.importers.headings import normal_name
from ltvnet.data.importers.table_format import TableFormat, read_preset_configs
from ltvnet.data.table_files import (
    SUFFIXES,
    FaultReport,
    TableFile,
    factorize_text,
    fault_table,
    is_table,
)

log = logging.getLogger(__name__)

_COST_BLOCK_ROWS = 1 << 18

_NO_DAY = "expected a day such as 2025-01-06; correct it, or remove the row"


@dataclass(frozen=True)
class CostPreset:
    """A layout of cost: see configs/data/import/cost.yaml.

    `match` names of columns that must all be there, each as a list of spellings; `columns` role ->
    its spellings, the preferred one first; `currency` spellings of the column of currencies; `unit`
    that amounts are multiplied by. A spelling between slashes is a regular expression, in which a
    group (?P<currency>...) holds the currency.
    """

    name: str
    match: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]]
    currency: tuple[str, ...] = ()
    unit: float = 1.0

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> "CostPreset":
        """Make a preset of its YAML. Raises ValueError for a key that is none."""
        if unknown := sorted(set(config) - {"kind", "match", "columns", "currency", "unit"}):
            raise ValueError(f"configs/data/import/{name}.yaml: unknown keys {unknown}")
        return cls(
            name,
            match=tuple(map(_spellings, config["match"])),
            columns={role: _spellings(names) for role, names in config["columns"].items()},
            currency=_spellings(config.get("currency", ())),
            unit=config.get("unit", 1.0),
        )


def _spellings(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return one spelling, or several, as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


@cache
def load_cost_presets() -> tuple[CostPreset, ...]:
    """Read the presets of files of cost, by name."""
    configs = read_preset_configs().items()
    return tuple(
        CostPreset.from_config(name, config) for name, config in configs if config["kind"] == "cost"
    )


def add_cost(
    history: History, cost: str | Path, table_format: TableFormat, *, spread: bool
) -> History:
    """Give cohorts the cost in a file, or in all files of a folder, as spend; how is logged.

    `spread` divides rows of several days evenly among them; `table_format` says how numbers and
    dates are written, where the files do not tell it. Raises ValueError where the files cannot be
    read, or do not fit the cohorts.
    """
    path = Path(cost).expanduser()
    costs = read_costs(path, table_format, reserved=frozenset(history.attributes))
    if np.isfinite(history.spend).any():
        log.info("%s: its cost replaces the spend of the cohort table", path)
    joined, report = join_costs(history, costs, spread=spread)
    log.info("%s", report.describe())
    return joined


def read_costs(
    path: Path,
    table_format: TableFormat = TableFormat(),  # noqa: B008 it is frozen
    reserved: frozenset[str] = frozenset(),
) -> Costs:
    """Read a file of cost, or all files of a folder, whatever their layout.

    Columns of the names `reserved` keep them. Raises ValueError, which names file, line and value,
    for a file of no layout of cost, a cell that cannot be read, amounts in several currencies, and
    cost of one day and campaign in two files.
    """
    files = [_map_cost_file(file, reserved) for file in _find_cost_files(path)]
    _refuse_currencies(path, files)
    conventions = _decide_cost_conventions([file.mapped for file in files], table_format)
    parts = [file.read(conventions) for file in files]
    for file in files:
        log.info("%s: %s", file.mapped.path, ", ".join([file.describe(), *conventions.notes]))
    return _join_files(path, parts)


def _find_cost_files(path: Path) -> list[Path]:
    """Find the files of cost at a path. Raises ValueError where there is none."""
    if not path.exists():
        raise ValueError(f"{path}: expected a file or a folder, found none; see data.cost")
    files = [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir()))
    tables = [file for file in files if is_table(file)]
    if not tables:
        raise ValueError(f"{path}: expected files that end in {', '.join(SUFFIXES)}, got none")
    return tables


@dataclass(frozen=True)
class CostFile:
    """A file of cost: `mapped` roles of its columns, `currency` in a heading or "", `table`."""

    mapped: MappedFile
    currency: str
    table: TableFile

    def describe(self) -> str:
        """Say in a line how the file is read."""
        mapping = self.mapped.mapping
        roles = [f"{role} = {name}" for role, name in mapping.column_of.items() if role != name]
        unit = [] if mapping.unit == 1 else [f"amounts x {mapping.unit:g}"]
        currency = [f"amounts in {self.currency}"] if self.currency else []
        return ", ".join([f"cost read as {mapping.preset}", *roles, *unit, *currency])

    def read(self, conventions: Conventions) -> Costs:
        """Read the rows. Raises ValueError that lists all cells that cannot be read."""
        report = FaultReport({SPEND: self.mapped.mapping.column_of[SPEND]})
        counts: Counter[str] = Counter()
        blocks: list[CostRows] = []
        first_row = 0
        for block in self.table.blocks(_COST_BLOCK_ROWS):
            rows = np.flatnonzero(~find_rows_left_out(block, self.mapped, counts))
            cost_rows, faults = self._read_block(block.take(pa.array(rows)), conventions)
            source_rows = first_row + rows[faults["row"].to_numpy(dtype=np.int64)]
            report.add_table(self.table, faults.assign(row=source_rows))
            blocks.append(cost_rows)
            first_row += len(block)
        report.raise_if_any()

        left_out = [f"{count:,} {text}" for text, count in counts.items() if count]
        if left_out:
            log.info("%s: left out %s", self.mapped.path, ", ".join(left_out))
        return self._join_blocks(blocks)

    def _join_blocks(self, blocks: Sequence["CostRows"]) -> Costs:
        """Join blocks of rows. Raises ValueError where there is none."""
        start = np.concatenate([rows.start for rows in blocks])
        end = np.concatenate([rows.end for rows in blocks])
        if not len(start):
            raise ValueError(f"{self.mapped.path}: expected rows of cost, got none")
        return Costs(
            source=str(self.mapped.path),
            start=start,
            end=end,
            attributes={
                name: np.concatenate([rows.attributes[name] for rows in blocks])
                for name in blocks[0].attributes
            },
            spend=np.concatenate([rows.spend for rows in blocks]),
            file_start=np.full(len(start), start.min()),
            file_end=np.full(len(start), end.max()),
        )

    def _read_block(
        self, block: pa.Table, conventions: Conventions
    ) -> tuple["CostRows", pd.DataFrame]:
        """Read rows of the file, and find their faults."""
        mapping = self.mapped.mapping
        reader = NumberReader(conventions)
        spend = reader.read(block.column(mapping.column_of[SPEND]), SPEND)
        dates = read_dates(block, self.mapped, conventions)
        start, end = _parse_days(dates)  # (R,) each
        shown = dates.texts[dates.codes]
        undated = np.flatnonzero(np.isnat(start) | np.isnat(end))
        date_faults = fault_table(undated, self.mapped.date_columns[0], shown[undated], _NO_DAY)

        names = [role for role in mapping.column_of if role not in (DATE, START, END, SPEND)]
        columns = {name: mapping.column_of[name] for name in names}
        columns |= {name: name for name in conventions.text_columns[self.mapped.path]}
        attributes = {}
        for name, column in columns.items():
            codes, texts = factorize_text(block.column(column))
            attributes[name] = np.array(texts, dtype=object)[codes]
        rows = CostRows(start, end, attributes, scale_amounts(spend, mapping.unit))
        return rows, pd.concat([date_faults, reader.fault_table()])


@dataclass(frozen=True)
class CostRows:
    """Rows of cost: (R,) each, see `Costs`."""

    start: Days
    end: Days
    attributes: Mapping[str, Strings]
    spend: Floats


def _parse_days(dates: DateRanges) -> tuple[Days, Days]:
    """Return the first and last day (R,) of each range, NaT where a text is none."""
    first_texts = [str(text).partition("~")[0] for text in dates.texts]
    first = pd.to_datetime(pd.Series(first_texts, dtype=object), format="%Y-%m-%d", errors="coerce")
    first_days = first.to_numpy().astype("datetime64[D]")
    return first_days[dates.codes], dates.last_days[dates.codes]


def _map_cost_file(path: Path, reserved: frozenset[str]) -> CostFile:
    """Find the layout of a file of cost. Raises ValueError where it has none, or a name twice."""
    table = TableFile(path)
    names = table.columns
    refuse_repeated_names(path, names)
    preset = _choose_cost_preset(path, names)
    taken = [name for name in names if name in reserved]
    found = {name: name for name in taken}
    for role, spellings in preset.columns.items():
        column = _find_column([name for name in names if name not in taken], spellings)
        if role not in found and column is not None and column not in found.values():
            found[role] = column
    if DATE in found or START not in found:
        found.pop(START, None)
        found.pop(END, None)
    if SPEND not in found or not {DATE, START} & set(found):
        raise ValueError(_explain_no_layout(path, names))

    currency_column = _find_column(names, preset.currency)
    mapping = ColumnMapping(
        preset=preset.name,
        kind="wide",
        column_of=found,
        ages={},
        unit=preset.unit,
        currency=currency_column,
    )
    currency = _currency_in_heading(found[SPEND], preset.columns[SPEND])
    return CostFile(MappedFile(path, mapping, table.cell_separator), currency, table)


def _choose_cost_preset(path: Path, names: Sequence[str]) -> CostPreset:
    """Choose the preset of which a file has the most columns, `cost` where it is nobody's.

    Raises ValueError where it is none, or may be several.
    """
    fitting = [
        preset
        for preset in load_cost_presets()
        if all(_find_column(names, spellings) for spellings in preset.match)
    ]
    fitting = [preset for preset in fitting if preset.name != "cost"] or fitting
    if not fitting:
        raise ValueError(_explain_no_layout(path, names))
    most = max(len(preset.match) for preset in fitting)
    best = [preset for preset in fitting if len(preset.match) == most]
    if len(best) > 1:
        words = " or ".join(preset.name for preset in best)
        raise ValueError(f"{path}: its columns are those of {words}; export fewer columns")
    return best[0]


def _explain_no_layout(path: Path, names: Sequence[str]) -> str:
    """Explain that a file is no layout of cost."""
    shown = ", ".join(names[:COLUMNS_SHOWN])
    return (
        f"{path}: expected columns of days and of cost, such as Date and Spend, got {shown}; "
        "rename them so"
    )


def _find_column(names: Iterable[str], spellings: Iterable[str]) -> str | None:
    """Find the column that has one of the spellings, the preferred one first."""
    columns = list(names)
    for spelling in spellings:
        for name in columns:
            if _has_spelling(name, spelling):
                return name
    return None


def _has_spelling(name: str, spelling: str) -> bool:
    """Return whether a column is called so, or fits the expression between slashes."""
    if is_pattern := re.fullmatch("/(.*)/", spelling):
        return bool(re.fullmatch(is_pattern[1], name, re.IGNORECASE))
    return normal_name(name) == normal_name(spelling)


def _currency_in_heading(heading: str, spellings: Iterable[str]) -> str:
    """Return the currency that the heading of a column holds, "" where it holds none."""
    for spelling in spellings:
        match = re.fullmatch(spelling.strip("/"), heading, re.IGNORECASE)
        if match and match.groupdict().get("currency"):
            return match["currency"].strip()
    return ""


def _refuse_currencies(path: Path, files: Sequence[CostFile]) -> None:
    """Raise ValueError where headings of files name several currencies."""
    currency_of = {file.mapped.path.name: file.currency for file in files if file.currency}
    if len(set(currency_of.values())) > 1:
        listed = ", ".join(f"{currency} in {name}" for name, currency in currency_of.items())
        raise ValueError(f"{path}: expected cost in one currency, got {listed}; export it in one")


def _decide_cost_conventions(files: Sequence[MappedFile], table_format: TableFormat) -> Conventions:
    """Decide how numbers and dates are written: by the files, and else by the user's word.

    The word is about tables of cohorts, of which files of cost need not be alike.
    """

    def blocks_of(path: Path, rows: int) -> Iterator[pa.Table]:
        return TableFile(path).blocks(rows)

    try:
        return decide_conventions(files, blocks_of, TableFormat())
    except ValueError:
        if table_format.decimal is None and table_format.dates is None:
            raise
        words = TableFormat(decimal=table_format.decimal, dates=table_format.dates)
        return decide_conventions(files, blocks_of, words)


def _join_files(path: Path, files: Sequence[Costs]) -> Costs:
    """Join the rows of files. Raises ValueError for cost that two files have."""
    names = list(dict.fromkeys(name for costs in files for name in costs.attributes))
    attributes = {
        name: np.concatenate(
            [costs.attributes.get(name, np.full(len(costs), "", dtype=object)) for costs in files]
        )
        for name in names
    }
    file_number = np.repeat(np.arange(len(files)), [len(costs) for costs in files])
    joined = Costs(
        source=str(path),
        start=np.concatenate([costs.start for costs in files]),
        end=np.concatenate([costs.end for costs in files]),
        attributes=attributes,
        spend=np.concatenate([costs.spend for costs in files]),
        file_start=np.concatenate([costs.file_start for costs in files]),
        file_end=np.concatenate([costs.file_end for costs in files]),
    )
    keys = pd.DataFrame({"start": joined.start, "end": joined.end, **attributes})
    keys_of_files = keys.assign(file=file_number).drop_duplicates()
    repeated = keys_of_files[keys_of_files.duplicated([*keys.columns])]
    if len(repeated):
        row = int(repeated.index[0])
        both = keys_of_files[(keys_of_files[keys.columns] == keys.loc[row]).all(axis=1)]
        sources = " and ".join(files[number].source for number in both["file"][:2])
        texts = ", ".join(str(attributes[name][row]) for name in names if attributes[name][row])
        raise ValueError(
            f"{sources}: both have cost of {joined.start[row]}, {texts} ({len(repeated):,} such "
            "rows), which would count twice; keep the newer export of those days"
        )
    return joined
