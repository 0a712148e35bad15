"""A shop's purchases, few enough to sum by hand, as a source of cohorts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from factories.configs import CONFIGS, as_dict
from ltvnet.data.curves import History
from ltvnet.data.transactions import Transactions

LINES = """\
customer_id,date,amount,country,status
a,2024-01-01 00:00:00,10,KR,paid
a,2024-01-07 23:59:59,5,KR,paid
a,2024-01-08 00:00:00,7,US,paid
b,2024-01-03 12:00:00,20,US,paid
b,2024-01-03 13:00:00,-4,US,paid
c,2024-01-08 09:00:00,1,KR,open
c,2024-01-20 09:00:00,2,KR,paid
d,2024-02-01 18:00:00,8,,paid
d,2024-02-29 23:00:00,3,JP,paid
,2024-02-10 10:00:00,99,KR,paid
"""

USERS = """\
player,joined,country
a,2024-01-01,KR
b,2024-01-02,US
c,2024-01-10,KR
e,2024-01-05,US
f,2024-06-01,US
,2024-01-05,US
"""


def transactions_of(path: Path | str, choices: Mapping[str, Any]) -> Transactions:
    """A source as configs/data/transactions.yaml makes it, with some choices of its own."""
    changes = {"path": str(path), "engine": {"threads": 1}, **choices}
    defaults = OmegaConf.load(CONFIGS / "data" / "transactions.yaml")
    values = as_dict(OmegaConf.merge(defaults, changes))  # type: ignore[arg-type]
    return Transactions(**{name: value for name, value in values.items() if name[0] != "_"})


def shop_transactions(folder: Path, choices: Mapping[str, Any], lines: str = LINES) -> Transactions:
    """The shop's lines, complete until 2024-03-10, with some choices; cached in `folder/cache`."""
    (folder / "lines.csv").write_text(lines)
    until = {"until": "2024-03-10", "cache": str(folder / "cache")}
    return transactions_of(folder / "lines.csv", until | dict(choices))


def value_at(history: History, start: str, age: int) -> float:
    """The value of the only cohort that starts on a day."""
    (row,) = np.flatnonzero(history.start == np.datetime64(start))
    return float(history.values[row, age])


def dates_and_users(history: History) -> list[tuple[str, str, float]]:
    """The first and last day of each cohort, and its users."""
    return [
        (str(start), str(end), users)
        for start, end, users in zip(history.start, history.end, history.users, strict=True)
    ]
