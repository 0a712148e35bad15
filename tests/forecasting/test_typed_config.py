"""A section of a config becomes a dataclass, or one message."""

import pytest

from ltvnet.backtesting.origins import OriginsConfig
from ltvnet.forecasting.typed_config import settings_from


def test_a_section_becomes_a_dataclass() -> None:
    made = settings_from(OriginsConfig, {"every": "4w", "last": "2024-01-01"}, "origins")
    assert made == OriginsConfig(every="4w", last="2024-01-01")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, "expected origins.KEY with KEY out of every, first, .*got origins=None"),
        ({"every": "4w", "evry": 1}, "out of every, .*got origins.evry"),
        ({"first": None}, "got none of origins.every"),
    ],
)
def test_what_is_wrong_with_a_section_is_told(section: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_from(OriginsConfig, section, "origins")
