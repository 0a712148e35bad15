"""Fingerprints: SHA-256 over texts, cohort keys, arrays and files, to tell whether data changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_SMALL_FILE = 1 << 26  # bytes of a file up to which each of them enters its fingerprint
_FILE_END = 1 << 20  # bytes at either end that enter the fingerprint of a larger one


class Fingerprint:
    """SHA-256 of everything added, in order; two are equal where the added bytes are.

    Only bytes count: neither the shape nor the type of an array enters. Each `add_` method
    returns the fingerprint itself, so that calls can be chained.

    >>> Fingerprint().add_text("ab").hex(8) == Fingerprint().add_text("a").add_text("b").hex(8)
    True
    """

    def __init__(self) -> None:
        """Start with nothing added."""
        self._digest = hashlib.sha256()

    def add_bytes(self, content: bytes) -> Self:
        """Add bytes as they are."""
        self._digest.update(content)
        return self

    def add_text(self, text: str) -> Self:
        """Add a text, encoded as UTF-8."""
        return self.add_bytes(text.encode())

    def add_json(
        self,
        value: object,
        *,
        sort_keys: bool = False,
        default: Callable[[Any], Any] | None = None,
    ) -> Self:
        """Add a value as JSON; `default` turns an object that JSON does not know into one."""
        return self.add_text(json.dumps(value, sort_keys=sort_keys, default=default))

    def add_keys(self, index: pd.MultiIndex) -> Self:
        """Add cohort keys, a row each, with the names of their columns."""
        return self.add_text(index.to_frame(index=False).to_csv(index=False))

    def add_arrays(self, *arrays: NDArray[Any]) -> Self:
        """Add the cells of arrays in C order, without their shapes and types."""
        for array in arrays:
            # as unsigned bytes, because dates have no buffer of their own
            self._digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return self

    def hex(self, length: int = 64) -> str:
        """Return the first `length` hexadecimal digits of the hash."""
        return self._digest.hexdigest()[:length]


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's name and content in hexadecimal digits.

    Up to 64 MiB every byte enters; of a larger file its size, its time of modification, and
    its first and last MiB.
    """
    fingerprint = Fingerprint().add_text(path.name)
    status = path.stat()

    with path.open("rb") as file:
        if status.st_size <= _SMALL_FILE:
            fingerprint.add_bytes(file.read())
        else:
            fingerprint.add_text(f"{status.st_size} {status.st_mtime_ns}")
            fingerprint.add_bytes(file.read(_FILE_END))
            file.seek(-_FILE_END, 2)
            fingerprint.add_bytes(file.read())
    return fingerprint.hex()
