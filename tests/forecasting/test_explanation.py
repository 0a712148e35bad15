"""A forecast taken apart: parts that add up, that can be derived, and that are told in words."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from factories.cohorts import curve, history, weekly_history
from factories.configs import CHAIN_LADDER, LSTM, PATTERN, arguments_of, corrected_config
from factories.forecasts import fit_as_of, linear_forecast
from factories.models import make_corrected, make_forecaster
from factories.records import SUNDAYS, forecast_off_by, two_campaigns

from ltvnet.correction.corrected import Corrected
from ltvnet.correction.correction import Correction
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.explanation import TERMS, Explanation, example_cohorts, explain
from ltvnet.forecasting.forecast import observed_or_forecast
from ltvnet.forecasting.forecaster import Predictor
from ltvnet.models.neural.forecaster import NeuralForecaster
from ltvnet.models.pattern.calendar_effects import Calendar
from ltvnet.models.pattern.date_effects import DateEffects, Trend
from ltvnet.models.pattern.pattern import Pattern
from ltvnet.prediction import bundle
from ltvnet.prediction.bundle import Bundle

DAY = np.datetime64("2024-02-29")
NEIGHBOURS = {"name": "neighbours", "count": 10, "pattern": PATTERN}
ALL_ALIKE: dict[str, Any] = {**PATTERN, "calendar": False, "trend": False, "min_cohorts": 1}
MODELS: dict[str, Any] = {
    "pattern": PATTERN,
    "chain_ladder": CHAIN_LADDER,
    "lstm": LSTM,
    "neighbours": NEIGHBOURS,
    "corrected": corrected_config(CHAIN_LADDER, 4, 8),
    "best": corrected_config({"name": "best", "bases": {"lstm": LSTM, "pattern": PATTERN}}, 26, 1),
    "best, one whole": corrected_config(
        {"name": "best", "bases": {"lstm": LSTM, "pattern": PATTERN, "near": NEIGHBOURS}}, 26, 1
    ),
}


@pytest.fixture(scope="module")
def curves() -> Curves:
    return weekly_history(75, noise=0.3).as_of(DAY)


@pytest.fixture(scope="module")
def models() -> dict[str, Predictor]:
    return {
        name: fit_as_of(config, weekly_history(75, noise=0.3), DAY)
        for name, config in MODELS.items()
    }


def explanation_of(model: Predictor, curves: Curves) -> Explanation:
    return explain(model, model.predict(curves, NODES))


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_add_up(name: str, models: dict[str, Predictor], curves: Curves) -> None:
    explanation = explanation_of(models[name], curves)
    has_begun = curves.observed_age >= 0
    assert has_begun.any() and not has_begun.all() and explanation.horizon == 360
    total = explanation.segment_mean + explanation.terms.sum(axis=1)
    np.testing.assert_allclose(total[has_begun], explanation.forecast[has_begun], rtol=1e-9)
    final = models[name].predict(curves, NODES).final.mean[:, -1]
    np.testing.assert_array_equal(
        explanation.forecast[has_begun], observed_or_forecast(curves, 360, final)[has_begun]
    )
    assert np.isfinite(explanation.terms[has_begun]).all()
    for cells in (explanation.segment_mean, explanation.terms, explanation.forecast):
        assert np.isnan(cells[~has_begun]).all()


def test_terms_are_those_of_the_model(models: dict[str, Predictor], curves: Curves) -> None:
    """Each kind of model has terms of its own beside its segment."""
    has = {
        name: {
            term
            for term, cells in zip(TERMS, explanation_of(model, curves).terms.T, strict=True)
            if np.nanmax(np.abs(cells)) > 0
        }
        for name, model in models.items()
    }
    assert has["pattern"] == {"level", "calendar"}
    assert has["chain_ladder"] == {"level"}
    assert has["lstm"] == {"level", "calendar", "growth", "attributes"}
    assert has["neighbours"] == {"level", "calendar", "growth"}
    assert has["corrected"] == {"level", "correction"}
    assert {"level", "calendar", "growth", "attributes"} <= has["best"]
    assert "growth" in has["best, one whole"] and "attributes" not in has["best, one whole"]


def test_what_is_observed_is_explained_too(curves: Curves) -> None:
    """Of a complete cohort nothing is forecast: its level is all there is beside its dates."""
    model = Pattern(**arguments_of(PATTERN)).fit(curves)
    explanation = explanation_of(model, curves)
    is_complete = curves.observed_age == 360
    assert is_complete.any()
    np.testing.assert_array_equal(
        explanation.forecast[is_complete], curves.values[is_complete, 360]
    )
    alike = model.fitted_pattern.date_effects.remove_from(curves).values[is_complete, 360]
    np.testing.assert_allclose(
        explanation.segment_mean[is_complete] + explanation.terms[is_complete, 0], alike, rtol=1e-12
    )
    assert "observed, is" in explanation.sentences()[is_complete][0]


def proportional_curves(*levels: float) -> Curves:
    """Weekly cohorts of one shape, 100 users each: the last D6 old, the one before it D13 ..."""
    days = [DAY - np.timedelta64(6 + 7 * back, "D") for back in range(len(levels))]
    rows = [
        (str(day), str(day), {}, 100.0, curve(360, level))
        for day, level in zip(days, levels, strict=True)
    ]
    return history(rows).as_of(DAY)


def test_a_cohort_exactly_like_its_segment_has_no_level() -> None:
    curves = proportional_curves(*[2.0] * 60)
    explanation = explanation_of(Pattern(**arguments_of(ALL_ALIKE)).fit(curves), curves)
    np.testing.assert_allclose(explanation.segment_mean, 2 * 361**0.5, rtol=1e-12)
    np.testing.assert_allclose(explanation.terms, 0.0, atol=1e-12)
    assert explanation.sentences()[-1] == "D360 of 38.00 is about the 38.00 of all cohorts"


def test_parts_by_hand() -> None:
    """Twice its segment's level, 6 days old, kappa 1: with sqrt(1 + a) as the shape.

    The segment has A = 19 by D360 and unit 100 x sqrt(8), so K = unit. The cohort has
    y(6) = 2 x sqrt(7) beside sqrt(7) expected: A_n = 19 (sqrt(8) + 2 sqrt(7)) / (sqrt(8) +
    sqrt(7)), and grows by A_n (1 - sqrt(7) / 19).
    """
    model = Pattern(**arguments_of(ALL_ALIKE | {"kappa": 1.0})).fit(
        proportional_curves(*[1.0] * 60)
    )
    explanation = explanation_of(model, proportional_curves(2.0))
    seven, eight = 7**0.5, 8**0.5
    own = 19 * (eight + 2 * seven) / (eight + seven)
    forecast = 2 * seven + own * (1 - seven / 19)
    assert explanation.segment_mean[0] == pytest.approx(19.0, rel=1e-12)
    assert explanation.forecast[0] == pytest.approx(forecast, rel=1e-12)
    np.testing.assert_allclose(
        explanation.terms[0], [forecast - 19, 0, 0, 0, 0], rtol=1e-9, atol=1e-12
    )
    assert explanation.sentences()[0] == (
        "D360 of 29.55 is 56 % above the 19.00 of all cohorts: +10.55 because it earned more so "
        "far than such cohorts do"
    )


def test_dates_ahead_by_hand() -> None:
    """All dates after the origin earn half as much again: so does what is left to grow."""
    model = Pattern(**arguments_of(ALL_ALIKE | {"kappa": 1.0})).estimate(
        proportional_curves(*[1.0] * 60)
    )
    curves = proportional_curves(2.0, 1.0, 0.5)
    terms_before = explanation_of(model, curves).terms[:, 0]
    calendar = Calendar(DAY + 1, np.full(361, 1.5))
    model = replace(model, date_effects=DateEffects(calendar, Trend.neutral(DAY)))
    explanation = explanation_of(model, curves)
    np.testing.assert_allclose(explanation.terms[:, 0], terms_before, rtol=1e-12, atol=1e-12)
    grown = explanation.segment_mean + explanation.terms[:, 0] - curves.observed_value
    np.testing.assert_allclose(explanation.terms[:, 1], 0.5 * grown, rtol=1e-12)
    assert explanation.sentences()[1].endswith(
        " by its dates (events, seasons, the trend by acquisition)"
    )


def test_dates_past_by_hand() -> None:
    """If all dates so far earned half as much again, a third of what was earned is theirs."""
    model = Pattern(**arguments_of(ALL_ALIKE | {"kappa": 1.0})).estimate(
        proportional_curves(*[1.0] * 60)
    )
    undated = explanation_of(model, proportional_curves(2.0))
    calendar = Calendar(DAY - 400, np.full(401, 1.5))
    model = replace(model, date_effects=DateEffects(calendar, Trend.neutral(DAY)))
    curves = proportional_curves(2.0 * 1.5)
    explanation = explanation_of(model, curves)
    np.testing.assert_allclose(explanation.terms[:, 0], undated.terms[:, 0], rtol=1e-12)
    np.testing.assert_allclose(explanation.terms[:, 1], curves.observed_value / 3, rtol=1e-12)


def test_hiding_nothing_changes_nothing(curves: Curves) -> None:
    """Without attributes a net says the same whether they are the usual ones, to the last bit."""
    apps = curves.attributes["Apps"] == "a"
    bare = replace(curves.take(apps), attributes={}, hierarchy=())
    explanation = explanation_of(make_forecaster(LSTM).fit(bare), bare)
    assert not np.nan_to_num(explanation.terms[:, 3]).any()
    assert np.nan_to_num(explanation.terms[:, 2]).any()


def test_usual_attributes_are_the_mean_of_those_known(
    models: dict[str, Predictor], curves: Curves
) -> None:
    """With one embedding for all, whoever they are, attributes explain nothing."""
    model = models["lstm"]
    assert isinstance(model, NeuralForecaster) and model.fitted_net.net is not None
    same_embedding = NeuralForecaster.from_state(*model.state())
    assert same_embedding.fitted_net.net is not None
    with torch.no_grad():
        for name, table in same_embedding.fitted_net.net.named_parameters():
            if name.startswith("attributes"):
                table[1:] = table[1:].mean(dim=0)
    ours, theirs = explanation_of(model, curves), explanation_of(same_embedding, curves)
    assert np.abs(np.nan_to_num(ours.terms[:, 3])).max() > 0
    assert np.abs(np.nan_to_num(theirs.terms[:, 3])).max() < 1e-12
    np.testing.assert_allclose(ours.terms[:, 2], theirs.terms[:, 2], rtol=1e-4, atol=1e-7)


def test_a_mixture_is_the_mean_of_its_models(models: dict[str, Predictor], curves: Curves) -> None:
    """On one pattern: growth and attributes are the means over models of what they add to it."""
    best = models["best"]
    assert isinstance(best, Corrected)
    of_models = [explanation_of(model, curves) for model in best.models]
    explanation = explanation_of(best, curves)
    for model in of_models:
        np.testing.assert_array_equal(explanation.terms[:, :2], model.terms[:, :2])
    added = np.mean([model.terms[:, 2:4] for model in of_models], axis=0)
    np.testing.assert_allclose(explanation.terms[:, 2:4], added, rtol=1e-9, atol=1e-12)
    assert not explanation.is_undivided


def test_a_mixture_with_a_model_that_is_whole_is_whole(
    models: dict[str, Predictor], curves: Curves
) -> None:
    """The part of a net by attributes then counts with all else that the models add."""
    best = models["best, one whole"]
    assert isinstance(best, Corrected)
    of_models = [explanation_of(model, curves) for model in best.models]
    explanation = explanation_of(best, curves)
    assert explanation.is_undivided and not np.nan_to_num(explanation.terms[:, 3]).any()
    added = np.mean([model.terms[:, 2:4].sum(axis=1) for model in of_models], axis=0)
    np.testing.assert_allclose(explanation.terms[:, 2], added, rtol=1e-9, atol=1e-12)
    assert any(
        "by what the model adds to the pattern" in text for text in explanation.sentences() if text
    )
    assert not any("by its attributes" in text for text in explanation.sentences() if text)


def test_the_correction_is_what_it_adds(curves: Curves) -> None:
    model = make_corrected(corrected_config(PATTERN, 4, 0))
    model.models, model.stages = (
        [Pattern(**arguments_of(PATTERN)).fit(curves)],
        LearnedStages.neutral(),
    )
    fix = Correction.neutral()
    doubled = replace(fix, factor=2 * fix.factor, is_on=np.ones_like(fix.is_on))
    model.stages = replace(model.stages, correction=doubled)
    explanation = explanation_of(model, curves)
    young = (curves.observed_age >= 0) & (curves.observed_age < 360)
    grown = explanation.segment_mean + explanation.terms[:, :4].sum(axis=1) - curves.observed_value
    np.testing.assert_allclose(explanation.terms[young, 4], grown[young], rtol=1e-9)


def sentence(
    segment: float, terms: Sequence[float], *, whole: bool = False, horizon: int = 360
) -> str | None:
    forecast, name = np.array([segment + sum(terms)]), np.array(["puzzle / search"], object)
    curves = proportional_curves(1.0)
    explanation = Explanation(
        curves, horizon, name, np.array([segment]), np.array([terms]), forecast, whole
    )
    text: str | None = explanation.sentences()[0]
    return text


def test_the_sentence() -> None:
    assert sentence(2.5, [0.45, -0.05, 0.20, 0.02, -0.02]) == (
        "D360 of 3.10 is 24 % above the 2.50 of puzzle / search: +0.45 because it earned more so "
        "far than such cohorts do, +0.20 by its recent growth, -0.05 by its dates (events, "
        "seasons, the trend by acquisition)"
    )
    assert sentence(1234.5, [-200.0, 0.0, 0.0, 40.0, 30.0]) == (
        "D360 of 1,104 is 11 % below the 1,234 of puzzle / search: -200 because it earned less so "
        "far than such cohorts do, +40 by its attributes, +30 by what past forecasts taught (blend "
        "and correction)"
    )
    added = sentence(0.03, [0.0, 0.0, 0.0012, 0.0, 0.0], whole=True)
    assert added == (
        "D360 of 0.0312 is 4 % above the 0.0300 of puzzle / search: +0.0012 by what the model adds "
        "to the pattern"
    )
    assert sentence(2.5, [0.0] * 5) == "D360 of 2.50 is about the 2.50 of puzzle / search"
    assert sentence(0.0, [0.0] * 5) == "D360 of 0.00 is about the 0.00 of puzzle / search"
    zero = sentence(2.5, [-2.5, 0.0, 0.0, 0.0, 0.0])
    assert zero is not None and zero.startswith("D360 of 0.00 is 100 % below the 2.50 of")
    observed = sentence(2.5, [0.5, 0.0, 0.0, 0.0, 0.0], horizon=5)
    assert observed is not None and observed.startswith(
        "D5 of 3.00, observed, is 20 % above the 2.50 of"
    )
    assert sentence(2.5, [float("nan")] * 5) is None


def test_the_horizon_is_what_the_data_support(curves: Curves) -> None:
    for weeks, horizon in ((70, 360), (40, 240), (9, 45)):
        few = weekly_history(weeks).as_of(np.datetime64("2023-01-08") + 7 * weeks)
        assert explanation_of(Pattern(**arguments_of(PATTERN)).fit(few), few).horizon == horizon
    single = proportional_curves(1.0)
    assert explanation_of(Pattern(**arguments_of(PATTERN)).fit(single), single).horizon == 360


def test_money_in_another_unit_scales_the_parts(curves: Curves) -> None:
    dear = replace(curves, values=curves.values * 1024)
    ours, theirs = (explanation_of(make_forecaster(NEIGHBOURS).fit(c), c) for c in (curves, dear))
    np.testing.assert_allclose(theirs.terms, 1024 * ours.terms, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def loaded_bundle(
    models: dict[str, Predictor], curves: Curves, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    folder = tmp_path_factory.mktemp("model") / "bundle"
    bundle.save(folder, "neural", models["lstm"], curves, {})
    return bundle.load(folder)


def test_the_furthest_in_revenue_come_first() -> None:
    """Of 40, 10, 20 and unknown users, the first observed to the end, the last not at all."""
    explanation = Explanation(
        curves=linear_forecast().curves,
        horizon=360,
        segment_names=np.array(["s"] * 4, dtype=object),
        segment_mean=np.array([1.0, 1.0, 1.0, np.nan]),
        terms=np.zeros((4, len(TERMS))),
        forecast=np.array([9.0, 1.9, 0.5, np.nan]),
        is_undivided=False,
    )
    assert explanation.furthest_cohorts(6).tolist() == [2, 1]  # 10 of revenue too low, 9 too high
    assert explanation.furthest_cohorts(1).tolist() == [2]
    usual = replace(explanation, forecast=explanation.segment_mean)
    assert usual.furthest_cohorts(6).tolist() == []


def test_examples_are_the_largest_of_those_that_matured_most() -> None:
    """The cohorts stand at 360, 11, 2 and -1 days; at 2 and at 11 there are examples."""
    forecast = linear_forecast()
    actual = np.full(forecast.pattern.shape, np.nan)
    assert example_cohorts(forecast, actual) == []  # nothing has matured
    actual[:, :20] = 1.0
    assert example_cohorts(forecast, actual) == [2, 1]  # the youngest first
    actual[2] = np.nan
    assert example_cohorts(forecast, actual) == [1]


def test_the_largest_is_the_example_among_those_that_matured_alike() -> None:
    """Campaign a has twice the users of b in every week."""
    forecast = forecast_off_by(two_campaigns(), SUNDAYS[1], (1.0, 1.0), 1.0)
    curves = forecast.curves
    actual = np.ones(forecast.pattern.shape)
    rows = example_cohorts(forecast, actual)
    assert curves.observed_age[rows].tolist()[:2] == [0, 7]
    assert set(curves.attributes["Campaign"][rows]) == {"a"}

    actual[curves.attributes["Campaign"] == "a", -1] = np.nan
    rows = example_cohorts(forecast, actual)
    assert set(curves.attributes["Campaign"][rows]) == {"b"}
