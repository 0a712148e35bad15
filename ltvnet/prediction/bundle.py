"""A trained forecaster as data files: what leaves the training machine.

A bundle is a folder of `manifest.json`, `state.json` and `arrays.safetensors`. It holds no
customer or cohort rows, no pickle and no class path, and is read only if every byte is as written.
One model is made of its history: the bundle of `neighbours` holds curves at nodes, without keys.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from ltvnet.correction.corrected import Corrected
from ltvnet.data.arrays import Floats
from ltvnet.data.curves import Curves, parse_day
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.forecasting.registry import forecaster_class
from ltvnet.storage import atomic_write

BUNDLE_FORMAT = 3
"""Raise it when what a forecaster's state holds changes: bundles of another are refused."""

DEVICES = ("cpu", "cuda")

MANIFEST_FILE, STATE_FILE, ARRAYS_FILE = "manifest.json", "state.json", "arrays.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A forecaster read from a bundle: `name` in the registry, `as_of` the day it was trained at.

    `identity` is the hash of all files, `manifest` everything said of the training.
    """

    forecaster: Predictor
    model_name: str
    as_of: np.datetime64
    identity: str
    manifest: Mapping[str, Any]

    def to(self, device: str) -> Self:
        """The same, its nets on "cpu" or "cuda". Raises ValueError for another, or if not there."""
        if device not in DEVICES:
            raise ValueError(f"expected device=cpu or cuda, got {device!r}")
        for model in _models(self.forecaster):
            if isinstance(model, DeviceMovable):
                model.to(device)
        return self


@runtime_checkable
class ReadsCovariates(Protocol):
    """A model that may read more than curves and attributes."""

    def extra_inputs(self) -> list[str]:
        """What it learned from beside them, such as "spend" or "series retention"."""
        ...


@runtime_checkable
class DeviceMovable(Protocol):
    """A model that can forecast on a GPU."""

    def to(self, device: str) -> None:
        """Forecast on "cpu" or "cuda" from now on. Raises ValueError where there is no GPU."""
        ...


def curves_fingerprint(curves: Curves) -> str:
    """SHA-256 of what was known: keys, users, spend, values, and further series by name."""
    digest = hashlib.sha256()
    digest.update(curves.index.to_frame(index=False).to_csv(index=False).encode())
    names = sorted(curves.series)
    digest.update(json.dumps(names).encode())
    further = (curves.series[name] for name in names)
    for array in (curves.users, curves.spend, curves.values, *further):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(
    folder: Path,
    name: str,
    forecaster: Predictor,
    curves: Curves,
    about: Mapping[str, Any],
) -> str:
    """Write a forecaster fitted on `curves`, `name` in the registry; returns its identity.

    `about` JSON values for the manifest: its config, its scores. The manifest is written last, so
    that a bundle that was cut off is refused on reading.
    """
    values, arrays = forecaster.state()
    contents = {
        STATE_FILE: _json(values),
        ARRAYS_FILE: save_arrays({key: np.ascontiguousarray(a) for key, a in arrays.items()}),
    }
    if folder.exists():
        shutil.rmtree(folder)
    for file, content in contents.items():
        with atomic_write(folder / file) as path:
            path.write_bytes(content)
    manifest = {
        "format": BUNDLE_FORMAT,
        "model": name,
        "as_of": str(curves.origin),
        "hierarchy": list(curves.hierarchy),
        "attributes": sorted(curves.attributes),
        "reads": _reads(forecaster),
        "users": _median(curves.users),
        "data": curves_fingerprint(curves),
        "config_hash": _sha256(_json(about.get("config", {}))),
        **about,
        "files": {file: _sha256(content) for file, content in contents.items()},
    }
    identity = _sha256(_json(manifest))
    with atomic_write(folder / MANIFEST_FILE) as path:
        path.write_bytes(_json({**manifest, "identity": identity}))
    return identity


def load(folder: str | Path) -> Bundle:
    """Read a bundle.

    Raises ValueError that names what is wrong: no bundle, another format, a file that is
    missing or was changed.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    contents = {}
    for file, expected in manifest["files"].items():
        if not (folder / file).exists():
            raise ValueError(f"{folder}: {file} is missing; copy the whole folder again")
        contents[file] = (folder / file).read_bytes()
        if _sha256(contents[file]) != expected:
            raise ValueError(
                f"{folder / file} is not as it was written (SHA-256 differs); copy the bundle "
                "again from where it was trained"
            )
    try:
        arrays = load_arrays(contents[ARRAYS_FILE])
    except SafetensorError as error:
        raise ValueError(f"{folder / ARRAYS_FILE} holds no arrays: {error}") from error
    forecaster = forecaster_class(manifest["model"]).from_state(
        json.loads(contents[STATE_FILE]), arrays
    )
    as_of = parse_day(manifest["as_of"])
    return Bundle(forecaster, manifest["model"], as_of, manifest["identity"], manifest)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise ValueError(
            f"{folder} is not a bundle: it has no {MANIFEST_FILE}. Give the folder named bundle that "
            "scripts/train.py wrote"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        identity = manifest.pop("identity")
        number = int(manifest["format"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy the bundle again") from error
    if number > BUNDLE_FORMAT:
        raise ValueError(
            f"{folder} was written by a newer ltvnet (bundle format {number}, this one reads "
            f"format {BUNDLE_FORMAT}): upgrade ltvnet"
        )
    if number < BUNDLE_FORMAT:
        raise ValueError(
            f"{folder} was written by an older ltvnet (bundle format {number}, this one reads "
            f"format {BUNDLE_FORMAT}): train anew with scripts/train.py"
        )
    if _sha256(_json(manifest)) != identity:
        raise ValueError(f"{path} is not as it was written; copy the bundle again")
    return {**manifest, "identity": identity}


def _reads(forecaster: Predictor) -> list[str]:
    models = _models(forecaster)
    return sorted(
        {
            name
            for model in models
            if isinstance(model, ReadsCovariates)
            for name in model.extra_inputs()
        }
    )


def _models(forecaster: Predictor) -> Sequence[Predictor]:
    return forecaster.models if isinstance(forecaster, Corrected) else [forecaster]


def _median(users: Floats) -> float | None:
    known = users[np.isfinite(users)]
    return float(np.median(known)) if len(known) else None


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
