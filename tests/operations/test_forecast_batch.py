"""A bundle applied to a source: which cohorts are forecast, as of which day, and to what."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from factories.cohorts import identical_weekly_history
from factories.configs import CHAIN_LADDER
from factories.models import make_forecaster
from factories.sources import MemorySource

from ltvnet.data.curves import Curves
from ltvnet.operations.forecast_batch import ForecastOptions, forecast_batch
from ltvnet.prediction import bundle
from ltvnet.prediction.batch import OutputOptions
from ltvnet.prediction.spark import SparkCluster
from ltvnet.reports.findings import Verdict

DAY = "2024-02-25"
"""The last day of the 60th week of acquisition."""

DATA = identical_weekly_history(70)
"""Every cohort of ten users has earned sqrt(1 + age) by each age."""

OPTIONS = ForecastOptions(
    as_of=DAY,
    rows=20,
    threads=torch.get_num_threads(),
    device="cpu",
    engine="local",
    cluster=SparkCluster(master=None, conf=None, out=None),
    tables=OutputOptions(wide=None, ages=[90, 360], by=None),
)


class StreamSource(MemorySource):
    """Cohorts in memory, handed out piece by piece as known on DAY; notes the size of pieces."""

    def curves(self, rows: int) -> Iterator[Curves]:
        self.rows = rows
        known = self.data.as_of(DAY)
        for first in range(0, len(known), rows):
            yield known.take(np.arange(first, min(first + rows, len(known))))


@pytest.fixture(scope="module")
def ladder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder") / "bundle"
    curves = DATA.as_of(DAY)
    bundle.save(folder, "pattern", make_forecaster(CHAIN_LADDER).fit(curves), curves, {})
    return folder


def test_the_cohorts_known_on_the_day_are_forecast(ladder_bundle: Path, tmp_path: Path) -> None:
    summary = forecast_batch(ladder_bundle, MemorySource(DATA), OPTIONS, tmp_path)
    assert summary.reasons.total() == 60
    text = summary.as_text()
    assert text.startswith("60 cohorts in ") and text.endswith(f"\n{summary.corrected}")
    assert "nothing corrected" in summary.corrected and "bounds" not in summary.corrected

    table = pd.read_parquet(tmp_path / "forecasts.parquet")
    np.testing.assert_allclose(table["mean"], np.sqrt(1.0 + table["age"]), rtol=1e-6)
    assert table.groupby("age").size().to_dict() == {90: 13, 360: 52}
    assert (table["age"] > table["observed_age"]).all()


def test_without_a_day_a_source_is_forecast_as_of_its_own(
    ladder_bundle: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, as_of=None)
    summary = forecast_batch(ladder_bundle, MemorySource(DATA.until(DAY)), options, tmp_path / "a")
    assert summary.reasons.total() == 60

    stream = StreamSource(DATA)
    in_pieces = forecast_batch(ladder_bundle, stream, options, tmp_path / "b")
    assert stream.rows == 20 and in_pieces.reasons == summary.reasons
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "a" / "forecasts.parquet"),
        pd.read_parquet(tmp_path / "b" / "forecasts.parquet"),
    )


def test_the_verdict_on_the_model_is_repeated_beside_its_forecasts(tmp_path: Path) -> None:
    verdict = Verdict("red", "Do not rely on it.", "Far too high.", "It was off by 44 %.")
    curves = DATA.as_of(DAY)
    model = make_forecaster(CHAIN_LADDER).fit(curves)
    about = {"title": "ladder", "verdict": verdict.as_entry(), "reach": 358}
    bundle.save(tmp_path / "bundle", "pattern", model, curves, about)

    for source, options in (
        (MemorySource(DATA), OPTIONS),
        (StreamSource(DATA), replace(OPTIONS, as_of=None)),
    ):
        summary = forecast_batch(tmp_path / "bundle", source, options, tmp_path / "out")
        assert summary.as_text().endswith(
            f"\nverdict on ladder, trained as of {DAY}: Do not rely on it. Far too high. It was "
            "off by 44 %."
        )
        written = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert Verdict.from_entry(written["verdict"]) == verdict
        assert (written["as_of"], written["reach"], written["cohorts"]) == (DAY, 358, 60)
        assert sum(written["reasons"].values()) == 60


def test_a_bundle_without_a_verdict_is_silent_about_it(ladder_bundle: Path, tmp_path: Path) -> None:
    """As those of earlier versions are."""
    summary = forecast_batch(ladder_bundle, MemorySource(DATA), OPTIONS, tmp_path)
    assert summary.verdict is None and "verdict" not in summary.as_text()
    assert json.loads((tmp_path / "summary.json").read_text())["verdict"] is None


def test_what_spark_cannot_do_is_refused(ladder_bundle: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, engine="spark")
    with pytest.raises(ValueError, match="engine=spark reads a table of one day"):
        forecast_batch(ladder_bundle, MemorySource(DATA), options, tmp_path)
