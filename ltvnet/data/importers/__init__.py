"""Importers: tables in the dialects that people export, understood by one rule for all files.

- `encodings`, `text_files`: text with separators, every cell as it stands.
- `number_texts`: one text taken apart as a number: sign, currency, percent, groups of digits.
- `numbers`: columns of text to numbers, with one decimal sign for all cells of all files.
- `date_texts`: one text taken apart as a date.
- `dates`: columns of text to days, with one order of day, month and year for all files.
- `workbooks`: sheets of Excel.
- `table_format`: what the user says of a table, and presets of platforms.
- `column_mapping`: which columns play which role.
- `conventions`: how numbers and dates of all files are written.
- `cohort_blocks`, `long_tables`: rows of wide and of long tables as ltvnet's own.
- `cohort_reader`: all of it for the files of one source.
- `costs`: what advertising cost, joined to cohorts as their spend.
"""
