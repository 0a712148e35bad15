"""What a run says of itself, in derivable numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohorts import curve, history
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_neural import PATTERN

from ltvnet import metrics
from ltvnet.curves import History
from ltvnet.forecasting import Band
from ltvnet.pattern import Pattern
from ltvnet.report import Outcome, as_text, outcome, score, write_run


def test_wape_and_bias_are_ratios_of_weighted_sums() -> None:
    actual, forecast = np.array([1.0, 2.0, np.nan]), np.array([2.0, 1.0, 5.0])
    weight = np.array([1.0, 3.0, 9.0])
    assert metrics.wape(actual, forecast, weight) == pytest.approx((1 + 3) / (1 + 6))
    assert metrics.bias(actual, forecast, weight) == pytest.approx((1 - 3) / (1 + 6))
    nothing = np.array([np.nan])
    assert np.isnan(metrics.wape(nothing, nothing, nothing))


def known() -> History:
    days = [np.datetime64("2023-01-02") + 7 * week for week in range(70)]
    return history([(str(d), str(d + 6), {}, 10.0, curve(360)) for d in days])


@pytest.fixture
def pattern() -> Pattern:
    made = Pattern(**{key: value for key, value in PATTERN.items() if key != "name"})
    return made.fit(known().as_of("2024-02-29"))


def halved(found: Outcome) -> Outcome:
    """A model that says half of what came true, and an oracle that says it."""
    half = found.actual / 2
    band = Band(half, half, half, half)
    return replace(
        found, forecast=replace(found.forecast, raw=band, final=band), oracle=found.actual
    )


def test_scores_are_by_observed_age_and_horizon(pattern: Pattern) -> None:
    curves = known().as_of("2024-02-29")
    scores = halved(outcome(pattern, known(), curves, None)).scores()
    np.testing.assert_allclose(scores["wape_model"], 0.5)
    np.testing.assert_allclose(scores["bias_model"], -0.5)
    np.testing.assert_allclose(scores["wape_oracle"], 0.0)
    np.testing.assert_allclose(scores["wape_pattern"], 0.0, atol=1e-9)  # curves are proportional
    first = scores.iloc[0]
    # cohorts at 4 and 11 days: one in [3, 7), one in [7, 14)
    assert (first.observed_age, first.horizon, first.n) == ("3-6", 30, 1)
    assert score(scores, "model") == pytest.approx(0.5)
    text = as_text(scores, curves.origin, known().last_day)
    assert "50.0%" in text and "-50.0%" in text and "score (mean WAPE" in text


def test_nothing_matured_is_said(pattern: Pattern) -> None:
    curves = known().as_of("2024-02-29")
    now = known().until("2024-02-29")
    scores = outcome(pattern, now, curves, None).scores()
    assert scores.empty and score(scores, "model") is None
    assert "No cell has matured after 2024-02-29" in as_text(scores, curves.origin, now.last_day)


def test_a_run_writes_metrics_figure_and_hyperparameters(pattern: Pattern, tmp_path: Path) -> None:
    curves = known().as_of("2024-02-29")
    found = outcome(pattern, known(), curves, None)
    scores = write_run(tmp_path, found, pattern, known(), {"name": "pattern", "sizes": [1, 2]})
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert saved["score"]["model"] == pytest.approx(score(scores, "model"))
    assert len(saved["cells"]) == len(scores) and saved["cells"][0]["n"] == 1
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["forecasts/six cohorts"]
    assert "score/model" in events.Tags()["scalars"]
    assert "_hparams_/experiment" in events.PluginTagToContent("hparams")
