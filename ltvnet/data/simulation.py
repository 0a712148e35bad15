"""Cohorts with a known truth: campaigns, payers and purchases drawn from stated distributions.

The numbers of the economy stand in `configs/data/simulated*.yaml`. Calendar, campaigns, payers and
purchases draw from streams of their own, so a preset changes no draw of the stages before its own.

Shapes: E effects, V values of an attribute, C campaigns, M markets, N cohorts, W weeks, D days of
a week, T calendar days, P payers, B purchases, A ages, H ages asked for.
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
from ltvnet.data.curves import AGES, MAX_AGE, NODES, Curves, History, parse_day, validate_ages

EFFECT_NAMES = ("users", "payers", "price", "decay", "cost")
"""What differs between cohorts: users acquired, share of payers, mean spend per purchase, exponent
of the falling hazard, cost per user; in this order on the axis E."""

EffectValues = Mapping[str, float]
EffectsByValue = Mapping[str, EffectValues]

DAYS_PER_WEEK, DAYS_PER_YEAR = 7, 365.25  # days


def _check(key: str, expected: str, got: object, *, ok: bool) -> None:
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
        """Check."""
        monday = pd.Timestamp(parse_day(self.first_day)).weekday() == 0
        _check("timeline.first_day", "a Monday", self.first_day, ok=monday)
        least = math.ceil(MAX_AGE / DAYS_PER_WEEK)
        long = self.weeks >= 1 and self.maturing_weeks >= least
        _check("timeline", f"weeks >= 1 and maturing_weeks >= {least}", self, ok=long)
        shares = (
            len(self.installs) == DAYS_PER_WEEK
            and min(self.installs) >= 0
            and sum(self.installs) > 0
        )
        _check("timeline.installs", "7 shares from Monday", self.installs, ok=shares)

    @property
    def dates(self) -> Days:
        """Every calendar day (T,) on which a user of at most age 360 can buy."""
        return parse_day(self.first_day) + np.arange(self.weeks * DAYS_PER_WEEK + MAX_AGE)

    @property
    def last_day(self) -> np.datetime64:
        """Day of the snapshot."""
        return parse_day(self.first_day) + (self.weeks + self.maturing_weeks) * DAYS_PER_WEEK - 1


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
        """Check."""
        positive = (
            len(self.weekday) == DAYS_PER_WEEK and min(*self.weekday, self.event_multiplier) > 0
        )
        events = 0 <= self.events_per_year <= DAYS_PER_YEAR and self.event_days >= 1
        good = positive and events and 0 <= self.season_amplitude < 1
        _check("rhythm", "7 weekdays, multipliers > 0, 0 <= amplitude < 1", self, ok=good)

    def multipliers(self, dates: Days, rng: Generator) -> Floats:
        """Multiplier of revenue on each of consecutive calendar days from a Monday on: (T,)."""
        day_of_year = (dates - dates.astype("datetime64[Y]")).astype(np.int64)
        phase = 2 * np.pi * (day_of_year - self.season_peak) / DAYS_PER_YEAR
        season = 1 + self.season_amplitude * np.cos(phase)
        begins = rng.random(len(dates)) < self.events_per_year / DAYS_PER_YEAR
        event = np.convolve(begins, np.ones(self.event_days))[: len(dates)] > 0
        weekday = np.resize(np.array(self.weekday, dtype=float), len(dates))
        calendar: Floats = weekday * season * np.where(event, self.event_multiplier, 1.0)
        return calendar


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
        given = {"base": self.base, "campaign_sd": self.campaign_sd, "cohort_sd": self.cohort_sd}
        for name, table in self._tables.items():
            given |= {f"{name}.{value}": effect for value, effect in table.items()}
        for key, effect in given.items():
            good = set(effect) == set(EFFECT_NAMES) and min(effect.values()) >= 0
            _check(f"effects.{key}", f"{', '.join(EFFECT_NAMES)}, none negative", effect, ok=good)

    @property
    def _tables(self) -> Mapping[str, EffectsByValue]:
        return {**self.owners, **self.markets}

    def attribute_combinations(self) -> pd.MultiIndex:
        """All combinations of an owner and a market, markets varying fastest."""
        values = [list(table) for table in self._tables.values()]
        return pd.MultiIndex.from_product(values, names=list(self._tables))

    def draw(self, campaign: Ints, place: pd.MultiIndex, rng: Generator) -> Floats:
        """The effects of cohorts (N, E), by number of the campaign (N,) and place (N,)."""
        shape = (campaign.max() + 1, len(EFFECT_NAMES))
        own = _lognormal(rng, _array(self.campaign_sd), shape)[campaign]
        drawn: Floats = _array(self.base) * own * _lognormal(rng, _array(self.cohort_sd), own.shape)
        for name, table in self._tables.items():
            factors = pd.DataFrame(table).loc[list(EFFECT_NAMES)]  # (E, V)
            drawn *= factors[place.get_level_values(name)].to_numpy().T
        return drawn


def _array(effect: EffectValues) -> Floats:
    return np.array([effect[name] for name in EFFECT_NAMES], dtype=float)  # (E,)


def _lognormal(rng: Generator, sd: Floats | float, shape: tuple[int, ...]) -> Floats:
    """Factors with mean 1 and standard deviation `sd` of the logarithm."""
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
        """Check."""
        good = min(self.count, self.markets) >= 1 and self.median_weeks > 0 and self.weeks_sd >= 0
        _check("campaigns", "count, markets >= 1, weeks > 0, weeks_sd >= 0", self, ok=good)

    def active_weeks(self, weeks: int, rng: Generator) -> Ints:
        """Number of campaign and week (2, rows) for each week of each campaign, at least one."""
        length = np.ceil(self.median_weeks * rng.lognormal(0, self.weeks_sd, self.count))
        first = rng.integers(1 - length.astype(np.int64), weeks)[:, None]
        week = np.arange(weeks)
        return np.argwhere((week >= first) & (week < first + length[:, None])).T  # of (C, W)

    def draw(self, effects: Effects, weeks: int, rng: Generator) -> Portfolio:
        """A cohort for each week in which a campaign runs and each market of the campaign.

        Raises ValueError when a campaign would run in more markets than there are.
        """
        places, markets = (
            effects.attribute_combinations(),
            math.prod(map(len, effects.markets.values())),
        )
        few = self.markets <= markets
        _check("campaigns.markets", f"at most the {markets} there are", self.markets, ok=few)
        every = np.tile(np.arange(markets), (self.count, 1))  # (C, M)
        chosen = rng.permuted(every, axis=1)[:, : self.markets]
        campaign, week = np.repeat(self.active_weeks(weeks, rng), self.markets, axis=1)  # (N,) each
        market = chosen[campaign, np.arange(len(campaign)) % self.markets]
        # Owners take turns; the places of one owner, a market each, stand together.
        place = places[campaign * markets % len(places) + market]
        users, payers, price, decay, cost = effects.draw(campaign, place, rng).T
        acquired = np.maximum(rng.poisson(users), 1)
        labels = np.array([f"campaign_{number:03d}" for number in range(self.count)], dtype=object)
        attributes = {name: place.get_level_values(name).to_numpy(object) for name in place.names}
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

    def expected(self, growth: Floats) -> Floats:
        """Expected cumulative revenue (N, A), for expected purchases `growth` (N, D, A)."""
        groups = growth.shape[:2]
        weight = np.bincount(self.group, self.intensity * self.amount, math.prod(groups))
        revenue: Floats = np.einsum("nd,nda->na", weight.reshape(groups), growth)
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
        """Check."""
        positive = (self.purchases, self.intensity_shape, self.amount_shape, self.onset, self.trend)
        good = min(positive) > 0 and self.whale_sd >= 0 and 0 <= self.trend_after <= MAX_AGE
        _check("behaviour", f"numbers > 0, trend_after 0..{MAX_AGE}", self, ok=good)

    def growth(self, portfolio: Portfolio, rhythm: Floats) -> Floats:
        """Expected cumulative purchases of a payer of intensity 1: (N, D, A).

        `rhythm` (T,) is the multiplier of each calendar day.
        """
        hazard = (1 + np.arange(AGES) / self.onset) ** -portfolio.decay[:, None]  # (N, A)
        hazard *= self.purchases / hazard.sum(axis=1, keepdims=True)
        acquired = portfolio.week[:, None] * DAYS_PER_WEEK + np.arange(DAYS_PER_WEEK)  # (N, D)
        daily = hazard[:, None] * sliding_window_view(rhythm, AGES)[acquired]  # (N, D, A)
        daily[..., self.trend_after + 1 :] *= (self.trend ** (acquired / DAYS_PER_YEAR))[..., None]
        return np.cumsum(daily, axis=2, out=daily)

    def draw(self, portfolio: Portfolio, installs: Sequence[float], rng: Generator) -> Payers:
        """The payers of each cohort; its other users never pay and need no draw of their own."""
        count = rng.binomial(portfolio.users, portfolio.payers)
        cohort = np.repeat(np.arange(len(count)), count)  # (P,)
        return Payers(
            group=cohort * DAYS_PER_WEEK
            + rng.choice(DAYS_PER_WEEK, cohort.shape, p=np.divide(installs, sum(installs))),
            intensity=rng.gamma(self.intensity_shape, 1 / self.intensity_shape, len(cohort)),
            amount=portfolio.price[cohort] * _lognormal(rng, self.whale_sd, cohort.shape),
        )

    def buy(self, payers: Payers, growth: Floats, rng: Generator) -> Floats:
        """Cumulative revenue of each cohort (N, A), for expected purchases `growth` (N, D, A).

        Purchases are a Poisson process: their number first, then the age of each by inversion.
        """
        total = growth[..., -1:]
        count = rng.poisson(payers.intensity * total.ravel()[payers.group])
        group = np.repeat(payers.group, count)  # (B,)
        # One sorted axis for all groups: the distribution function of group g lies in [g, g + 1].
        axis = np.arange(total.size)[:, None] + (growth / total).reshape(-1, AGES)
        cell = np.searchsorted(axis.ravel(), group + rng.random(len(group)), side="right")
        age = np.minimum(cell - group * AGES, MAX_AGE)
        spent = np.repeat(payers.amount, count) / self.amount_shape
        spent *= rng.standard_gamma(self.amount_shape, len(group))
        daily = np.bincount(group // DAYS_PER_WEEK * AGES + age, spent, len(growth) * AGES)
        return daily.reshape(-1, AGES).cumsum(axis=1)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A simulated portfolio, always the same for a seed; built from `configs/data/simulated*.yaml`.

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
        """Check."""
        good = isinstance(self.seed, int) and self.seed >= 0
        _check("seed", "a whole number >= 0", self.seed, ok=good)

    @cached_property
    def _drawn(self) -> tuple[History, History]:
        """The cohorts with revenue as drawn, and with revenue as expected."""
        streams = [default_rng(stream) for stream in SeedSequence(self.seed).spawn(4)]
        rhythm = self.rhythm.multipliers(self.timeline.dates, streams[0])
        portfolio = self.campaigns.draw(self.effects, self.timeline.weeks, streams[1])
        payers = self.behaviour.draw(portfolio, self.timeline.installs, streams[2])
        growth = self.behaviour.growth(portfolio, rhythm)  # (N, D, A)
        revenue = self.behaviour.buy(payers, growth, streams[3])
        expected = payers.expected(growth)
        return self._exported(portfolio, revenue), self._exported(portfolio, expected)

    def _exported(self, portfolio: Portfolio, revenue: Floats) -> History:
        start = parse_day(self.timeline.first_day) + portfolio.week * DAYS_PER_WEEK
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
        return self._drawn[0]

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
        """The same cohorts with expected values Lambda, rows as in `history().as_of(last_day)`.

        Lambda (N, A) is the expected cumulative revenue per user given campaign, calendar and who
        was acquired on which day: only purchases, their days and amounts remain random.
        """
        return self._drawn[1].as_of(self.timeline.last_day)


def oracle(truth: Curves, curves: Curves, ages: Sequence[int] = NODES) -> Floats:
    """The forecast of one who knows the truth: y(k) + Lambda(h) - Lambda(k), (N, H).

    Cells at ages not later than the observed age k are NaN, as are rows with no complete age.
    Raises ValueError when a cohort of `curves` is not in `truth`.
    """
    asked = validate_ages(ages)
    rows = truth.index.get_indexer(curves.index)
    if (rows < 0).any():
        raise ValueError(f"expected cohorts of one simulation, got {curves.index[rows < 0][0]} too")
    k = curves.observed_age[:, None]
    expected = truth.values[rows]
    growth = expected[:, asked] - np.take_along_axis(expected, np.maximum(k, 0), axis=1)
    return np.where((k >= 0) & (asked > k), curves.observed_value[:, None] + growth, np.nan)
