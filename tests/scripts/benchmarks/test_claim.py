"""The two claims of a growth-rate LSTM: what each may see, and how it is told."""

import numpy as np
import pandas as pd
import pytest
from claim import (
    HORIZONS,
    MaturedForecasts,
    claim_table,
    claims_as_markdown,
    make_claims,
    mean_and_spread,
    random_split,
)
from factories.cohorts import weekly_history
from factories.configs import GROWTH_LSTM
from factories.models import make_forecaster

from ltvnet.data.curves import parse_day

FORECASTS = MaturedForecasts(
    actual=np.array([[2.0, 4.0, 6.0], [4.0, 8.0, np.nan]]),
    mean=np.array([[1.0, 4.0, 3.0], [2.0, 4.0, 9.0]]),
    users=np.array([1.0, 3.0]),
)


def test_scores_and_mean_error_by_hand() -> None:
    """D90: (1 + 3 * 2) / (2 + 3 * 4); D180: 3 * 4 / (4 + 3 * 8); D360: of one cohort."""
    np.testing.assert_allclose(FORECASTS.wape(), [7 / 14, 12 / 28, 3 / 6])
    np.testing.assert_allclose(FORECASTS.mean_error(), [14 / 7, 28 / 16, 6 / 3])
    assert FORECASTS.cohort_counts().tolist() == [2, 2, 1]


def test_a_correction_by_its_own_errors_has_no_error_left_on_average() -> None:
    again = FORECASTS.scale(FORECASTS.mean_error())
    np.testing.assert_allclose(again.mean_error(), 1.0)


def test_a_split_is_of_four_fifths_and_at_random() -> None:
    chosen = random_split(1000, seed=0)
    assert chosen.sum() == 800 and chosen[:800].sum() < 700
    np.testing.assert_array_equal(chosen, random_split(1000, seed=0))


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    history = weekly_history(110)
    past = [parse_day("2023-12-17"), parse_day("2024-06-16")]
    return claim_table(
        make_claims(lambda: make_forecaster(GROWTH_LSTM), 0, history, parse_day("2024-12-15"), past)
    )


def test_who_is_scored(found: pd.DataFrame) -> None:
    """Two cohorts a week; cohorts end on Sundays, so on a Sunday one week of them is at D7.

    The first cohorts ended on 2023-01-08. Matured to D90, D180 and D360 are those that ended 13,
    26 and 52 weeks before the origin: 89, 76 and 50 weeks of them. No past day saw D360 of five
    cohorts and is a year ago.
    """
    cohorts = found.set_index(["procedure", "horizon"])[["cohorts_claimed", "cohorts_realised"]]
    assert cohorts.loc["random split"].to_numpy().tolist() == [[178, 2], [152, 2], [100, 2]]
    assert cohorts.loc["backtest"].to_numpy().tolist() == [[4, 2], [4, 2], [0, 2]]


def test_the_correction_is_of_what_is_claimed(found: pd.DataFrame) -> None:
    """One factor a horizon, the same for the cohorts of the claim and those of today."""
    wape = found.set_index(["procedure", "horizon"])[["claimed", "realised"]]
    assert (wape.loc["random split, corrected"] != wape.loc["random split"]).to_numpy().all()


def test_the_table_names_every_horizon(found: pd.DataFrame) -> None:
    seeds = pd.concat([found.assign(data="weekly", seed=seed) for seed in (0, 1)])
    lines = claims_as_markdown(seeds).split("\n")
    assert len(lines) == 2 + 3 * len(HORIZONS)
    assert lines[2].startswith("| weekly | random split | D90 |")
    assert lines[2].endswith("± 0.0% | 356 | 4 |")
    assert (
        claims_as_markdown(found.assign(data="weekly"))
        .split("\n")[-1]
        .startswith("| weekly | backtest | D360 |  | ")
    )


def test_a_spread_needs_seeds() -> None:
    assert mean_and_spread(0.2, 0.01) == "20.0% ± 1.0%"
    assert mean_and_spread(0.2, np.nan) == "20.0%"
    assert mean_and_spread(np.nan, np.nan) == ""
