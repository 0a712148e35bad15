"""Values as words of a command line have them: in the grammar of Hydra."""

import re
from collections.abc import Mapping
from typing import Any

_PLAIN_TEXT = re.compile(
    r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_./-]*", re.IGNORECASE | re.ASCII
)
"""Texts that mean themselves on a command line, and not a number, a truth or nothing."""


def override_text(value: Any) -> str:  # noqa: ANN401 any value of a config
    """Return a value as an override of the command line has it: null, true, [8], 'a b'."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {override_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, str) and not _PLAIN_TEXT.fullmatch(value):
        return quote_text(value)
    return str(value)


def quote_text(text: str) -> str:
    """Return a text in quotes, as Hydra reads it."""

    def escape_quote(match: re.Match[str]) -> str:
        # Hydra takes a backslash for one unless a quote follows, be it the last one
        backslashes, quote = match[1], match[2]
        return 2 * backslashes + ("\\'" if quote else "")

    inside = re.sub(r"(\\*)('|\Z)", escape_quote, text)
    return f"'{inside}'"
