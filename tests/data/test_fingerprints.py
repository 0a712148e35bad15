"""Fingerprints are SHA-256 of known bytes, and change with the data."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.cohorts import weekly_history

from ltvnet.data import fingerprints
from ltvnet.data.fingerprints import Fingerprint, file_fingerprint


def test_a_fingerprint_is_the_sha256_of_the_bytes_in_order() -> None:
    # the test vector of FIPS 180-2 for "abc"
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert Fingerprint().add_text("ab").add_bytes(b"c").hex() == expected
    assert Fingerprint().add_text("abc").hex(12) == expected[:12]
    assert Fingerprint().hex() == hashlib.sha256().hexdigest()


def test_json_is_added_as_python_writes_it() -> None:
    value = {"b": [1, 2.5, None], "a": "한국"}
    for sort_keys in (False, True):
        text = json.dumps(value, sort_keys=sort_keys)
        made = Fingerprint().add_json(value, sort_keys=sort_keys)
        assert made.hex() == hashlib.sha256(text.encode()).hexdigest()
    paths = Fingerprint().add_json([Path("a")], default=str)
    assert paths.hex() == hashlib.sha256(b'["a"]').hexdigest()
    with pytest.raises(TypeError, match="not JSON serializable"):
        Fingerprint().add_json([Path("a")])


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.0, np.nan]),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::3],
        np.array(["2025-01-06", "NaT"], "datetime64[D]"),
        np.array([True, False]),
        np.empty((0, 361)),
        np.array(2.0),
    ],
)
def test_arrays_are_added_in_c_order(array: np.ndarray) -> None:
    expected = hashlib.sha256(array.tobytes()).hexdigest()
    assert Fingerprint().add_arrays(array).hex() == expected
    twice = hashlib.sha256(array.tobytes() * 2).hexdigest()
    assert Fingerprint().add_arrays(array, array).hex() == twice


def test_keys_are_added_as_a_table() -> None:
    curves = weekly_history(2).as_of("2024-02-29")
    lines = ["start,end,Apps"]
    for week in ("2023-01-02,2023-01-08", "2023-01-09,2023-01-15"):
        lines += [f"{week},a", f"{week},b"]
    text = "\n".join(lines) + "\n"
    assert Fingerprint().add_keys(curves.index).hex() == Fingerprint().add_text(text).hex()
    assert isinstance(curves.index, pd.MultiIndex)


def test_a_file_is_its_name_and_content(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\n1,2\n")
    expected = hashlib.sha256(b"a.csv" + b"x,y\n1,2\n").hexdigest()
    assert file_fingerprint(path) == expected
    assert file_fingerprint(path.rename(tmp_path / "b.csv")) != expected


def test_of_a_large_file_its_ends_its_size_and_its_time_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_SMALL_FILE", 8)
    monkeypatch.setattr(fingerprints, "_FILE_END", 3)
    path = tmp_path / "a.csv"
    path.write_bytes(b"012345678")
    os.utime(path, ns=(5, 5))
    assert file_fingerprint(path) == hashlib.sha256(b"a.csv9 5012678").hexdigest()
