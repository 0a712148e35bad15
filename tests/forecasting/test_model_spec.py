"""Mixtures name two to eight bases on one pattern."""

from collections.abc import Mapping
from typing import Any

import pytest
from factories.configs import BENKTANDER, CHAIN_LADDER, LSTM, PATTERN, corrected_config
from factories.models import make_corrected

from ltvnet.forecasting.model_spec import ModelSpec


def test_one_model_is_no_mixture() -> None:
    alone = {"name": "best", "bases": {"one": CHAIN_LADDER}}
    with pytest.raises(ValueError, match="expected at least two bases, got one"):
        make_corrected(corrected_config(alone, 13, 2))


def test_more_models_than_there_are_weights_for_are_refused() -> None:
    many = {"name": "best", "bases": {f"{m}": CHAIN_LADDER for m in range(9)}}
    with pytest.raises(ValueError, match="expected at most 8 bases, got 9"):
        make_corrected(corrected_config(many, 13, 2))
    eight = {"name": "best", "bases": {f"{m}": CHAIN_LADDER for m in range(8)}}
    assert len(ModelSpec.from_config(eight).models) == 8


@pytest.mark.parametrize("other", [CHAIN_LADDER, BENKTANDER | {"pattern": CHAIN_LADDER}])
def test_models_on_other_patterns_are_refused(other: Mapping[str, Any]) -> None:
    """Of them `pattern`, `reason` and `reach` could be those of one only."""
    unlike = ", ".join(key for key in PATTERN if PATTERN[key] != CHAIN_LADDER[key])
    message = f"on the same pattern, got that of other unlike that of lstm in {unlike}"
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_config({"name": "best", "bases": {"lstm": LSTM, "other": other}})
    trees = {"name": "boosting", "pattern": PATTERN}
    on_one_pattern = {"lstm": LSTM, "trees": trees, "pattern": PATTERN, "more": {"name": "none"}}
    spec = ModelSpec.from_config({"name": "best", "bases": on_one_pattern})
    assert {name: one.as_config() for name, one in spec.models.items()} == on_one_pattern
