"""Reads exported tables of cohorts, whatever their layout and dialect, as ltvnet's own.

Layout and conventions are decided once over all files of a source, not file by file.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ltvnet.data.cohort_rows import parse_dates, rename_columns
from ltvnet.data.columns import ROLES
from ltvnet.data.history_checks import OWN_LAYOUT
from ltvnet.data.importers.cohort_blocks import CohortBlock, own_names, translate_wide
from ltvnet.data.importers.column_mapping import AGE, VALUE, ColumnMapper, ColumnMapping
from ltvnet.data.importers.conventions import Conventions, MappedFile, decide_conventions
from ltvnet.data.importers.headings import names_money
from ltvnet.data.importers.long_tables import LONG_BLOCK_ROWS, LongTableReader
from ltvnet.data.importers.money_per import decide_per, decide_per_by_return
from ltvnet.data.importers.purchase_presets import recognise_purchases
from ltvnet.data.importers.table_format import TableFormat
from ltvnet.data.table_files import (
    TableFile,
    empty_fault_table,
    is_text_type,
    name_file,
    parse_numbers,
)

log = logging.getLogger(__name__)

_PROBED_BYTES = 1 << 25  # of a CSV up to which all cells are tried before it is parsed
_PROBED_ROWS = 1 << 14


@dataclass(frozen=True)
class CohortReader:
    """Tables of cohorts of one source.

    `table_format` what the user said, `columns` role -> column likewise; `files` with the roles of
    their columns, `tables` with what is known of their text; `conventions` of numbers and dates,
    None where all files are ltvnet's own with plain numbers and ISO dates: they are read as they
    are.
    """

    table_format: TableFormat
    columns: Mapping[str, str]
    files: Mapping[Path, MappedFile]
    tables: Mapping[Path, TableFile]
    conventions: Conventions | None

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        table_format: TableFormat,
        columns: Mapping[str, str],
        reserved: frozenset[str],
    ) -> "CohortReader":
        """Look at files and decide how they are read, which is logged where it is not plain.

        `reserved` names of attributes that the user speaks of. Raises ValueError where the files
        have no layout that is known, have different ones, or can be read in two ways.
        """
        mapper = ColumnMapper(table_format, columns, reserved)
        tables = {path: _table_file(path, table_format) for path in paths}
        files = {path: _map_file(table, mapper) for path, table in tables.items()}
        presets = {file.mapping.preset for file in files.values()}
        if len(presets) > 1:
            listed = ", ".join(
                f"{path.name}: {f.mapping.preset or 'own'}" for path, f in files.items()
            )
            raise ValueError(
                f"expected files of one layout, got {listed}; set data.format.preset to the one "
                "that fits all, or keep them in folders of their own"
            )

        reader = cls(table_format, columns, files, tables, None)
        if all(map(reader._is_plain, paths)) or not all(
            file.is_cohort_table for file in files.values()
        ):
            reader._log_renamed()
            return reader
        return reader.with_conventions()

    def with_conventions(self) -> "CohortReader":
        """Return the reader with conventions decided over all cells, which are logged."""
        conventions = decide_conventions(
            list(self.files.values()), self._raw_blocks, self.table_format
        )
        files = self._with_per(conventions)
        for path, file in files.items():
            description = file.mapping.describe(self.table(path).columns)
            log.info("%s: %s", path, ", ".join([description, *conventions.notes]))
        return replace(self, files=files, conventions=conventions)

    def _with_per(self, conventions: Conventions) -> Mapping[Path, MappedFile]:
        """Return the files with what the values are per, where no name says so.

        Raises ValueError where the numbers do not say it either, though they are called revenue,
        and where a column of the return on spend contradicts what is said.
        """
        untold = [file for file in self.files.values() if not file.mapping.is_per_told]
        if not untold:
            self._check_per(conventions)
            return self.files
        per = decide_per(untold, conventions, self._raw_blocks)
        names = [*untold[0].mapping.ages, *untold[0].mapping.values_of]
        is_long = untold[0].mapping.kind == "long"  # where a name such as value may be either
        if per is None and (is_long or any(map(names_money, names))):
            raise ValueError(
                f"{untold[0].path}: {names[-1]} may be money per user or of the whole cohort; say "
                "which by data.format.per=user or data.format.per=cohort"
            )
        return {
            path: replace(file, mapping=replace(file.mapping, per=per or file.mapping.per))
            for path, file in self.files.items()
        }

    def _check_per(self, conventions: Conventions) -> None:
        """Raise ValueError where the return on spend contradicts what values are said to be per.

        The user's own word stands.
        """
        if self.table_format.per is not None:
            return
        for path, file in self.files.items():
            per = decide_per_by_return(file, conventions, self._raw_blocks)
            if per in (None, file.mapping.per):
                continue
            words = {"user": "per user", "cohort": "of the whole cohort"}
            raise ValueError(
                f"{path}: expected money {words[file.mapping.per]}, but with its spend and return "
                f"on spend it agrees as money {words[per]}; say which by data.format.per=user or "
                "data.format.per=cohort"
            )

    @property
    def layout(self) -> str:
        """Kind of tables, and conventions of numbers and dates where they are not plain."""
        presets = {file.mapping.preset for file in self.files.values()} - {""}
        notes = [] if self.conventions is None else list(self.conventions.notes)
        return ", ".join([*(sorted(presets) or [OWN_LAYOUT]), *notes])

    @property
    def extra_lag_days(self) -> int:
        """Days after which revenue of a day is complete, because of how a platform counts."""
        return max((file.mapping.extra_lag_days for file in self.files.values()), default=0)

    def spell_out(self) -> tuple[TableFormat, dict[str, str]]:
        """Return a format, and role -> column, that say all that was understood of the files.

        Columns are those that all files have.
        """
        mappings = [file.mapping for file in self.files.values()]
        common = set.intersection(*(set(mapping.column_of.items()) for mapping in mappings))
        columns = {
            role: column
            for role, column in mappings[0].column_of.items()
            if (role, column) in common and role != column
        }
        if self.conventions is None:
            return self.table_format, columns
        mapping = mappings[0]
        table_format = replace(
            self.table_format,
            preset=mapping.preset or "none",
            values=mapping.values,
            per=mapping.per,
            unit=mapping.unit,
            day=mapping.day,
            zeros=mapping.zeros,
            age_offset=mapping.age_offset,
            period=mapping.period,
            decimal=self.conventions.numbers.decimal,
            dates=self.conventions.dates.convention,
        )
        return table_format, columns

    def column_names(self, path: Path) -> dict[str, str]:
        """Return ltvnet's own name -> column of a file, for messages."""
        return own_names(self.table(path).columns, self.files[path].mapping)

    def attributes(self, path: Path) -> dict[str, str]:
        """Return the name -> column of the attributes of a long table: all text but for roles."""
        assert self.conventions is not None
        mapping = self.files[path].mapping
        roles = {*ROLES, AGE, VALUE}
        named = {role: column for role, column in mapping.column_of.items() if role not in roles}
        others = {
            name: name for name in self.conventions.text_columns[path] if name not in named.values()
        }
        return {**named, **others}

    def blocks(self, path: Path, rows: int) -> Iterator[CohortBlock]:
        """Read a file in blocks of at most `rows` rows of it, as ltvnet's own columns.

        A long table is one block of all its cohorts. Raises ValueError, which names the file, where
        it cannot be read.
        """
        if self.conventions is None:
            yield from self._plain_blocks(path, rows)
            return
        counts: Counter[str] = Counter()
        file = self.files[path]
        first_row = 0
        cohorts = 0
        if file.mapping.kind == "wide":
            for block in self._raw_blocks(path, rows):
                own_block = translate_wide(block, first_row, file, self.conventions, counts)
                yield own_block
                cohorts += len(own_block.table)
                first_row += len(block)
        else:
            table = LongTableReader(
                self.table(path), file, self.conventions, self.attributes(path), counts
            )
            for block in self._raw_blocks(path, LONG_BLOCK_ROWS):
                table.add(block, first_row)
                first_row += len(block)
            cohorts = int(table.has_cohorts)
            yield from table.finish()
        told = [f"{count:,} {text}" for text, count in counts.items() if count]
        summary = f"of {first_row:,} rows: {'; '.join(told)}"
        if not cohorts:
            raise ValueError(
                f"{path}: expected at least one cohort below the header, got {summary}"
            )
        if told:
            log.info("%s: %s", path, summary)

    def _plain_blocks(self, path: Path, rows: int) -> Iterator[CohortBlock]:
        """Read a file of ltvnet's own columns, whose cells are parsed later."""
        renamed = _renamed_roles(self.files[path].mapping)
        first_row = 0
        for block in self.table(path).blocks(rows):
            table = rename_columns(path, block, renamed)
            source_rows = np.arange(first_row, first_row + len(block))
            yield CohortBlock(table, source_rows, empty_fault_table())
            first_row += len(block)

    def table(self, path: Path) -> TableFile:
        """Return a file with what the user said of it."""
        return self.tables[path]

    def _raw_blocks(self, path: Path, rows: int) -> Iterator[pa.Table]:
        """Read a file in blocks, its columns as they are called there."""
        return self.table(path).blocks(rows)

    def _is_plain(self, path: Path) -> bool:
        """Return whether a file has ltvnet's own columns with plain numbers and ISO dates.

        Of a large file the first rows are tried.
        """
        file = self.files[path]
        if not (file.mapping.is_own_layout and self.table_format.says_nothing):
            return False
        if file.mapping.period:
            return False
        if path.stat().st_size > _PROBED_BYTES:
            return _has_plain_cells(self.table(path).head(), file)
        blocks = self.table(path).blocks(_PROBED_ROWS)
        return all(_has_plain_cells(block, file) for block in blocks)

    def _log_renamed(self) -> None:
        """Log which columns play a role under another name."""
        for path, file in self.files.items():
            renamed = {
                role: column
                for role, column in _renamed_roles(file.mapping).items()
                if role not in self.columns
            }
            if renamed:
                words = ", ".join(f"{role} = {column}" for role, column in renamed.items())
                log.info("%s: %s (else see data.columns)", path, words)


def _table_file(path: Path, table_format: TableFormat) -> TableFile:
    """Return a file with what the user said of it."""
    return TableFile(path, table_format.encoding, table_format.separator, table_format.sheet)


def _map_file(table: TableFile, mapper: ColumnMapper) -> MappedFile:
    """Find the roles of the columns of a file. Raises ValueError for purchases, which are none."""
    path = table.path
    with name_file(path):
        file = MappedFile(path, mapper.map(path, table.columns), table.cell_separator)
    shop = None if file.is_cohort_table else recognise_purchases(table.columns)
    if shop is not None:
        raise ValueError(
            f"{path}: expected a table of cohorts, got purchases as {shop} has them; data={shop} "
            f"reads them, and scripts/prepare.py data={shop} makes a table of cohorts"
        )
    return file


def _renamed_roles(mapping: ColumnMapping) -> dict[str, str]:
    """Return role -> column of those that are not called by their role."""
    return {role: column for role, column in mapping.column_of.items() if role != column}


def _has_plain_cells(block: pa.Table, file: MappedFile) -> bool:
    """Return whether all cells of numbers and dates of a block are plain."""
    names = [name for name in file.number_columns if is_text_type(block.column(name).type)]
    if names:
        _, faults = parse_numbers(block.select(names))
        if len(faults):
            return False
    if not file.date_columns:
        return True
    _, start, end = parse_dates(block.select(file.date_columns))
    return not (np.isnat(start) | np.isnat(end)).any()
