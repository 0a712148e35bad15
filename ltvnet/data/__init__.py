"""Cohort data: read, checked, cut in time. Everything above works on `Curves` and `History`.

Every subpackage may import this one; it imports nothing of ltvnet but `storage`.

- `arrays`: types of arrays, blocks of rows, text columns as integer codes.
- `curves`: `Curves` and `History`, the nodes and horizons, and every cut in time.
- `exported_ages`: curves that were exported at some ages alone, such as milestones.
- `segments`: segments of a hierarchy of attributes, stacked over all levels.
- `fingerprints`: hashes that tell whether data changed.
- `columns`, `table_files`, `cohort_rows`, `checks`, `parsed_blocks`, `cohort_tables`: cohort tables
  on disk, from the names of columns to `Files`, which reads a file or a folder of snapshots.
- `importers`: a folder of its own for tables that are not written as ltvnet's own are.
- `output_columns`: names of the columns of ltvnet's own tables, and of attributes beside them.
- `overview`: all that is said of a history before a model sees it.
- `findings`, `history_checks`: odd things in data, told with a way out, and all checks for them:
  `vintages`, `lost_cohorts`, `replaced_cohorts`, `restated_amounts` (the newest snapshot beside
  those before),
  `levels`, `level_checks` (currency and unit), `padding` (cells filled in), `acquisition_dates`,
  `amount_checks` (users, spend), `attribute_choice` (columns of text that are no attributes).
- `purchases`, `transactions`: purchases of single customers, prepared as cohorts by DuckDB. Below
  them `purchase_files`, `purchase_fields`, `purchase_cells` read CSV and Parquet without guessing,
  `line_outcomes`, `doubtful_lines`, `believed_lines` say what becomes of every line, `customer_ids`
  and `cohort_members` who is who.
- `frames`: `read`, for Python, which takes data frames too.
- `simulation`: a portfolio of cohorts whose expected curves are known.
- `source`: the protocol that all of these sources satisfy; `row_counts`: how long a table is.

A cohort table (CSV, CSV.gz, Parquet, xlsx) of ltvnet's own has a row for each cohort. Its columns,
in any order:

- `Date`: first and last day of acquisition, `YYYY-MM-DD~YYYY-MM-DD`, or the only day; in its place
  `cohort_start` and `cohort_end` are read.
- `day_0`, `day_1` ... `day_360`: cumulative revenue per acquired user up to and including that day
  after acquisition, at every age or at some, such as 0 1 3 7 14 30; empty where an age is not
  complete yet, 0 where nothing was earned.
- `Users`: acquired users; without this column each cohort counts as one.
- `Spend`: cost of the acquisition, in the currency of the revenue.
- `NAME_day_0`, `NAME_day_1` ...: a further series, such as `Retention_day_7`, at any ages.
- Others: attributes, such as `Apps`, `Campaign` or `OS`, where they hold text. Other numbers are
  not used unless `data.attributes` names them.

An age is complete at the end of the last day of acquisition + the age (+ `lag_days`). In a folder,
each file is a snapshot, named by the day on which it was exported: rows of one cohort in several
snapshots are vintages of one curve. `Files` says how columns are renamed and what is checked.
"""
