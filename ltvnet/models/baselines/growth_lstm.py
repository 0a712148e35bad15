"""The next-day growth-rate LSTM, rolled out day by day.

The model that such forecasts are usually made with: it sees the last week of daily growth rates,
neither age nor segment, and feeds on its own forecasts. What is claimed of it and what came true
is compared by scripts/benchmarks/claim.py.

Shapes: N cohorts, R of them that can grow, A ages, W days of a window, M windows, B windows of a
batch, H ages asked for.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltvnet.data.arrays import Floats, Ints
from ltvnet.data.curves import NODES, Curves, validate_ages
from ltvnet.forecasting.evidence import MIN_COHORTS_TO_LEARN
from ltvnet.forecasting.forecast import Forecast
from ltvnet.forecasting.forecaster import State, StateArrays, StateValues, add_prefix, strip_prefix
from ltvnet.forecasting.model_spec import Config
from ltvnet.forecasting.typed_config import check_arguments
from ltvnet.models.baselines.fallback import (
    baseline_state,
    forecast_with_fallback,
    require_fitted,
    restore_baseline,
    with_complete_age,
)
from ltvnet.models.pattern.pattern import Pattern

log = logging.getLogger(__name__)

WINDOW_DAYS = 7
"""Daily growth rates that the next one is forecast from."""

MAX_GRADIENT_NORM = 1.0
"""Norm of gradients: on some days a tiny cohort grows a hundredfold."""


def growth_rates(values: Floats) -> Floats:
    """Growth y(a + 1) / y(a) - 1 from each age to the next: (N, A - 1) of values (N, A).

    0 where nothing stands to grow from, NaN where the later value is not known.
    """
    base = values[:, :-1]
    increment = np.diff(values, axis=1)
    return np.divide(increment, base, out=increment * 0.0, where=base > 0)


def rate_windows(values: Floats) -> Floats:
    """Rates of the WINDOW_DAYS days before each age: (N, A, W) of values (N, A), a read-only view.

    0 before day 0 and where a rate is not known.
    """
    rates = np.nan_to_num(growth_rates(values))
    padded = np.pad(rates, ((0, 0), (WINDOW_DAYS, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW_DAYS, axis=1)


def training_windows(values: Floats, last: Ints) -> tuple[Floats, Floats]:
    """Windows (M, W) of curves and the rates that followed (M,): inputs and targets of a net.

    `values` (N, A), `last` (N,) the last age known of each. Every age from 1 on is a target that
    the curve can grow from.
    """
    age = np.arange(values.shape[1] - 1)
    has_target = (age >= 1) & (age < last[:, None]) & (values[:, :-1] > 0)  # (N, A - 1)
    windows = rate_windows(values)[:, :-1]
    return windows[has_target], growth_rates(values)[has_target]


def check_net_sizes(*, units: Sequence[int], dense: int, dropout: float) -> None:
    """Raise ValueError for no units, sizes below 1 or a dropout outside [0, 1)."""
    if not units or min(*units, dense) < 1 or not 0.0 <= dropout < 1.0:
        raise ValueError(
            "expected units and dense >= 1, units of a layer or more, and dropout in [0, 1), got "
            f"{list(units)}, {dense} and {dropout}"
        )


class GrowthRateNet(nn.Module):
    """Recurrent layers over a window of rates, a dense layer, one positive rate.

    `units` of the recurrent layers, `dense` of the hidden one, `dropout` after each recurrent
    one; `unit` a typical rate, in which rates come in and go out. Raises ValueError for no units,
    sizes below 1 or a dropout outside [0, 1).
    """

    def __init__(self, *, units: Sequence[int], dense: int, dropout: float, unit: float) -> None:
        """Build the layers."""
        super().__init__()
        check_net_sizes(units=units, dense=dense, dropout=dropout)
        input_sizes = [1, *units[:-1]]
        self.layers = nn.ModuleList(
            nn.LSTM(input_size, output_size, batch_first=True)
            for input_size, output_size in zip(input_sizes, units, strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(units[-1], dense)
        self.head = nn.Linear(dense, 1)
        self.unit = unit

    def forward(self, window: Tensor) -> Tensor:
        """Forecast the next rate (B,) after a window (B, W)."""
        hidden = (window / self.unit).unsqueeze(2)  # (B, W, 1)
        for layer in self.layers:
            hidden = self.dropout(layer(hidden)[0])  # (B, W, units)

        last_day = functional.relu(self.dense(hidden[:, -1]))  # (B, dense)
        raw_rate = self.head(last_day)  # (B, 1)
        return self.unit * functional.softplus(raw_rate.squeeze(1))


class GrowthLSTM:
    """A forecaster of the next day's growth rate, applied until the last age.

    `net` the sizes of GrowthRateNet; Adam on the squared error of rates, its learning rate falling
    from `rate` to 0, for `epochs` of at most `windows` drawn at random, in batches of `batch_size`,
    from `seed`; `pattern` the config of a Pattern, which forecasts where no rate is known or
    nothing stands to grow from. Raises ValueError for a number out of range.
    """

    def __init__(
        self,
        *,
        net: Config,
        epochs: int,
        windows: int,
        batch_size: int,
        rate: float,
        seed: int,
        pattern: Config,
    ) -> None:
        """Take the configuration; nothing is random here."""
        if min(epochs, windows, batch_size) < 1 or rate <= 0:
            raise ValueError(
                "expected epochs, windows and batch_size >= 1 and rate > 0, got "
                f"{epochs}, {windows}, {batch_size} and {rate}"
            )
        check_arguments(check_net_sizes, net, "net")
        check_net_sizes(**net)
        self.net_sizes = dict(net)
        self.epochs = epochs
        self.windows = windows
        self.batch_size = batch_size
        self.rate = rate
        self.seed = seed
        self.pattern = Pattern.from_config(pattern)
        self.net: GrowthRateNet | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the constructor but for the pattern, as a state has them."""
        return {
            "net": self.net_sizes,
            "epochs": self.epochs,
            "windows": self.windows,
            "batch_size": self.batch_size,
            "rate": self.rate,
            "seed": self.seed,
        }

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, and the net where there are enough cohorts.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.net = None

        windows, rates = training_windows(curves.values, curves.observed_age)
        week_old = int((curves.observed_age >= WINDOW_DAYS).sum())
        if len(curves) < MIN_COHORTS_TO_LEARN or not week_old or not rates.sum() > 0:
            log.warning(
                "too little data for growth rates (%d cohorts, %d of them observed to D%d): the "
                "pattern forecasts alone", len(curves), week_old, WINDOW_DAYS,
            )  # fmt: skip
            return self
        return self.train_net(windows, rates)

    def train_net(
        self,
        windows: Floats,
        rates: Floats,
        watch: Callable[[GrowthRateNet], None] | None = None,
    ) -> Self:
        """Train a new net to forecast rates (M,) above 0 on average from windows (M, W).

        `watch` is shown the net after each epoch, and leaves it in training mode.
        """
        inputs = torch.from_numpy(windows.astype(np.float32))
        targets = torch.from_numpy(rates.astype(np.float32))

        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = GrowthRateNet(**self.net_sizes, unit=float(rates.mean()))
            optimizer = torch.optim.Adam(net.parameters(), lr=self.rate)
            steps_an_epoch = math.ceil(min(self.windows, len(inputs)) / self.batch_size)
            schedule = torch.optim.lr_scheduler.LinearLR(
                optimizer, 1.0, 0.0, self.epochs * steps_an_epoch
            )

            for _ in range(self.epochs):
                drawn = torch.randperm(len(inputs))[: self.windows]
                for rows in torch.split(drawn, self.batch_size):
                    _train_step(net, optimizer, inputs[rows], targets[rows])
                    schedule.step()
                if watch is not None:
                    watch(net)

        self.net = net.eval()
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        require_fitted(self)
        pattern_forecast = self.pattern.predict(curves, ages)
        if self.net is None:
            return pattern_forecast
        return forecast_with_fallback(pattern_forecast, roll_out(self.net, curves, ages))

    def state(self) -> State:
        """Describe the forecaster: the net's sizes and weights, and the pattern's state."""
        require_fitted(self)
        unit = None
        weights: dict[str, NDArray[Any]] = {}
        if self.net is not None:
            unit = self.net.unit
            weights = {name: weight.numpy() for name, weight in self.net.state_dict().items()}

        values = {"arguments": self.arguments, "unit": unit}
        return baseline_state(self.pattern, values, add_prefix(weights, "net/"))

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Make the forecaster that `state()` described."""
        forecaster = restore_baseline(cls, values, arrays)
        if values["unit"] is None:
            return forecaster

        weights = {
            name: torch.from_numpy(weight.copy())
            for name, weight in strip_prefix(arrays, "net/").items()
        }
        forecaster.net = GrowthRateNet(**forecaster.net_sizes, unit=values["unit"]).eval()
        forecaster.net.load_state_dict(weights)
        return forecaster


def _train_step(
    net: GrowthRateNet, optimizer: torch.optim.Optimizer, windows: Tensor, rates: Tensor
) -> None:
    """Move a net's weights by the squared error of a batch: windows (B, W), rates (B,)."""
    optimizer.zero_grad()
    error = (net(windows) - rates) / net.unit
    error.square().mean().backward()
    nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()


def roll_out(net: GrowthRateNet, curves: Curves, ages: Sequence[int]) -> Floats:
    """Forecast values at `ages` (N, H) a day at a time, each on the forecasts of days before it.

    NaN at ages observed, where no rate is known (k < 1) and where there is nothing to grow from.
    """
    target_ages = validate_ages(ages)
    observed_age = curves.observed_age
    values = np.full((len(observed_age), len(target_ages)), np.nan)

    # Youngest first: the cohorts that have begun at an age are then the first `begun` rows.
    rows = np.flatnonzero((observed_age >= 1) & (curves.observed_value > 0))
    rows = rows[np.argsort(observed_age[rows], kind="stable")]
    if not len(rows):
        return values

    begin_age = observed_age[rows]
    value = curves.observed_value[rows]
    observed_windows = rate_windows(curves.values)[rows, begin_age]  # (R, W)
    window = torch.from_numpy(observed_windows.astype(np.float32))
    column_of_age = {age: column for column, age in enumerate(target_ages.tolist())}

    # A value that explodes is not finite, and the pattern speaks there.
    with _one_thread(), torch.inference_mode(), np.errstate(over="ignore"):
        for age in range(begin_age[0], target_ages[-1]):
            begun = np.searchsorted(begin_age, age, side="right")
            rate = net(window[:begun])
            window[:begun] = torch.cat((window[:begun, 1:], rate[:, None]), dim=1)
            value[:begun] *= 1.0 + rate.numpy()

            column = column_of_age.get(age + 1)
            if column is not None:
                values[rows[:begun], column] = value[:begun]

    return values


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread of torch: for nets this small more of them only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
