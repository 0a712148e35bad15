"""Exports of other tools, whatever their dialect, as tables of cohorts or lines of text.

- `encodings`, `text_files`: text with separators, every cell as it stands.
"""
