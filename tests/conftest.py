"""Fixtures of several test modules: they take long to make, and no test changes them."""

from typing import TYPE_CHECKING

import pytest
from factories.cohorts import drifting_history, weekly_history, with_complete_age
from factories.configs import PATTERN
from factories.forecasters import FlatForecaster
from factories.leaderboards import BOARD_AGES
from factories.models import make_forecaster
from factories.walks import DAY, fit_corrected, walk_days

from ltvnet.backtesting.ledger import LedgerEntries
from ltvnet.backtesting.replay import forecast_entries
from ltvnet.backtesting.scores import BacktestRecord, build_record
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.walk_forward import WalkForward
from ltvnet.data.curves import Curves, History
from ltvnet.forecasting import registry
from ltvnet.forecasting.registry import Registration

if TYPE_CHECKING:
    from ltvnet.models.neural.cohort_tensors import CohortTensors
    from ltvnet.models.neural.input_scaling import InputScaling


@pytest.fixture(scope="session")
def portfolio() -> History:
    """Cohorts of two apps from 2023-01-02 on."""
    return weekly_history(70)


@pytest.fixture(scope="session")
def curves() -> Curves:
    """Cohorts of two apps from 2023-01-02 on, as known on 2024-02-29."""
    return weekly_history(60).as_of("2024-02-29")


@pytest.fixture(scope="session")
def training_curves(curves: Curves) -> Curves:
    """The cohorts among them that have a complete age, which a net is trained on."""
    return with_complete_age(curves)


@pytest.fixture(scope="session")
def windows(training_curves: Curves) -> "CohortTensors":
    """The tensors that a net is trained on."""
    from factories.neural import make_neural, windows_of  # imports torch, which takes long

    return windows_of(make_neural().prepare(training_curves), training_curves)


@pytest.fixture(scope="session")
def prepared(training_curves: Curves) -> "tuple[CohortTensors, InputScaling]":
    """The tensors that a net is trained on, and the scaling of its inputs."""
    from factories.neural import make_neural, windows_of

    fitted = make_neural().prepare(training_curves)
    return windows_of(fitted, training_curves), fitted.scaling


@pytest.fixture(scope="session")
def pattern_record(portfolio: History) -> BacktestRecord:
    """The pattern's forecasts of three past days, of two apps."""
    parts = []
    for day in ("2023-09-07", "2023-12-07", "2024-03-07"):
        curves = portfolio.as_of(day)
        parts.append(forecast_entries(make_forecaster(PATTERN).fit(curves), curves, BOARD_AGES))
    return build_record("pattern", LedgerEntries.concatenate(parts), portfolio)


@pytest.fixture(scope="session")
def drifting_past() -> History:
    """Cohorts whose growth after D7 falls by 30 % a year."""
    return drifting_history(0.3)


@pytest.fixture(scope="session")
def drifting_curves(drifting_past: History) -> Curves:
    """The drifting cohorts, as known on the day that a model is trained."""
    return drifting_past.as_of(DAY)


@pytest.fixture(scope="session")
def corrected_ladder(drifting_past: History) -> Corrected:
    """A chain ladder that has learned from eight past days."""
    return fit_corrected(drifting_past)


@pytest.fixture(scope="session")
def replayed_walk(drifting_past: History, tmp_path_factory: pytest.TempPathFactory) -> WalkForward:
    """Nine past days of a chain ladder, walked forward."""
    return walk_days(drifting_past, tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def registered_flat_forecasters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry know the forecasters that note what they were asked."""
    more = {
        "flat": Registration("factories.forecasters:FlatForecaster", takes="context"),
        "warmed": Registration("factories.forecasters:WarmStartedForecaster", takes="context"),
    }
    monkeypatch.setattr(registry, "REGISTRY", {**registry.REGISTRY, **more})
    FlatForecaster.fits.clear()
    FlatForecaster.fails.clear()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out of pages: they take long to draw."""
    monkeypatch.setattr("ltvnet.reports.model_page.page_figures", lambda story: {})
