"""Cohorts with a known truth: what the parameters imply must be seen in the truth and the draws."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories.configs import ROOT
from factories.simulations import (
    BASE,
    BEHAVIOUR,
    CAMPAIGNS,
    EFFECTS_ALIKE,
    NONE,
    ONE,
    PAYERS_ALIKE,
    PLAIN,
    RHYTHM,
    TIMELINE,
)
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves
from ltvnet.data.simulation import (
    DAYS_PER_YEAR,
    Simulated,
)

PRESETS = ("simulated", "simulated_drift", "simulated_few_users", "simulated_many_campaigns")


@cache
def preset(name: str) -> Simulated:
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        source = instantiate(compose("simulate", overrides=[f"data={name}"]).data)
    assert isinstance(source, Simulated)
    return source


def draw_curves(source: Simulated) -> Curves:
    history = source.history()
    return history.as_of(history.last_day)


def hazard(decay: float) -> np.ndarray:
    weight = np.array([(1 + age) ** -decay for age in range(AGES)])
    return weight / weight.sum()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_what_it_promises(name: str) -> None:
    source = preset(name)
    curves, truth = draw_curves(source), source.truth()
    assert 1_500 <= len(curves) <= 4_000
    assert curves.hierarchy == ("Apps", "Source", "Campaign", "Country", "OS")
    assert curves.index.equals(truth.index)
    assert (curves.observed_age == MAX_AGE).all()
    assert curves.start.min() == np.datetime64("2022-01-03")
    assert curves.end.max() == np.datetime64("2022-01-03") + 104 * 7 - 1
    assert curves.origin == curves.end.max() + 52 * 7
    assert (curves.end - curves.start).astype(int).tolist() == [6] * len(curves)
    assert (np.diff(curves.values) >= 0).all()
    assert (curves.spend > 0).all()
    median = np.median(curves.users)
    assert 30 <= median <= 60 if name == "simulated_few_users" else 300 <= median <= 1_000
    count = len(set(curves.attributes["Campaign"]))
    assert count == (400 if name == "simulated_many_campaigns" else 36)


def test_shapes_and_levels_differ_by_campaign() -> None:
    truth = preset("simulated").truth()
    campaign, keys = truth.segments(3)
    early, late = (
        np.bincount(campaign, truth.users * truth.values[:, age], len(keys)) for age in (7, 360)
    )
    share = early / late
    assert 0.08 < share.min() < 0.16
    assert 0.30 < share.max() < 0.50
    level = late / np.bincount(campaign, truth.users)
    assert level.max() > 5 * level.min()


def test_a_campaign_belongs_to_one_app_and_source_and_runs_without_a_break() -> None:
    curves = draw_curves(preset("simulated"))
    frame = pd.DataFrame(dict(curves.attributes)).assign(start=curves.start)
    groups = frame.groupby("Campaign")
    assert (groups[["Apps", "Source"]].nunique() == 1).all(axis=None)
    assert (groups[["OS", "Country"]].apply(lambda rows: len(rows.drop_duplicates())) == 3).all()
    weeks = (groups["start"].max() - groups["start"].min()).dt.days // 7 + 1
    assert (groups["start"].nunique() == weeks).all()
    assert (groups.size() == 3 * weeks).all()
    begins, ends = groups["start"].min(), groups["start"].max()
    assert (begins > frame["start"].min()).any()
    assert (ends < frame["start"].max()).any()


def test_the_same_seed_gives_the_same_cohorts_and_another_seed_others() -> None:
    first, again, other_seed = (draw_curves(replace(PLAIN, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.users, again.users)
    assert not np.array_equal(first.values, other_seed.values)


def test_a_preset_leaves_earlier_draws_as_they_were() -> None:
    plain, drift = preset("simulated"), preset("simulated_drift")
    assert draw_curves(plain).index.equals(draw_curves(drift).index)
    np.testing.assert_array_equal(draw_curves(plain).users, draw_curves(drift).users)
    np.testing.assert_array_equal(plain.truth().values[:, :8], drift.truth().values[:, :8])


def test_expected_growth_is_the_hazard() -> None:
    truth = PLAIN.truth()
    np.testing.assert_allclose(
        truth.values / truth.values[:, -1:], np.tile(np.cumsum(hazard(0.7)), (len(truth), 1))
    )


def test_expected_revenue_is_payers_times_purchases_times_price() -> None:
    # 12 cohorts of 20,000 users; CV of a user's expectation: sqrt(1.5 * e^.25 / 0.2 - 1) = 2.94.
    truth = PLAIN.truth()
    lifetime = np.average(truth.values[:, -1], weights=truth.users)
    assert lifetime == pytest.approx(0.2 * 5 * 3, rel=4 * 2.94 / np.sqrt(240_000))
    assert truth.users == pytest.approx(20_000, rel=5 / np.sqrt(20_000))
    np.testing.assert_allclose(truth.spend, 1.5 * truth.users)


def test_revenue_of_payers_alike_is_compound_poisson() -> None:
    source = replace(
        PLAIN,
        behaviour=replace(PAYERS_ALIKE, purchases=4.0),
        effects=replace(EFFECTS_ALIKE, base=BASE | {"users": 50.0, "payers": 1.0}),
        campaigns=replace(CAMPAIGNS, count=1_000),
    )
    curves, truth = draw_curves(source), source.truth()
    np.testing.assert_allclose(truth.values[:, -1], 4 * 3, rtol=1e-6)
    # A purchase of mean 3 and gamma shape 2 has second moment 9 * 1.5; 4 purchases each.
    error = (curves.values - truth.values)[:, -1] * np.sqrt(curves.users)
    assert len(error) == 1_000 * 2 * 3
    assert np.mean(error) == pytest.approx(0, abs=4 * np.sqrt(54 / len(error)))
    assert np.var(error) == pytest.approx(54, rel=4 * np.sqrt(2 / len(error)))


def test_draws_are_unbiased_at_every_node() -> None:
    source = preset("simulated_many_campaigns")
    curves, truth = draw_curves(source), source.truth()
    error = (curves.users[:, None] * (curves.values - truth.values))[:, list(NODES)]
    # Given the payers, cohorts err independently with mean 0.
    z = error.sum(axis=0) / np.sqrt((error**2).sum(axis=0))
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("age", [7, 30])
def test_who_knows_the_truth_is_unbiased_and_better_than_chain_ladder(age: int) -> None:
    """Observed value plus the growth of the truth, y(k) + Lambda(360) - Lambda(k)."""
    source = preset("simulated")
    curves, truth = draw_curves(source), source.truth()
    actual, users = curves.values[:, 360], curves.users
    growth = truth.values[:, 360] - truth.values[:, age]
    error = users * (curves.values[:, age] + growth - actual)
    assert abs(error.sum()) < 4 * np.sqrt((error**2).sum())
    at_age, at_end = users @ curves.values[:, age], users @ actual
    chain_ladder = curves.values[:, age] * at_end / at_age
    assert np.abs(error).sum() < 0.5 * np.abs(users * (chain_ladder - actual)).sum()


def test_drift_takes_15_percent_a_year_off_revenue_after_d7_and_nothing_before() -> None:
    # Everybody pays alike and arrives on a Monday, so weeks differ by the trend alone.
    source = replace(
        PLAIN,
        timeline=replace(TIMELINE, weeks=105, installs=[1, 0, 0, 0, 0, 0, 0]),
        effects=replace(EFFECTS_ALIKE, base=BASE | {"users": 100.0, "payers": 1.0}),
        campaigns=replace(CAMPAIGNS, count=1, markets=1),
        behaviour=replace(PAYERS_ALIKE, trend=0.85),
    )
    truth = source.truth()
    assert len(truth) == 105
    np.testing.assert_allclose(truth.values[:, 7], truth.values[0, 7], rtol=1e-5)
    later = truth.values[:, [8, 30, 360]] - truth.values[:, [7]]
    np.testing.assert_allclose(later[52] / later[0], 0.85 ** (364 / DAYS_PER_YEAR), rtol=1e-5)
    np.testing.assert_allclose(later[104] / later[52], 0.85 ** (364 / DAYS_PER_YEAR), rtol=1e-5)
    assert preset("simulated_drift").behaviour.trend == 0.85
    assert preset("simulated_drift").behaviour.trend_after == 7
    assert preset("simulated").behaviour.trend == 1


def test_weekdays_show_in_the_days_of_a_cohort_acquired_on_one_day() -> None:
    weekday = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 0.5]
    tuesdays = replace(TIMELINE, installs=[0, 1, 0, 0, 0, 0, 0])
    truth = replace(PLAIN, timeline=tuesdays, rhythm=replace(RHYTHM, weekday=weekday)).truth()
    daily = np.diff(truth.values, axis=1, prepend=0) / hazard(0.7)
    expected = np.resize(weekday[1:] + weekday[:1], AGES)
    np.testing.assert_allclose(daily / daily[:, :1], np.tile(expected / 1.1, (len(truth), 1)))


def test_the_season_is_a_cosine_that_peaks_on_its_day() -> None:
    dates = np.datetime64("2022-01-03") + np.arange(728)
    calendar = replace(RHYTHM, season_amplitude=0.2, season_peak=354)
    season = calendar.multipliers(dates, np.random.default_rng(0))
    assert dates[season.argmax()] == np.datetime64("2022-12-21")
    assert season.max() == pytest.approx(1.2)
    assert season.min() == pytest.approx(0.8, abs=1e-4)


def test_events_multiply_whole_days_about_as_often_as_asked() -> None:
    dates = np.datetime64("2022-01-03") + np.arange(40_000)
    calendar = replace(RHYTHM, events_per_year=12, event_days=3, event_multiplier=1.5)
    factor = calendar.multipliers(dates, np.random.default_rng(0))
    assert set(np.unique(factor)) == {1.0, 1.5}
    # A day is quiet when no event began on it or on the two days before.
    assert np.mean(factor == 1) == pytest.approx((1 - 12 / DAYS_PER_YEAR) ** 3, abs=0.01)


def test_effects_of_attributes_multiply() -> None:
    owners = {"Apps": {"a": ONE, "b": ONE | {"price": 2.0}}}
    markets = {
        "OS": {"p": ONE, "q": ONE | {"price": 3.0}},
        "Country": {"x": ONE, "y": ONE | {"cost": 5.0, "payers": 9.0}},
    }
    everywhere = replace(CAMPAIGNS, count=2, markets=4)
    multiplied = replace(EFFECTS_ALIKE, owners=owners, markets=markets)
    portfolio = everywhere.draw(multiplied, 1, np.random.default_rng(0))
    campaigns = pd.DataFrame(dict(portfolio.attributes)).assign(
        price=portfolio.price, cost=portfolio.spend / portfolio.users, payers=portfolio.payers
    )
    assert len(campaigns) == 8
    assert len(campaigns.drop_duplicates(["Apps", "OS", "Country"])) == 8
    by_attributes = campaigns.set_index(["Apps", "OS", "Country"]).sort_index()
    assert by_attributes.loc[("a", "p", "x"), "price"] == 3
    assert by_attributes.loc[("b", "q", "y"), "price"] == 3 * 2 * 3
    assert by_attributes.loc[("b", "p", "y"), "cost"] == pytest.approx(1.5 * 5)
    assert by_attributes.loc[("b", "p", "y"), "payers"] == 1, "a probability is at most 1"


def test_random_effects_have_mean_one_and_the_spread_asked_for() -> None:
    spread = replace(
        EFFECTS_ALIKE, cohort_sd=NONE | {"price": 0.5}, campaign_sd=NONE | {"decay": 0.3}
    )
    many = replace(CAMPAIGNS, count=5_000, markets=1)
    portfolio = many.draw(spread, 2, np.random.default_rng(0))
    assert np.mean(portfolio.price) == pytest.approx(3, rel=4 * 0.53 / 100)
    assert np.std(np.log(portfolio.price)) == pytest.approx(0.5, rel=0.03)
    by_campaign = portfolio.decay.reshape(5_000, 2)
    assert (by_campaign[:, 0] == by_campaign[:, 1]).all()
    assert np.std(np.log(by_campaign[:, 0])) == pytest.approx(0.3, rel=0.04)


def test_noise_of_one_user_is_that_of_free_to_play() -> None:
    # Within a cohort: (1 + CV^2) * payers = E[intensity^2] E[whale^2] plus the purchases' own part.
    source = preset("simulated")
    paying, b = source.effects.base["payers"], source.behaviour
    second = (1 + 1 / b.intensity_shape) * np.exp(b.whale_sd**2)
    second += np.exp(b.whale_sd**2) * (1 + 1 / b.amount_shape) / b.purchases
    assert 8 <= np.sqrt(second / paying - 1) <= 12


MALFORMED: Mapping[str, tuple[object, Mapping[str, object], str]] = {
    "no Monday": (TIMELINE, {"first_day": "2022-01-04"}, "a Monday in data.timeline.first_day"),
    "no date": (TIMELINE, {"first_day": "soon"}, "expected a date such as"),
    "too short": (TIMELINE, {"maturing_weeks": 51}, "maturing_weeks >= 52 in data.timeline"),
    "six installs": (TIMELINE, {"installs": [1.0] * 6}, "7 shares .* data.timeline.installs"),
    "no installs": (TIMELINE, {"installs": [0.0] * 7}, "7 shares .* data.timeline.installs"),
    "no weekday": (RHYTHM, {"weekday": []}, "7 weekdays.* in data.rhythm"),
    "dark season": (RHYTHM, {"season_amplitude": 1.0}, "amplitude < 1 in data.rhythm"),
    "no event day": (RHYTHM, {"event_days": 0}, "data.rhythm, got .*event_days=0"),
    "no price": (EFFECTS_ALIKE, {"base": ONE | {"price": -1.0}}, "none negative in .*effects.base"),
    "one effect": (EFFECTS_ALIKE, {"markets": {"OS": {"i": {"users": 1.0}}}}, "effects.OS.i, got"),
    "no campaign": (CAMPAIGNS, {"count": 0}, "count, markets >= 1.* data.campaigns"),
    "no purchase": (BEHAVIOUR, {"purchases": 0.0}, "numbers > 0.* data.behaviour"),
    "late trend": (BEHAVIOUR, {"trend_after": 361}, r"trend_after 0\.\.360 in data.behaviour"),
    "no seed": (PLAIN, {"seed": None}, "a whole number >= 0 in data.seed, got None"),
}


@pytest.mark.parametrize(("part", "changes", "message"), MALFORMED.values(), ids=MALFORMED)
def test_numbers_out_of_range_are_refused(
    part: Simulated, changes: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(part, **changes)


def test_a_campaign_cannot_run_in_more_markets_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"at most the 2 there are in data.campaigns.markets"):
        replace(PLAIN, campaigns=replace(CAMPAIGNS, markets=3)).history()


def run(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/simulate.py"), "data.campaigns.count=2"]
    return subprocess.run(
        [*command, "data.timeline.weeks=10", *overrides],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_writes_a_table_and_its_truth(tmp_path: Path) -> None:
    process = run(f"out={tmp_path}", "table=cohorts.parquet", "seed=2")
    assert process.returncode == 0, process.stderr
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {".hydra", "cohorts.parquet", "truth.parquet"}
    cohorts = pd.read_parquet(tmp_path / "cohorts.parquet")
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    pd.testing.assert_frame_equal(cohorts[["Date", "Users"]], truth[["Date", "Users"]])
    assert cohorts["day_360"].notna().all()
    assert cohorts["Date"].iloc[0] == "2022-01-03~2022-01-09"


def test_the_script_writes_an_analysts_folder(tmp_path: Path) -> None:
    process = run(f"out={tmp_path}", "snapshots=3", "every_weeks=2", "as_of=2022-02-28")
    assert process.returncode == 0, process.stderr
    names = sorted(path.name for path in (tmp_path / "Files").iterdir())
    assert names == [f"[MKT]_LTV_Analysis_2022_{date}.csv" for date in ("01_31", "02_14", "02_28")]
    first = pd.read_csv(tmp_path / "Files" / names[0]).groupby("Date")
    # The week that ended on 2022-01-09 had completed 22 more days by 2022-01-31.
    oldest = first.get_group("2022-01-03~2022-01-09")
    assert oldest["day_22"].notna().all()
    assert "day_23" not in oldest


def test_the_script_refuses_exports_from_before_the_first_cohort(tmp_path: Path) -> None:
    process = run(f"out={tmp_path}", "snapshots=30", "as_of=2022-03-01")
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert re.search(
        r"error: expected exports from 2022-01-09 on, got 2019-12-10: take fewer", process.stderr
    )
