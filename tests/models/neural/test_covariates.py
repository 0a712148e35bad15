"""Covariates of a net: ratios without a unit, dates, masks; none of them needs to be there."""

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from factories.cohorts import Row, curve, history, weekly_history, with_complete_age
from factories.configs import COVARIATES, LSTM_NET, TRAINING, Config
from factories.forecasts import assert_sound
from factories.neural import make_full_schedule, train_for, windows_of

from ltvnet.data.curves import AGES, NODES, Curves, History
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.covariates import (
    DAMPING,
    MIN_SPREAD,
    CalendarFeatures,
    CovariateConfig,
    CovariateScaling,
    SeriesScaling,
)
from ltvnet.models.neural.forecaster import NeuralForecaster, build_net

ALL = COVARIATES | {"spend": True, "calendar": True}


NAN = np.full(AGES, np.nan)


def make_model(covariates: Config, **training: object) -> NeuralForecaster:
    return make_full_schedule(covariates=covariates, training=TRAINING | training)


def covariates_of(curves: Curves, **choices: object) -> CovariateScaling:
    return CovariateScaling.fit(with_complete_age(curves), CovariateConfig(**COVARIATES | choices))


def daily_cohorts(*dates: str, **attributes: str) -> Curves:
    """Cohorts of one day each, four years later."""
    rows: list[Row] = [(date, date, attributes, 10, curve(360)) for date in dates]
    return history(rows).as_of("2027-01-01")


@pytest.fixture(scope="module")
def known_history() -> History:
    return weekly_history(115, covariates=True, first="2022-01-03")


@pytest.fixture(scope="module")
def curves(known_history: History) -> Curves:
    return known_history.as_of("2024-02-29")


@pytest.fixture(scope="module")
def trained_model(curves: Curves) -> NeuralForecaster:
    return make_model(ALL).fit(curves)


def test_a_reference_is_the_mean_over_users() -> None:
    cells = np.array([np.full(AGES, 1.0), np.full(AGES, 4.0)])
    cells[0, 7] = np.nan
    cells[:, 9] = np.nan
    cells[:, 10] = 0.0
    mean = SeriesScaling.fit(cells, np.array([200.0, 100.0])).mean
    assert mean[[0, 7]].tolist() == [2.0, 4.0] and np.isnan(mean[[9, 10]]).all()


def test_a_feature_is_the_log_ratio_at_the_last_age_known() -> None:
    reference = SeriesScaling(np.where(np.arange(AGES) == 3, 2.0, 4.0), spread=0.5)
    cells = np.stack([NAN, NAN])
    cells[0, [2, 8]] = 4.0, 6.0  # what it is at node 10 is what it was at age 8
    cells[1, 3] = 0.0
    features = reference.features(cells)
    assert features.shape == (2, len(NODES), 2)
    feature_at = {node: features[0, j].tolist() for j, node in enumerate(NODES)}
    assert feature_at[1] == [0.0, 0.0] and feature_at[2] == feature_at[7] == [0.0, 1.0]
    above = np.log((1.5 + DAMPING) / (1 + DAMPING)) / 0.5
    assert feature_at[10] == feature_at[360] == [pytest.approx(above), 1.0]
    zero = np.log(DAMPING / (1 + DAMPING)) / 0.5
    assert features[1, 3].tolist() == [pytest.approx(zero), 1.0]


def test_equal_series_say_nothing_and_wild_ones_are_bounded() -> None:
    reference = SeriesScaling.fit(np.full((3, AGES), 0.1 + 0.2), np.ones(3))
    assert reference.spread == MIN_SPREAD
    assert np.abs(reference.features(np.full((1, AGES), 0.3))).max() == 1.0
    assert np.abs(reference.features(np.full((1, AGES), 1e30))[:, :, 0]).max() == 5.0
    nothing = SeriesScaling.empty().features(np.ones((1, AGES)))
    assert not nothing.any()


def test_seasons_are_places_in_the_year() -> None:
    features = CalendarFeatures(weekend=False, holidays=None).features(
        daily_cohorts("2022-01-01", "2022-07-02")
    )
    np.testing.assert_allclose(features[0, 0], [0.0, 1.0], atol=0.01)
    np.testing.assert_allclose(features[1, 0], [0.0, -1.0], atol=0.02)
    np.testing.assert_allclose(features[0, NODES.index(90)], [1.0, 0.0], atol=0.03)


def test_weekends_count_for_cohorts_of_at_most_two_days() -> None:
    """Acquired on a Friday: day 1 is a Saturday, days 4 to 7 have none, 8 to 10 have two of 3."""
    curves = daily_cohorts("2022-01-07")
    share = CalendarFeatures(weekend=True, holidays=None).features(curves)[0, :, 2] + 2 / 7
    np.testing.assert_allclose(share[:7], [0, 1, 1, 0, 0, 0, 0], atol=1e-12)
    assert share[NODES.index(10)] == pytest.approx(2 / 3)
    assert share[NODES.index(14)] == pytest.approx(0.0)
    rows: list[Row] = [("2022-01-03", "2022-01-09", {}, 10, curve(360))]
    week = history(rows).as_of("2027-01-01")
    assert not CalendarFeatures(weekend=True, holidays=None).features(week)[0, :, 2].any()
    assert CalendarFeatures.from_curves(week, None) == CalendarFeatures(
        weekend=False, holidays=None
    )
    assert CalendarFeatures.from_curves(curves, None) == CalendarFeatures(
        weekend=True, holidays=None
    )


def test_holidays_are_those_of_the_country(caplog: pytest.LogCaptureFixture) -> None:
    """From Christmas Eve of 2022: Germany rests on the 25th and 26th, Korea on the 25th."""
    pytest.importorskip("holidays")
    shares = []
    for country in ("DE", "KR", "Narnia", ""):
        curves = daily_cohorts("2022-12-24", Country=country)
        shares.append(CalendarFeatures(weekend=False, holidays="Country").features(curves)[0, :, 2])
    assert shares[0][:4].tolist() == [0, 1, 1, 0] and shares[1][:4].tolist() == [0, 1, 0, 0]
    assert shares[0][NODES.index(10)] == pytest.approx(1 / 3)  # New Year is day 8
    assert not shares[2].any() and not shares[3].any()
    assert CalendarFeatures.from_curves(
        daily_cohorts("2022-12-24", Country="DE"), "Country"
    ) == CalendarFeatures(weekend=True, holidays="Country")
    with caplog.at_level(logging.WARNING):
        assert CalendarFeatures.from_curves(
            daily_cohorts("2022-12-24", Country="x"), "Country"
        ) == CalendarFeatures(weekend=True, holidays=None)
    assert "no value of Country is a country by ISO code: no holidays are used" in caplog.text
    without_country = CalendarFeatures(weekend=True, holidays="Country").features(
        replace(daily_cohorts("2022-12-24"), attributes={})
    )
    assert not without_country[:, :, 3].any()


def test_the_calendar_needs_two_years(known_history: History) -> None:
    assert covariates_of(known_history.as_of("2024-01-02"), calendar=True).calendar is None
    assert covariates_of(known_history.as_of("2024-01-03"), calendar=True).calendar is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_category": 0}, "expected min_category >= 1, got 0"),
        ({"holidays": "Country"}, "covariates.holidays needs covariates.calendar=true, got false"),
    ],
)
def test_choices_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CovariateConfig(**COVARIATES | change)


def test_holidays_need_an_attribute_and_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"covariates\.holidays out of Country, got 'Land'"):
        CalendarFeatures.from_curves(daily_cohorts("2022-01-01", Country="DE"), "Land")
    monkeypatch.setattr("ltvnet.models.neural.covariates.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package holidays: pip install 'ltvnet\[hol"):
        CalendarFeatures(weekend=False, holidays="Country")


def test_what_is_lacking_in_training_is_no_input(curves: Curves) -> None:
    bare = replace(curves, series={}, spend=np.full(len(curves), np.nan))
    nothing = covariates_of(bare, spend=True)
    assert nothing == CovariateScaling(None, {}, None)
    assert (nothing.node_feature_count, nothing.scalar_count) == (0, 0)
    for cells in (np.full_like(curves.values, np.nan), np.where(curves.values >= 0, 0.0, np.nan)):
        assert not covariates_of(replace(curves, series={"kept": cells})).series
    assert covariates_of(curves, series=False) == nothing
    full = covariates_of(curves, spend=True, calendar=True)
    assert (full.node_feature_count, full.scalar_count) == (2 + 2, 2 + 2)


def test_spend_is_per_user_over_that_of_the_median_cohort(curves: Curves) -> None:
    paid = curves.spend / curves.users
    measured = covariates_of(curves, spend=True)
    assert measured.median_spend == pytest.approx(np.nanmedian(paid))
    fixed = measured.covariate_arrays(curves).static
    assert fixed[np.isnan(paid)].tolist() == [[0.0, 0.0]] * int(np.isnan(paid).sum())
    expected = np.log((paid / np.nanmedian(paid) + DAMPING) / (1 + DAMPING))
    np.testing.assert_allclose(fixed[:, 0], np.nan_to_num(expected), atol=1e-12)
    free = replace(curves, spend=np.where(np.arange(len(curves)) % 3 > 0, 0.0, curves.spend))
    assert covariates_of(free, spend=True).median_spend is not None
    assert covariates_of(replace(curves, spend=curves.spend * 0.0), spend=True).median_spend is None


def test_other_units_change_no_bit(curves: Curves) -> None:
    measured = covariates_of(curves, spend=True)
    scaled = replace(
        curves, spend=curves.spend * 1024, series={"retention": curves.series["retention"] * 1024}
    )
    scaled_measured = covariates_of(scaled, spend=True)
    for array, scaled_array in zip(
        measured.covariate_arrays(curves), scaled_measured.covariate_arrays(scaled), strict=True
    ):
        np.testing.assert_array_equal(array, scaled_array)


def test_a_task_sees_nodes_behind_it_and_the_calendar_of_those_ahead() -> None:
    pytest.importorskip("holidays")
    dates = [str(np.datetime64("2022-01-01") + day) for day in range(40)]
    daily = daily_cohorts(*dates, Country="DE")
    series = {"kept": daily.values.copy()}
    daily = replace(daily, series=series)
    model = make_model(ALL | {"holidays": "Country"})
    fitted = model.prepare(daily)
    windows = windows_of(fitted, daily)
    inputs = windows.inputs_and_targets(Tasks(torch.tensor([0, 3]), torch.tensor([0, 30])))[0]
    assert inputs.node_features.shape == (2, len(NODES), fitted.scaling.input_sizes.features)
    assert inputs.scalars.shape == (2, fitted.scaling.input_sizes.scalars)
    assert fitted.scaling.input_sizes.features == 3 + 2 + 4
    assert not inputs.node_features[~inputs.is_observed].any()
    arrays = fitted.scaling.covariates.covariate_arrays(daily)
    ahead = inputs.scalars[:, -2 * len(NODES) :].reshape(2, len(NODES), 2)
    assert not ahead[inputs.is_observed].any()
    expected = torch.from_numpy(arrays.future_calendar[[0, 3]]).float()
    torch.testing.assert_close(ahead[~inputs.is_observed], expected[~inputs.is_observed])
    torch.testing.assert_close(
        inputs.node_features[inputs.is_observed][:, 3:],
        torch.from_numpy(arrays.at_nodes[[0, 3]]).float()[inputs.is_observed],
    )


def test_later_cells_of_a_series_are_not_seen_by_a_task(curves: Curves) -> None:
    """In training too: a cohort at an age sees its series up to that age."""
    model = make_model(ALL)
    fitted = model.prepare(with_complete_age(curves))
    rows = np.flatnonzero(curves.observed_age >= 100)[:5]
    old = curves.take(rows)
    garbage = np.where(np.arange(AGES) > 30, 1e9, old.series["retention"])
    garbage = np.where(np.isfinite(old.values), garbage, np.nan)
    spoiled = replace(old, series={"retention": garbage})
    expected = fitted.pattern.expected_curves(old)
    tasks = Tasks(torch.arange(5), torch.full((5,), 30))
    inputs, spoiled_inputs = (
        CohortTensors.from_curves(c, expected, fitted.scaling).inputs_and_targets(tasks)[0]
        for c in (old, spoiled)
    )
    assert all(
        torch.equal(tensor, spoiled_tensor)
        for tensor, spoiled_tensor in zip(inputs, spoiled_inputs, strict=True)
    )


def history_with_series(known_history: History, *, told: bool) -> History:
    """Cohorts that grow after D7 by a factor that only a series tells."""
    rng = np.random.default_rng(3)
    factor = rng.gamma(9.0, 1 / 9.0, (len(known_history), 1))
    week = known_history.values[:, [7]]
    values = np.where(
        np.arange(AGES) > 7, week + factor * (known_history.values - week), known_history.values
    )
    series = np.where(np.arange(AGES) < 7, factor, np.nan)
    return replace(
        known_history,
        values=values,
        series={"active": series} if told else {},
        spend=known_history.spend,
    )


def test_a_net_learns_from_a_series() -> None:
    cohorts = weekly_history(110)
    errors = []
    for with_series in (False, True):
        history = history_with_series(cohorts, told=with_series)
        curves = history.as_of("2024-12-31")
        model = make_model(COVARIATES, epochs=12, rate=0.02, loss="huber").fit(curves)
        rows = np.flatnonzero((curves.observed_age >= 7) & (curves.observed_age < 250))
        forecast = model.predict(curves.take(rows).cut(7)).final.mean[:, NODES.index(180)]
        actual = history.values[:, 180][history.index.get_indexer(curves.take(rows).index)]
        errors.append(float(np.abs(forecast / actual - 1).mean()))
    assert errors[1] < 0.6 * errors[0], errors


def test_forecasts_are_sound_whatever_is_known(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    assert trained_model.fitted_net.net is not None
    context = trained_model.fitted_net.scaling.covariates
    assert context.median_spend and context.calendar and list(context.series) == ["retention"]
    full = trained_model.predict(curves)
    assert_sound(full)
    bare = replace(curves, series={}, spend=np.full(len(curves), np.nan))
    other_series = replace(curves, series={"unheard of": curves.series["retention"]})
    for known_curves in (bare, other_series, replace(curves, spend=np.zeros(len(curves)))):
        forecast = trained_model.predict(known_curves)
        assert_sound(forecast)
        assert not np.array_equal(forecast.final.mean, full.final.mean, equal_nan=True)


def test_units_of_all_money_and_series_change_nothing(
    trained_model: NeuralForecaster, curves: Curves
) -> None:
    series = {"retention": curves.series["retention"] * 1024}
    scaled = replace(curves, values=curves.values * 1024, spend=curves.spend * 1024, series=series)
    again = make_model(ALL).fit(scaled).predict(scaled)
    once = trained_model.predict(curves)
    cells = once.is_ahead
    for quantity in ("mean", "p10", "p90"):
        cells_once, cells_again = (getattr(f.final, quantity)[cells] for f in (once, again))
        np.testing.assert_allclose(cells_again, 1024 * cells_once, rtol=1e-6)


def test_a_row_depends_on_no_other(trained_model: NeuralForecaster, curves: Curves) -> None:
    all_rows = trained_model.predict(curves).final.mean
    some_rows = trained_model.predict(curves.take(np.arange(50, 57))).final.mean
    np.testing.assert_allclose(some_rows, all_rows[50:57], rtol=1e-5)


def test_the_state_holds_the_context(trained_model: NeuralForecaster, curves: Curves) -> None:
    values, arrays = trained_model.state()
    assert "series/retention" in arrays
    again = NeuralForecaster.from_state(json.loads(json.dumps(values, allow_nan=False)), arrays)
    np.testing.assert_array_equal(
        again.predict(curves).final.p10, trained_model.predict(curves).final.p10
    )


def test_a_warm_start_keeps_the_inputs_of_its_net(
    trained_model: NeuralForecaster, known_history: History
) -> None:
    """A later fit without spend, with another series: inputs are those of the start."""
    later = known_history.as_of("2024-03-14")
    lost = replace(
        later, spend=np.full(len(later), np.nan), series={"other": later.series["retention"]}
    )
    for data in (later, lost):
        model = make_model(COVARIATES)
        model.start_from(trained_model.state())
        forecast = model.fit(data).predict(data)
        assert model.fitted_net.net is not None
        assert model.fitted_net.scaling.input_sizes == trained_model.fitted_net.scaling.input_sizes
        assert_sound(forecast)
    assert model.fitted_net.scaling.covariates.median_spend == 0.0


@pytest.mark.parametrize("loss", ["deviance", "huber"])
def test_every_parameter_learns(curves: Curves, loss: str) -> None:
    learnable = with_complete_age(curves)
    model = make_model(ALL, loss=loss)
    fitted = model.prepare(learnable)
    torch.manual_seed(0)
    start = build_net(LSTM_NET, fitted.scaling.input_sizes).state_dict()
    net = train_for(model, learnable, epochs=1)
    for name, weight in net.state_dict().items():
        moved = (weight != start[name]).any(dim=0 if weight.ndim > 1 else -1)
        assert moved.all(), name


def test_without_anything_beside_the_inputs_are_as_they_were(curves: Curves) -> None:
    plain = replace(curves, series={}, spend=np.full(len(curves), np.nan))
    model = make_model(ALL | {"calendar": False})
    sizes = model.prepare(with_complete_age(plain)).scaling.input_sizes
    assert (sizes.features, sizes.scalars) == (3, 6)
