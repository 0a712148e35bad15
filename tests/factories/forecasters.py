"""Forecasters that are fitted in no time, and note what they were asked."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ltvnet.data.curves import NODES, Curves, validate_ages
from ltvnet.forecasting.forecast import Band, Forecast
from ltvnet.forecasting.forecaster import State
from ltvnet.forecasting.run_context import RunContext


class FlatForecaster:
    """Forecasts that nothing more is earned, and notes what it saw."""

    fits: ClassVar[list[Self]] = []
    fails: ClassVar[set[str]] = set()

    def __init__(
        self, *, value: float, context: RunContext, net: Mapping[str, int] | None = None
    ) -> None:
        self.value, self.context, self.net = value, context, net
        self.start: str | None = None

    def fit(self, curves: Curves) -> Self:
        self.curves, self.day = curves, str(curves.origin)
        self.fits.append(self)
        if self.day in self.fails:
            raise RuntimeError("killed")
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        checked = validate_ages(ages)
        k = curves.observed_age[:, None]
        cells = np.where(
            (k >= 0) & (checked > k), curves.observed_value[:, None] + self.value, np.nan
        )
        band = Band(cells, cells, cells, cells)
        reasons = np.full(len(curves), "ok", dtype=object)
        return Forecast(curves, checked, cells, band, band, reasons, 360)

    def state(self) -> State:
        return {"day": self.day}, {}

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        raise NotImplementedError


class WarmStartedForecaster(FlatForecaster):
    """Notes also where it started from; it learned nothing before day `blank`."""

    blank: ClassVar[str] = ""

    def can_start(self) -> bool:
        return self.day >= self.blank

    def start_from(self, state: State) -> None:
        self.start = state[0]["day"]

    @classmethod
    def warm_up(cls) -> None:
        pass


FLAT: dict[str, Any] = {"name": "flat", "value": 0.0}


WARMED = FLAT | {"name": "warmed"}
