"""Importers: tables in the dialects that people export, understood by one rule for all files.

- `encodings`, `text_files`: text with separators, every cell as it stands.
- `number_texts`: one text taken apart as a number: sign, currency, percent, groups of digits.
- `numbers`: columns of text to numbers, with one decimal sign for all cells of all files.
- `costs`: what advertising cost, joined to cohorts as their spend.
"""
