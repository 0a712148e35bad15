"""What a forecaster does, and the registry of forecasters by name."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""What a fitted forecaster is made of: JSON values, and arrays by name."""


@runtime_checkable
class Predictor(Protocol):
    """Anything that was fitted, forecasts curves and can be written to a bundle."""

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each row of `curves` at `ages`; a row's forecast depends on no other row."""
        ...

    def state(self) -> State:
        """The fitted forecaster as data."""
        ...

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        ...


@runtime_checkable
class Forecaster(Predictor, Protocol):
    """A predictor that learns from curves as of an origin."""

    def fit(self, curves: Curves) -> Self:
        """Learn from what was known at the origin of `curves`."""
        ...


REGISTRY: Mapping[str, str] = {
    "pattern": "ltvnet.models.pattern.pattern:Pattern",
    "neural": "ltvnet.models.neural.forecaster:Neural",
    "corrected": "ltvnet.correction.corrected:Corrected",
    "mack": "ltvnet.models.baselines.mack:Mack",
    "benktander": "ltvnet.models.baselines.benktander:Benktander",
    "growth_curve": "ltvnet.models.baselines.growth_curve:GrowthCurve",
    "loglinear": "ltvnet.models.baselines.loglinear:LogLinear",
    "power_law": "ltvnet.models.baselines.power_law:PowerLaw",
    "neighbours": "ltvnet.models.baselines.neighbours:Neighbours",
    "boosting": "ltvnet.models.baselines.boosting:Boosting",
    "growth_lstm": "ltvnet.models.baselines.growth_lstm:GrowthLSTM",
}


def resolve(name: str) -> type[Predictor]:
    """The class of a registered forecaster. Raises ValueError for a name that is not registered."""
    if name not in REGISTRY:
        raise ValueError(f"expected a forecaster out of {', '.join(REGISTRY)}, got {name!r}")
    module, _, attribute = REGISTRY[name].partition(":")
    cls: type[Predictor] = getattr(import_module(module), attribute)
    return cls


def create(config: Mapping[str, Any]) -> Forecaster:
    """A forecaster from its config: `name` in the registry, and the arguments of its class.

    Raises ValueError for a name that is not registered, and for "corrected", which is made of a
    forecaster and its past.
    """
    arguments = dict(config)
    cls = resolve(arguments.pop("name"))
    if not issubclass(cls, Forecaster) or config["name"] == "corrected":
        raise ValueError(f"expected a model that learns from curves, got {config['name']!r}")
    forecaster: Forecaster = cls(**arguments)
    return forecaster


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def nested(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays with names that begin with `prefix`, which `below` takes off again."""
    return {prefix + name: array for name, array in arrays.items()}
