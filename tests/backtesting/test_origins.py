"""Past days to replay: how many, how far apart, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest
from factories.cohorts import weekly_history
from factories.configs import as_dict, compose_config
from factories.replays import as_text, replay_plan

from ltvnet.backtesting.origins import (
    OriginsConfig,
    choose_origins,
    evenly_spaced_origins,
    past_origins,
)
from ltvnet.data.curves import History


def test_origins_include_both_ends() -> None:
    dates = evenly_spaced_origins("2025-01-01", "2025-01-29", 14)
    assert [str(date) for date in dates] == ["2025-01-01", "2025-01-15", "2025-01-29"]
    with pytest.raises(ValueError, match="expected first <= last"):
        evenly_spaced_origins("2025-01-02", "2025-01-01", 7)


def test_past_origins_have_seen_a_quarter_and_eight_weeks(portfolio: History) -> None:
    """The first cohort ended on 2023-01-08: eight weeks later it is 2023-03-05."""
    last = np.datetime64("2023-05-01")
    april, march = "2023-04-03", "2023-03-06"
    assert as_text(past_origins(portfolio, last, 4, 9)) == [march, april]
    assert as_text(past_origins(portfolio, last, 4, 1)) == [april]
    assert as_text(past_origins(portfolio, last - 1, 4, 9)) == ["2023-03-05", "2023-04-02"]
    assert as_text(past_origins(portfolio, last - 2, 4, 9)) == ["2023-04-01"]
    year = np.datetime64("2024-01-07")  # 364 days later, a quarter of which is 13 weeks
    assert as_text(past_origins(portfolio, year, 13, 9)) == [
        "2023-04-09",
        "2023-07-09",
        "2023-10-08",
    ]


def test_past_origins_have_something_left_to_forecast() -> None:
    """Cohorts until 2023-03-05, complete 360 days later, on 2024-02-28."""
    short = weekly_history(9)
    last = np.datetime64("2024-02-28")
    assert as_text(past_origins(short, last + 28, 4, 3)) == ["2024-01-03", "2024-01-31"]
    assert as_text(past_origins(short, last + 27, 4, 1)) == ["2024-02-27"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": "sliding"}, "expected window=expanding or sliding:52w, got 'sliding'"),
        ({"window": "sliding:0w"}, "expected window=expanding or sliding:52w, got 'sliding:0w'"),
        ({"window": "sliding:52"}, "expected window=expanding or sliding:52w, got 'sliding:52'"),
        ({"refit": "every"}, "expected refit=each, every_K or frozen, got 'every'"),
        ({"refit": "every_0"}, "expected refit=each, every_K or frozen, got 'every_0'"),
        ({"window": 52}, "expected window=expanding or sliding:52w, got 52"),
        ({"refit": 3}, "expected refit=each, every_K or frozen, got 3"),
        ({"workers": 0}, "expected workers, a whole number >= 1, got 0"),
        ({"workers": "two"}, "expected workers, a whole number >= 1, got 'two'"),
        ({"workers": True}, "expected workers, a whole number >= 1, got True"),
        ({"warm": "maybe"}, "expected warm=true or false, got 'maybe'"),
        ({"ages": 7}, "expected ages=[] or whole days such as [7,30], got 7"),
        ({"ages": None}, "expected ages=[] or whole days such as [7,30], got None"),
        ({"ages": [7.5]}, "expected ages=[] or whole days such as [7,30], got [7.5]"),
        ({"ages": [7, 7]}, "expected increasing ages within 0..360, got [7, 7]"),
    ],
)
def test_plans_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replay_plan(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 4}, "expected origins.every in weeks, such as 4w, got 4"),
        ({"every": "0w"}, "expected origins.every in weeks, such as 4w, got '0w'"),
        ({"dates": "2024-01-01"}, "expected origins.dates as a list such as [2024-01-01,2024-"),
        (
            {"dates": 2024},
            "expected origins.dates as a list such as [2024-01-01,2024-02-01], got 2",
        ),
        ({"dates": []}, "expected origins.dates as a list such as [2024-01-01,2024-02-01], got []"),
    ],
)
def test_calendars_are_checked(portfolio: History, changes: dict[str, Any], message: str) -> None:
    settings = as_dict(compose_config("backtest").origins)
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_origins(portfolio, OriginsConfig(**settings | changes))
