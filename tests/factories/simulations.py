"""A small simulated portfolio without differences between cohorts and days."""

from dataclasses import replace

from ltvnet.data.simulation import (
    EFFECT_NAMES,
    Behaviour,
    Campaigns,
    Effects,
    Rhythm,
    Simulated,
    Timeline,
)

ONE = dict.fromkeys(EFFECT_NAMES, 1.0)
NONE = dict.fromkeys(EFFECT_NAMES, 0.0)
BASE = {"users": 20_000.0, "payers": 0.2, "price": 3.0, "decay": 0.7, "cost": 1.5}


# A portfolio without differences between cohorts and days: what a test changes stands alone.
TIMELINE = Timeline(first_day="2022-01-03", weeks=3, maturing_weeks=52, installs=[1.0] * 7)
RHYTHM = Rhythm(
    weekday=[1.0] * 7,
    season_amplitude=0.0,
    season_peak=0.0,
    events_per_year=0.0,
    event_days=2,
    event_multiplier=3.0,
)
EFFECTS_ALIKE = Effects(
    base=BASE,
    owners={"Apps": {"a": ONE}},
    markets={"Country": {"x": ONE, "y": ONE}},
    campaign_sd=NONE,
    cohort_sd=NONE,
)
CAMPAIGNS = Campaigns(attribute="Campaign", count=2, markets=2, median_weeks=1e6, weeks_sd=0.0)
BEHAVIOUR = Behaviour(
    purchases=5.0,
    intensity_shape=2.0,
    whale_sd=0.5,
    amount_shape=2.0,
    onset=1.0,
    trend_after=7,
    trend=1.0,
)
PAYERS_ALIKE = replace(BEHAVIOUR, intensity_shape=1e14, whale_sd=0.0)
PLAIN = Simulated(
    seed=0,
    hierarchy=["Apps", "Campaign"],
    timeline=TIMELINE,
    rhythm=RHYTHM,
    effects=EFFECTS_ALIKE,
    campaigns=CAMPAIGNS,
    behaviour=BEHAVIOUR,
)
