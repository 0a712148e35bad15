"""Past forecasts and what came true of them, by interval between nodes."""

import numpy as np

from ltvnet.correction.matured_forecasts import MaturedForecasts
from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Band
from ltvnet.forecasting.interpolation import accumulate_growth

SEGMENTS = Segments.from_keys(("Apps",), [(), ("a",), ("b",)])


GRID = np.array(NODES)


INTERVALS = len(NODES) - 1


AFTER_7 = NODES.index(7)
"""The interval (7, 10]."""


def matured_forecasts(
    forecast: Floats,
    actual: Floats,
    observed: int = 7,
    week: Ints | None = None,
    users: Floats | None = None,
    segment: Ints | None = None,
    origin: Ints | None = None,
    ago: Floats | None = None,
) -> MaturedForecasts:
    """Forecasts from one observed age; by default of one user, a week and an origin each, today's.

    Segments are in turn.
    """
    number = np.arange(len(forecast))
    ahead = GRID[1:] > observed
    return MaturedForecasts(
        segments=SEGMENTS,
        segment=1 + number % 2 if segment is None else segment,
        observed_age=np.full(len(forecast), observed),
        users=np.ones(len(forecast)) if users is None else users,
        week_index=number if week is None else week,
        origin_index=number if origin is None else origin,
        days_ago=np.zeros(len(forecast)) if ago is None else ago,
        forecast_growth=np.where(ahead, forecast, 0.0),
        actual_growth=np.where(ahead, actual, 0.0),
    )


def random_matured_forecasts(seed: int, rows: int = 40, maturity: float = 0.8) -> MaturedForecasts:
    """Forecasts from all observed ages, with zeros among users, growth and what came true."""
    rng = np.random.default_rng(seed)
    observed = rng.integers(0, 360, rows)
    ahead = GRID[1:] > observed[:, None]
    growth = rng.gamma(1.0, 1.0, (2, rows, INTERVALS)) * (rng.random((2, rows, INTERVALS)) < 0.8)
    ended = np.cumprod(rng.random((rows, INTERVALS)) < maturity**0.2, axis=1).astype(bool)
    origin = rng.integers(0, 9, rows)
    return MaturedForecasts(
        segments=SEGMENTS,
        segment=rng.integers(0, 3, rows),
        observed_age=observed,
        users=rng.integers(0, 50, rows).astype(float),
        week_index=rng.integers(0, 12, rows),
        origin_index=origin,
        days_ago=100.0 * (9 - origin),
        forecast_growth=np.where(ahead, growth[0], 0.0),
        actual_growth=np.where(ahead, np.where(ended, growth[1], np.nan), 0.0),
    )


def random_band(rng: np.random.Generator, rows: int) -> tuple[Band, Ints, Floats]:
    """Bands of which every interval is ordered, as a net issues them."""
    observed, value = rng.integers(0, 360, rows), rng.gamma(1.0, 1.0, rows)
    ordered = np.sort(rng.gamma(1.0, 1.0, (3, rows, INTERVALS)), axis=0)
    ordered *= rng.random((rows, INTERVALS)) < 0.8
    ordered *= GRID[1:] > observed[:, None]
    low, middle, high = (accumulate_growth(cells, observed, value) for cells in ordered)
    return Band(middle, low, middle, high), observed, value


def stack_quantiles(band: Band) -> Floats:
    """P10, p50 and p90: (3, N, J)."""
    return np.stack([band.p10, band.p50, band.p90])


def days_far_apart(rows: int) -> Floats:
    """Days since origins so far apart that none shares a day ahead with another."""
    return 400.0 * np.arange(rows)
