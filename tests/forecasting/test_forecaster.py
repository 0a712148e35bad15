"""Forecasters are found by name."""

import pytest
from factories.cohorts import weekly_history
from factories.configs import CHAIN_LADDER, corrected_config
from factories.models import make_forecaster
from factories.patterns import make_pattern


def test_the_registry_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="forecaster out of pattern, neural, .*, got 'oracle'"):
        make_forecaster({"name": "oracle"})


def test_a_corrected_forecaster_is_not_made_of_curves() -> None:
    with pytest.raises(ValueError, match="learns from curves, got 'corrected'"):
        make_forecaster(corrected_config(CHAIN_LADDER, every_weeks=4, origins=8))


def test_ages_are_asked_for_in_order() -> None:
    curves = weekly_history(9).as_of("2023-03-01")
    with pytest.raises(ValueError, match="increasing ages within 0..360"):
        make_pattern().fit(curves).predict(curves, [5, 3])
