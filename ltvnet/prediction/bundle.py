"""A trained forecaster as data files: what leaves the training machine.

A bundle is a folder of `manifest.json`, `state.json` and `arrays.safetensors`. It holds no
customer or cohort rows, no pickle and no class path, and is read only if every byte is as written.
One model is made of its history: the bundle of `neighbours` holds curves at nodes, without keys.
"""

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
from ltvnet.data.fingerprints import Fingerprint
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.forecasting.registry import forecaster_class
from ltvnet.prediction.training_level import LEVEL_ENTRY, describe_training_level
from ltvnet.storage import atomic_write

BUNDLE_FORMAT = 3
"""Raise it when what a forecaster's state holds changes: bundles of another are refused."""

DEVICES = ("cpu", "cuda")

MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.json"
ARRAYS_FILE = "arrays.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A forecaster read from a bundle.

    `model_name` is its name in the registry, `as_of` the day it was trained at, `identity` the
    hash of all files, `manifest` everything said of the training.
    """

    forecaster: Predictor
    model_name: str
    as_of: np.datetime64
    identity: str
    manifest: Mapping[str, Any]

    def to(self, device: str) -> Self:
        """Move all nets to "cpu" or "cuda". Returns itself.

        Raises ValueError for another device, or where there is no GPU.
        """
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
        """Names of the data that it learned from, such as "spend" or "series retention"."""
        ...


@runtime_checkable
class DeviceMovable(Protocol):
    """A model that can forecast on a GPU."""

    def to(self, device: str) -> None:
        """Forecast on "cpu" or "cuda" from now on. Raises ValueError where there is no GPU."""
        ...


def curves_fingerprint(curves: Curves) -> str:
    """SHA-256 of what was known: keys, users, spend, values, and further series by name."""
    names = sorted(curves.series)
    fingerprint = Fingerprint().add_keys(curves.index).add_json(names)
    fingerprint.add_arrays(curves.users, curves.spend, curves.values)
    fingerprint.add_arrays(*(curves.series[name] for name in names))
    return fingerprint.hex()


def save(
    folder: Path,
    name: str,
    forecaster: Predictor,
    curves: Curves,
    about: Mapping[str, Any],
) -> str:
    """Write a forecaster fitted on `curves` as a bundle. Returns its identity.

    `name` is that of the registry, `about` holds JSON values for the manifest: the config, the
    scores. The manifest is written last, so that a bundle that was cut off is refused on reading.
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
        "reads": _extra_inputs(forecaster),
        "users": _median_users(curves.users),
        LEVEL_ENTRY: describe_training_level(curves),
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
    manifest = _read_manifest(folder)
    contents = {file: _read_file(folder, file, sha) for file, sha in manifest["files"].items()}
    try:
        arrays = load_arrays(contents[ARRAYS_FILE])
    except SafetensorError as error:
        raise ValueError(f"{folder / ARRAYS_FILE} holds no arrays: {error}") from error

    kind = forecaster_class(manifest["model"])
    forecaster = kind.from_state(json.loads(contents[STATE_FILE]), arrays)
    as_of = parse_day(manifest["as_of"])
    return Bundle(forecaster, manifest["model"], as_of, manifest["identity"], manifest)


def _read_file(folder: Path, file: str, expected_sha: str) -> bytes:
    """Read a file of a bundle. Raises ValueError where it is missing or was changed."""
    path = folder / file
    if not path.exists():
        raise ValueError(f"{folder}: {file} is missing; copy the whole folder again")
    content = path.read_bytes()
    if _sha256(content) != expected_sha:
        raise ValueError(
            f"{path} is not as it was written (SHA-256 differs); copy the bundle "
            "again from where it was trained"
        )
    return content


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest whose format is BUNDLE_FORMAT and whose hash is right."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise ValueError(
            f"{folder} is not a bundle: it has no {MANIFEST_FILE}. Give the folder named bundle "
            "that scripts/train.py wrote"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        identity = manifest.pop("identity")
        written_format = int(manifest["format"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy the bundle again") from error

    if written_format > BUNDLE_FORMAT:
        raise ValueError(
            f"{folder} was written by a newer ltvnet (bundle format {written_format}, this one "
            f"reads format {BUNDLE_FORMAT}): upgrade ltvnet"
        )
    if written_format < BUNDLE_FORMAT:
        raise ValueError(
            f"{folder} was written by an older ltvnet (bundle format {written_format}, this one "
            f"reads format {BUNDLE_FORMAT}): train anew with scripts/train.py"
        )
    if _sha256(_json(manifest)) != identity:
        raise ValueError(f"{path} is not as it was written; copy the bundle again")
    return {**manifest, "identity": identity}


def _extra_inputs(forecaster: Predictor) -> list[str]:
    """Names, sorted, of what the models of a forecaster read beside curves and attributes."""
    names: set[str] = set()
    for model in _models(forecaster):
        if isinstance(model, ReadsCovariates):
            names.update(model.extra_inputs())
    return sorted(names)


def _models(forecaster: Predictor) -> Sequence[Predictor]:
    """The models that a forecaster is the mean of, or the one that it is."""
    return forecaster.models if isinstance(forecaster, Corrected) else [forecaster]


def _median_users(users: Floats) -> float | None:
    known_users = users[np.isfinite(users)]
    return float(np.median(known_users)) if len(known_users) else None


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode()


def _sha256(content: bytes) -> str:
    return Fingerprint().add_bytes(content).hex()
