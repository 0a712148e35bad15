"""A bundle is the forecaster, whole and unchanged, or it is refused by name."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.cohorts import weekly_history
from factories.configs import PATTERN
from factories.models import make_forecaster
from factories.neural import make_neural

from ltvnet.data.curves import Curves
from ltvnet.forecasting.forecaster import Forecaster
from ltvnet.prediction.bundle import BUNDLE_FORMAT, curves_fingerprint, load, save

ABOUT: dict[str, object] = {"scores": []}


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(60).as_of("2024-02-29")


@pytest.fixture(scope="module")
def forecasters(curves: Curves) -> dict[str, Forecaster]:
    return {"pattern": make_forecaster(PATTERN).fit(curves), "neural": make_neural().fit(curves)}


@pytest.fixture
def pattern_bundle(tmp_path: Path, forecasters: dict[str, Forecaster], curves: Curves) -> Path:
    save(tmp_path / "bundle", "pattern", forecasters["pattern"], curves, ABOUT)
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", ["pattern", "neural"])
def test_loaded_forecasts_are_bit_equal(
    name: str, tmp_path: Path, forecasters: dict[str, Forecaster], curves: Curves
) -> None:
    identity = save(tmp_path / "bundle", name, forecasters[name], curves, ABOUT)
    shutil.move(tmp_path / "bundle", tmp_path / "elsewhere")  # a bundle is relocatable
    loaded = load(tmp_path / "elsewhere")
    assert (loaded.identity, loaded.model_name, str(loaded.as_of)) == (identity, name, "2024-02-29")
    forecast, loaded_forecast = (
        f.predict(curves).final for f in (forecasters[name], loaded.forecaster)
    )
    np.testing.assert_array_equal(forecast.mean, loaded_forecast.mean)
    np.testing.assert_array_equal(forecast.p90, loaded_forecast.p90)


def test_equal_forecasters_have_equal_identity(
    tmp_path: Path, forecasters: dict[str, Forecaster], curves: Curves
) -> None:
    first = save(tmp_path / "a", "pattern", forecasters["pattern"], curves, ABOUT)
    second = save(tmp_path / "b", "pattern", forecasters["pattern"], curves, ABOUT)
    with_scores = save(tmp_path / "c", "pattern", forecasters["pattern"], curves, {"scores": [1]})
    assert first == second != with_scores


def test_a_bundle_holds_no_cohort_and_no_code(pattern_bundle: Path, curves: Curves) -> None:
    text = (pattern_bundle / "state.json").read_text() + (
        pattern_bundle / "manifest.json"
    ).read_text()
    assert not any(date in text for date in {*map(str, curves.start), *map(str, curves.end)})
    assert "ltvnet." not in text  # no class path
    assert sorted(path.name for path in pattern_bundle.iterdir()) == [
        "arrays.safetensors",
        "manifest.json",
        "state.json",
    ]


@pytest.mark.parametrize("file", ["state.json", "arrays.safetensors"])
def test_one_byte_changed_is_named(pattern_bundle: Path, file: str) -> None:
    content = bytearray((pattern_bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (pattern_bundle / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} is not as it was written \(SHA-256 differs\)"):
        load(pattern_bundle)


def test_one_byte_changed_in_the_manifest_is_named(pattern_bundle: Path) -> None:
    text = (pattern_bundle / "manifest.json").read_text()
    (pattern_bundle / "manifest.json").write_text(text.replace("2024-02-29", "2024-02-28"))
    with pytest.raises(ValueError, match=r"manifest.json is not as it was written"):
        load(pattern_bundle)
    (pattern_bundle / "manifest.json").write_text(text[:-2])
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        load(pattern_bundle)


def test_a_newer_format_asks_for_an_upgrade(pattern_bundle: Path) -> None:
    manifest = json.loads((pattern_bundle / "manifest.json").read_text())
    (pattern_bundle / "manifest.json").write_text(
        json.dumps(manifest | {"format": BUNDLE_FORMAT + 1})
    )
    newer, own = BUNDLE_FORMAT + 1, BUNDLE_FORMAT
    message = rf"newer ltvnet \(bundle format {newer}, .* reads format {own}\): upgrade"
    with pytest.raises(ValueError, match=message):
        load(pattern_bundle)


def test_an_older_format_asks_to_train_anew(pattern_bundle: Path) -> None:
    """Whatever else is in it: the bundles that the first release wrote had format 1."""
    (pattern_bundle / "state.json").write_text("{}")
    manifest = json.loads((pattern_bundle / "manifest.json").read_text())
    (pattern_bundle / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    message = (
        rf"older ltvnet \(bundle format 1, this one reads format {BUNDLE_FORMAT}\): train anew"
    )
    with pytest.raises(ValueError, match=message):
        load(pattern_bundle)


def test_a_missing_file_and_no_bundle_are_named(pattern_bundle: Path, tmp_path: Path) -> None:
    (pattern_bundle / "arrays.safetensors").unlink()
    with pytest.raises(ValueError, match=r"arrays.safetensors is missing"):
        load(pattern_bundle)
    with pytest.raises(ValueError, match=r"is not a bundle: it has no manifest.json"):
        load(tmp_path)


def test_pickled_code_is_never_run(pattern_bundle: Path, tmp_path: Path) -> None:
    """A forged bundle whose hashes agree holds a pickle where arrays should be."""
    harm = tmp_path / "harm"

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(harm),)

    def as_json(values: object) -> bytes:
        return json.dumps(values, indent=1, allow_nan=False).encode()

    forged = pickle.dumps(Harmful())
    (pattern_bundle / "arrays.safetensors").write_bytes(forged)
    manifest = json.loads((pattern_bundle / "manifest.json").read_text())
    del manifest["identity"]
    manifest["files"]["arrays.safetensors"] = hashlib.sha256(forged).hexdigest()
    identity = hashlib.sha256(as_json(manifest)).hexdigest()
    forged_manifest = as_json(manifest | {"identity": identity})
    (pattern_bundle / "manifest.json").write_bytes(forged_manifest)
    with pytest.raises(ValueError, match=r"arrays.safetensors holds no arrays"):
        load(pattern_bundle)
    assert not harm.exists()


def test_a_fingerprint_changes_with_any_value(curves: Curves) -> None:
    assert curves_fingerprint(curves) == curves_fingerprint(weekly_history(60).as_of("2024-02-29"))
    assert curves_fingerprint(curves) != curves_fingerprint(curves.cut(50))
    spent = replace(curves, spend=np.ones(len(curves)))
    with_series, with_other_name = (
        replace(curves, series={n: 0.5 * curves.values}) for n in ("kept", "other")
    )
    cut = replace(curves, series={"kept": 0.5 * curves.cut(50).values})
    two_series = replace(with_series, series={**with_series.series, **with_other_name.series})
    again = replace(with_series, series={**with_other_name.series, **with_series.series})
    assert curves_fingerprint(two_series) == curves_fingerprint(again)
    assert (
        len(
            {
                curves_fingerprint(curves_variant)
                for curves_variant in (curves, spent, with_series, with_other_name, cut, two_series)
            }
        )
        == 6
    )
    assert len(curves_fingerprint(curves.take(np.arange(0)))) == 64


def test_predicting_needs_no_training_library(
    tmp_path: Path, forecasters: dict[str, Forecaster], curves: Curves
) -> None:
    save(tmp_path / "bundle", "neural", forecasters["neural"], curves, ABOUT)
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from factories.cohorts import weekly_history\n"
        "from ltvnet.prediction import bundle\n"
        f"loaded = bundle.load({str(tmp_path / 'bundle')!r})\n"
        "forecast = loaded.forecaster.predict(weekly_history(60).as_of('2024-02-29'))\n"
        "assert forecast.final.mean.shape == (120, 21)\n"
        "heavy = {'pytorch_lightning', 'hydra', 'optuna', 'tensorboard', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_device_that_is_not_there_is_told(
    tmp_path: Path, forecasters: dict[str, Forecaster], curves: Curves
) -> None:
    save(tmp_path / "bundle", "neural", forecasters["neural"], curves, ABOUT)
    loaded = load(tmp_path / "bundle")
    assert loaded.to("cpu") is loaded
    with pytest.raises(ValueError, match="expected device=cpu or cuda, got 'tpu'"):
        loaded.to("tpu")
    if torch.cuda.is_available():
        loaded.to("cuda")
        there, here = loaded.forecaster.predict(curves), forecasters["neural"].predict(curves)
        np.testing.assert_allclose(there.final.mean, here.final.mean, rtol=1e-3)
    else:
        with pytest.raises(ValueError, match="device=cuda needs a GPU, and none is at hand"):
            loaded.to("cuda")
