"""Text cells by kind: numbers and dates in any dialect, and names, which tell cohorts apart."""

from collections.abc import Iterable

from ltvnet.data.importers.date_texts import read_date
from ltvnet.data.importers.numbers import looks_numeric


def is_name(text: str) -> bool:
    """Return whether a text is neither empty, nor a number, nor a date.

    >>> is_name("spring 2025"), is_name("35.5%"), is_name("6 Jan 2025"), is_name(" ")
    (True, False, False, False)
    """
    return bool(text.strip()) and not looks_numeric([text])[0] and not read_date(text)


def has_name(texts: Iterable[str]) -> bool:
    """Return whether any text is a name."""
    return any(map(is_name, texts))
