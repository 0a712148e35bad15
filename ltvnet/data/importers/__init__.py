"""Importers: tables in the dialects that people export, understood by one rule for all files.

- `encodings`, `text_files`: text with separators, every cell as it stands.
- `number_texts`: one text taken apart as a number: sign, currency, percent, groups of digits.
- `numbers`: columns of text to numbers, with one decimal sign for all cells of all files.
- `date_texts`: one text, and the days that it means with day, month or year first.
- `dates`: columns of text to days, with one convention for all texts of all files.
- `text_kinds`: cells by kind, of which names tell cohorts apart.
- `workbooks`: sheets of Excel.
- `extension_columns`: types of pandas in Parquet files.
- `table_format`: what the user says of a table, and presets of platforms.
- `headings`: what the names of columns say of ages and money.
- `column_mapping`: which columns play which role.
- `conventions`: how numbers and dates of all files are written.
- `money_per`: whether a curve is per user or of the whole cohort.
- `cohort_blocks`, `long_tables`: rows of wide and of long tables as ltvnet's own.
- `cohort_reader`: all of it for the files of one source.
- `purchase_presets`: purchases in the layouts of shops.
- `costs`, `cost_files`: what advertising cost, joined to cohorts as their spend.
"""
