"""Cohorts with a known truth: campaigns, payers and purchases drawn from stated distributions.

The numbers of the economy stand in `configs/data/simulated*.yaml`. Calendar, campaigns, payers and
purchases draw from streams of their own, so a preset changes no draw of the stages before its own.

Shapes: E effects, V values of an attribute, C campaigns, M markets, N cohorts, W weeks, D days of
a week, T calendar days, P payers, B purchases, A ages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator, SeedSequence, default_rng

from ltvnet.data.arrays import Days, Floats, Ints, Strings
from ltvnet.data.curves import AGES, DAYS_PER_WEEK, MAX_AGE, Curves, History, parse_day

EFFECT_NAMES = ("users", "payers", "price", "decay", "cost")
"""Names of what differs between cohorts: users acquired, share of payers, mean spend per purchase,
exponent of the falling hazard, cost per user; in this order on the axis E."""

EffectValues = Mapping[str, float]
"""A number for each of EFFECT_NAMES."""

EffectsByValue = Mapping[str, EffectValues]
"""Factors of the effects for each value of an attribute."""

DAYS_PER_YEAR = 365.25


def _require(key: str, expected: str, got: object, *, ok: bool) -> None:
    """Raise ValueError that names a key of the config, unless it is ok."""
    if not ok:
        raise ValueError(f"expected {expected} in data.{key}, got {got}")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The acquisition weeks, and the weeks after them until the only snapshot.

    `installs` (D,) relative numbers of users acquired from Monday to Sunday. Raises ValueError
    unless the first day is a Monday and every cohort reaches D360.
    """

    first_day: str
    weeks: int
    maturing_weeks: int
    installs: Sequence[float]

    def __post_init__(self) -> None:
        """Check ranges, and that the first day is a Monday."""
        try:
            is_monday = pd.Timestamp(parse_day(self.first_day)).weekday() == 0
        except ValueError:
            is_monday = False
        expected = "a date such as 2022-01-03, a Monday"
        _require("timeline.first_day", expected, self.first_day, ok=is_monday)

        min_weeks = math.ceil(MAX_AGE / DAYS_PER_WEEK)
        is_long = self.weeks >= 1 and self.maturing_weeks >= min_weeks
        _require("timeline", f"weeks >= 1 and maturing_weeks >= {min_weeks}", self, ok=is_long)

        are_shares = (
            len(self.installs) == DAYS_PER_WEEK
            and min(self.installs) >= 0
            and sum(self.installs) > 0
        )
        _require("timeline.installs", "7 shares from Monday", self.installs, ok=are_shares)

    @property
    def dates(self) -> Days:
        """Every calendar day (T,) on which a user of at most age 360 can buy."""
        day_count = self.weeks * DAYS_PER_WEEK + MAX_AGE
        return parse_day(self.first_day) + np.arange(day_count)

    @property
    def last_day(self) -> np.datetime64:
        """Day of the snapshot."""
        week_count = self.weeks + self.maturing_weeks
        return parse_day(self.first_day) + week_count * DAYS_PER_WEEK - 1


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How revenue varies with the calendar day: weekday, yearly season, live-ops events.

    `weekday` (D,) multipliers from Monday to Sunday; the season is a cosine of relative
    `season_amplitude` that peaks on day `season_peak` of the year; on average `events_per_year`
    events of `event_days` days multiply revenue by `event_multiplier`. Raises ValueError.
    """

    weekday: Sequence[float]
    season_amplitude: float
    season_peak: float
    events_per_year: float
    event_days: int
    event_multiplier: float

    def __post_init__(self) -> None:
        """Check ranges."""
        is_week = len(self.weekday) == DAYS_PER_WEEK
        are_positive = is_week and min(*self.weekday, self.event_multiplier) > 0
        are_events = 0 <= self.events_per_year <= DAYS_PER_YEAR and self.event_days >= 1
        ok = are_positive and are_events and 0 <= self.season_amplitude < 1
        _require("rhythm", "7 weekdays, multipliers > 0, 0 <= amplitude < 1", self, ok=ok)

    def multipliers(self, dates: Days, rng: Generator) -> Floats:
        """Multiplier of revenue on each of consecutive calendar days from a Monday on: (T,)."""
        weekday = np.resize(np.array(self.weekday, dtype=float), len(dates))

        day_of_year = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
        phase = 2 * np.pi * (day_of_year - self.season_peak) / DAYS_PER_YEAR
        season = 1 + self.season_amplitude * np.cos(phase)

        event_begins = rng.random(len(dates)) < self.events_per_year / DAYS_PER_YEAR
        one_event = np.ones(self.event_days)
        running_events = np.convolve(event_begins, one_event)[: len(dates)]
        event = np.where(running_events > 0, self.event_multiplier, 1.0)

        multipliers: Floats = weekday * season * event
        return multipliers


@dataclass(frozen=True, kw_only=True)
class Effects:
    """How the `EFFECTS` vary: a base, times factors of attributes, campaigns and cohorts.

    `owners` the attributes that a campaign belongs to (app, source), `markets` those in which it
    runs (OS, country): name -> value -> factors. `campaign_sd`, `cohort_sd` standard deviations of
    the logarithm of log-normal factors with mean 1. Raises ValueError for a missing, unknown or
    negative effect.
    """

    base: EffectValues
    owners: Mapping[str, EffectsByValue]
    markets: Mapping[str, EffectsByValue]
    campaign_sd: EffectValues
    cohort_sd: EffectValues

    def __post_init__(self) -> None:
        """Check every group of factors."""
        groups = {"base": self.base, "campaign_sd": self.campaign_sd, "cohort_sd": self.cohort_sd}
        for name, table in self._tables.items():
            groups |= {f"{name}.{value}": effects for value, effects in table.items()}

        expected = f"{', '.join(EFFECT_NAMES)}, none negative"
        for key, effects in groups.items():
            is_complete = set(effects) == set(EFFECT_NAMES)
            ok = is_complete and min(effects.values()) >= 0
            _require(f"effects.{key}", expected, effects, ok=ok)

    @property
    def _tables(self) -> Mapping[str, EffectsByValue]:
        """Factors of every attribute, owners first."""
        return {**self.owners, **self.markets}

    def attribute_combinations(self) -> pd.MultiIndex:
        """Combine every owner with every market, markets varying fastest."""
        values = [list(table) for table in self._tables.values()]
        return pd.MultiIndex.from_product(values, names=list(self._tables))

    def draw(self, campaign: Ints, attributes: pd.MultiIndex, rng: Generator) -> Floats:
        """Draw the effects of cohorts (N, E), given number of the campaign and attributes (N,)."""
        campaign_shape = (campaign.max() + 1, len(EFFECT_NAMES))
        campaign_factors = _lognormal(rng, _effect_array(self.campaign_sd), campaign_shape)
        campaign_factors = campaign_factors[campaign]  # (N, E)
        cohort_factors = _lognormal(rng, _effect_array(self.cohort_sd), campaign_factors.shape)

        effects: Floats = _effect_array(self.base) * campaign_factors * cohort_factors
        for name, table in self._tables.items():
            factors = pd.DataFrame(table).loc[list(EFFECT_NAMES)]  # (E, V)
            effects *= factors[attributes.get_level_values(name)].to_numpy().T
        return effects


def _effect_array(effects: EffectValues) -> Floats:
    """Effects in the order of EFFECT_NAMES: (E,)."""
    return np.array([effects[name] for name in EFFECT_NAMES], dtype=float)


def _lognormal(rng: Generator, sd: Floats | float, shape: tuple[int, ...]) -> Floats:
    """Draw factors with mean 1 and standard deviation `sd` of the logarithm."""
    return rng.lognormal(-np.square(sd) / 2, sd, shape)


@dataclass(frozen=True)
class Portfolio:
    """The cohorts before their payers are drawn.

    `week` (N,) of acquisition; `attributes` name -> (N,); `users`, `spend` (N,) acquired users and
    what they cost; `payers` (N,) probability that a user is a payer; `price` (N,) mean spend per
    purchase; `decay` (N,) exponent of the hazard.
    """

    week: Ints
    attributes: Mapping[str, Strings]
    users: Ints
    spend: Floats
    payers: Floats
    price: Floats
    decay: Floats


@dataclass(frozen=True, kw_only=True)
class Campaigns:
    """How many campaigns there are, where they run, and for how long.

    `attribute` the name under which a campaign is reported; `markets` how many combinations of
    market attributes each runs in; its weeks are log-normal with `median_weeks` and standard
    deviation `weeks_sd` of the logarithm; those outside the timeline are not seen. Raises
    ValueError for a number out of range.
    """

    attribute: str
    count: int
    markets: int
    median_weeks: float
    weeks_sd: float

    def __post_init__(self) -> None:
        """Check ranges."""
        has_campaigns = min(self.count, self.markets) >= 1
        ok = has_campaigns and self.median_weeks > 0 and self.weeks_sd >= 0
        _require("campaigns", "count, markets >= 1, weeks > 0, weeks_sd >= 0", self, ok=ok)

    def active_weeks(self, weeks: int, rng: Generator) -> Ints:
        """Draw number of campaign and week (2, rows) for each week of each campaign.

        Each campaign runs for one week at least.
        """
        length_factor = rng.lognormal(0, self.weeks_sd, self.count)
        length = np.ceil(self.median_weeks * length_factor)  # (C,)
        earliest = 1 - length.astype(np.int64)
        first = rng.integers(earliest, weeks)[:, None]  # (C, 1)
        end = first + length[:, None]

        week = np.arange(weeks)
        is_active = (week >= first) & (week < end)  # (C, W)
        return np.argwhere(is_active).T

    def draw(self, effects: Effects, weeks: int, rng: Generator) -> Portfolio:
        """Draw a cohort for each week in which a campaign runs and each market of the campaign.

        Raises ValueError when a campaign would run in more markets than there are.
        """
        combinations = effects.attribute_combinations()
        market_count = math.prod(map(len, effects.markets.values()))
        has_markets = self.markets <= market_count
        expected = f"at most the {market_count} there are"
        _require("campaigns.markets", expected, self.markets, ok=has_markets)

        all_markets = np.tile(np.arange(market_count), (self.count, 1))  # (C, M)
        chosen_markets = rng.permuted(all_markets, axis=1)[:, : self.markets]
        active_weeks = self.active_weeks(weeks, rng)
        campaign, week = np.repeat(active_weeks, self.markets, axis=1)  # (N,) each
        market_slot = np.arange(len(campaign)) % self.markets
        market = chosen_markets[campaign, market_slot]

        # Owners take turns; the combinations of one owner, a market each, stand together.
        combination = campaign * market_count % len(combinations) + market
        cohort_attributes = combinations[combination]
        users, payers, price, decay, cost = effects.draw(campaign, cohort_attributes, rng).T
        acquired = np.maximum(rng.poisson(users), 1)

        campaign_names = [f"campaign_{number:03d}" for number in range(self.count)]
        labels = np.array(campaign_names, dtype=object)
        attributes = {
            name: cohort_attributes.get_level_values(name).to_numpy(object)
            for name in cohort_attributes.names
        }
        return Portfolio(
            week=week,
            attributes=attributes | {self.attribute: labels[campaign]},
            users=acquired,
            spend=acquired * cost,
            payers=np.minimum(payers, 1.0),
            price=price,
            decay=decay,
        )


@dataclass(frozen=True)
class Payers:
    """The payers of all cohorts, with the traits that they keep.

    `group` (P,) cohort * 7 + day of the week of acquisition; `intensity` (P,) their purchases
    relative to the mean payer's; `amount` (P,) their mean spend per purchase.
    """

    group: Ints
    intensity: Floats
    amount: Floats

    def expected_revenue(self, purchases: Floats) -> Floats:
        """Expected cumulative revenue (N, A), for expected `purchases` of intensity 1 (N, D, A)."""
        shape = purchases.shape[:2]
        spend_of_payer = self.intensity * self.amount
        spend = np.bincount(self.group, spend_of_payer, math.prod(shape))
        revenue: Floats = np.einsum("nd,nda->na", spend.reshape(shape), purchases)
        return revenue


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How payers buy.

    `purchases` the mean payer's expected number by D360, without calendar and trend;
    `intensity_shape` of the gamma distribution between payers; `whale_sd` of the logarithm of a
    payer's mean spend; `amount_shape` of a purchase's gamma distribution. The hazard falls as
    (1 + age / onset) ** -decay, in days. Revenue after age `trend_after` is multiplied by `trend`
    for each year of later acquisition. Raises ValueError for a number out of range.
    """

    purchases: float
    intensity_shape: float
    whale_sd: float
    amount_shape: float
    onset: float
    trend_after: int
    trend: float

    def __post_init__(self) -> None:
        """Check ranges."""
        positive = (self.purchases, self.intensity_shape, self.amount_shape, self.onset, self.trend)
        is_trend_age = 0 <= self.trend_after <= MAX_AGE
        ok = min(positive) > 0 and self.whale_sd >= 0 and is_trend_age
        _require("behaviour", f"numbers > 0, trend_after 0..{MAX_AGE}", self, ok=ok)

    def expected_purchases(self, portfolio: Portfolio, multipliers: Floats) -> Floats:
        """Expected cumulative purchases of a payer of intensity 1: (N, D, A).

        `multipliers` (T,) are those of each calendar day.
        """
        decay = portfolio.decay[:, None]
        hazard = (1 + np.arange(AGES) / self.onset) ** -decay  # (N, A)
        hazard *= self.purchases / hazard.sum(axis=1, keepdims=True)

        weekdays = np.arange(DAYS_PER_WEEK)
        acquired = portfolio.week[:, None] * DAYS_PER_WEEK + weekdays  # (N, D) calendar days
        daily = hazard[:, None] * sliding_window_view(multipliers, AGES)[acquired]  # (N, D, A)

        trend = self.trend ** (acquired / DAYS_PER_YEAR)  # (N, D)
        daily[..., self.trend_after + 1 :] *= trend[..., None]
        return np.cumsum(daily, axis=2, out=daily)

    def draw_payers(
        self, portfolio: Portfolio, installs: Sequence[float], rng: Generator
    ) -> Payers:
        """Draw the payers of each cohort; other users never pay and need no draw of their own."""
        count = rng.binomial(portfolio.users, portfolio.payers)
        cohort = np.repeat(np.arange(len(count)), count)  # (P,)

        weekday_shares = np.divide(installs, sum(installs))
        weekday = rng.choice(DAYS_PER_WEEK, cohort.shape, p=weekday_shares)
        intensity = rng.gamma(self.intensity_shape, 1 / self.intensity_shape, len(cohort))
        amount = portfolio.price[cohort] * _lognormal(rng, self.whale_sd, cohort.shape)
        return Payers(group=cohort * DAYS_PER_WEEK + weekday, intensity=intensity, amount=amount)

    def draw_revenue(self, payers: Payers, purchases: Floats, rng: Generator) -> Floats:
        """Draw cumulative revenue of each cohort (N, A), for expected `purchases` (N, D, A).

        Purchases are a Poisson process: their number first, then the age of each by inversion.
        """
        total = purchases[..., -1:]  # (N, D, 1)
        count = rng.poisson(payers.intensity * total.ravel()[payers.group])
        group = np.repeat(payers.group, count)  # (B,)

        # One sorted axis for all groups: the distribution function of group g lies in [g, g + 1].
        group_number = np.arange(total.size)[:, None]
        axis = group_number + (purchases / total).reshape(-1, AGES)
        place_on_axis = group + rng.random(len(group))
        cell = np.searchsorted(axis.ravel(), place_on_axis, side="right")
        age = np.minimum(cell - group * AGES, MAX_AGE)

        amount = np.repeat(payers.amount, count) / self.amount_shape
        amount *= rng.standard_gamma(self.amount_shape, len(group))
        cohort = group // DAYS_PER_WEEK
        cohort_and_age = cohort * AGES + age
        daily = np.bincount(cohort_and_age, amount, len(purchases) * AGES)
        return daily.reshape(-1, AGES).cumsum(axis=1)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated portfolio, repeated by its seed; built from `configs/data/simulated*.yaml`.

    `hierarchy` the attribute names along which segments shrink. Raises ValueError for a seed that
    is no whole number >= 0.
    """

    seed: int
    hierarchy: Sequence[str]
    timeline: Timeline
    rhythm: Rhythm
    effects: Effects
    campaigns: Campaigns
    behaviour: Behaviour

    def __post_init__(self) -> None:
        """Check the seed."""
        ok = isinstance(self.seed, int) and self.seed >= 0
        _require("seed", "a whole number >= 0", self.seed, ok=ok)

    @cached_property
    def _histories(self) -> tuple[History, History]:
        """The cohorts with revenue as drawn, and with revenue as expected."""
        streams = SeedSequence(self.seed).spawn(4)
        calendar_rng, campaigns_rng, payers_rng, purchases_rng = map(default_rng, streams)
        multipliers = self.rhythm.multipliers(self.timeline.dates, calendar_rng)
        portfolio = self.campaigns.draw(self.effects, self.timeline.weeks, campaigns_rng)
        payers = self.behaviour.draw_payers(portfolio, self.timeline.installs, payers_rng)

        purchases = self.behaviour.expected_purchases(portfolio, multipliers)  # (N, D, A)
        revenue = self.behaviour.draw_revenue(payers, purchases, purchases_rng)
        expected_revenue = payers.expected_revenue(purchases)
        return self._export(portfolio, revenue), self._export(portfolio, expected_revenue)

    def _export(self, portfolio: Portfolio, revenue: Floats) -> History:
        """Make the history of one snapshot from revenue by cohort and age (N, A)."""
        first_day = parse_day(self.timeline.first_day)
        start = first_day + portfolio.week * DAYS_PER_WEEK
        return History(
            start=start,
            end=start + DAYS_PER_WEEK - 1,
            attributes=portfolio.attributes,
            users=portfolio.users.astype(float),
            spend=portfolio.spend,
            values=revenue / portfolio.users[:, None],
            hierarchy=tuple(self.hierarchy),
            lag_days=0,
            snapshot=np.full(len(start), self.timeline.last_day),
        )

    def history(self) -> History:
        """The cohorts as exported once, when the last one has passed D360; values in currency."""
        return self._histories[0]

    @property
    def origin(self) -> np.datetime64:
        """The last day of acquisition: what is forecast there comes true within the data."""
        return self.timeline.last_day - self.timeline.maturing_weeks * DAYS_PER_WEEK

    def default_origin(self, history: History) -> np.datetime64:  # noqa: ARG002 as other sources
        """The last day of acquisition, from which the whole history follows."""
        return self.origin

    def standard_errors(self) -> None:
        """None: a simulation knows the truth itself."""
        return

    def truth(self) -> Curves:
        """Curves of the expected values Lambda, rows as in `history().as_of(last_day)`.

        Lambda (N, A) is the expected cumulative revenue per user given campaign, calendar and who
        was acquired on which day: only purchases, their days and amounts remain random.
        """
        return self._histories[1].as_of(self.timeline.last_day)
