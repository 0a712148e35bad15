"""The protocols of forecasters, and the state that a fitted one is stored as."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from ltvnet.data.curves import NODES, Curves
from ltvnet.forecasting.forecast import Forecast

StateValues = Mapping[str, Any]
"""Values of a fitted forecaster that JSON can hold."""

StateArrays = Mapping[str, NDArray[Any]]
"""Arrays of a fitted forecaster by name; those of its parts have a prefix."""

State = tuple[StateValues, StateArrays]
"""A fitted forecaster as data: JSON values, and arrays by name."""


@runtime_checkable
class Predictor(Protocol):
    """Anything that was fitted, forecasts curves and can be written to a bundle."""

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each row of `curves` at `ages`; a row's forecast depends on no other row."""
        ...

    def state(self) -> State:
        """Return the fitted forecaster as data."""
        ...

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the forecaster that `state()` described."""
        ...


@runtime_checkable
class Forecaster(Predictor, Protocol):
    """A predictor that learns from curves as of an origin."""

    def fit(self, curves: Curves) -> Self:
        """Learn from what was known at the origin of `curves`."""
        ...


def strip_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Select the arrays whose names begin with `prefix`, and take it off their names."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def add_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Put `prefix` before the name of each array; `strip_prefix` takes it off again."""
    return {prefix + name: array for name, array in arrays.items()}
