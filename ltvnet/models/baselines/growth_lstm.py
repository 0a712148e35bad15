"""The next-day growth-rate LSTM, rolled out day by day.

The model that such forecasts are usually made with: it sees the last week of daily growth rates,
neither age nor segment, and feeds on its own forecasts. What is claimed of it and what came true
is compared by scripts/benchmarks/claim.py.

Shapes: N cohorts, A ages, W days of a window, M windows, B windows of a batch, H ages asked for.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ltvnet.forecasting.forecaster import State, add_prefix, strip_prefix
from ltvnet.models.baselines.fallback import (
    baseline_state,
    create_pattern,
    forecast_with_fallback,
    restore_baseline,
    with_complete_age,
)

log = logging.getLogger(__name__)

WINDOW_DAYS = 7
"""Daily growth rates that the next one is forecast from."""

MAX_GRADIENT_NORM = 1.0
"""Norm of gradients: on some days a tiny cohort grows a hundredfold."""


def growth_rates(values: Floats) -> Floats:
    """Growth y(a + 1) / y(a) - 1 from each age to the next: (N, A - 1) of values (N, A).

    0 where nothing stands to grow from, NaN where the later value is not known.
    """
    base, grown = values[:, :-1], np.diff(values, axis=1)
    return np.divide(grown, base, out=grown * 0.0, where=base > 0)


def rate_windows(values: Floats) -> Floats:
    """The rates of the WINDOW days before each age: (N, A, W) of values (N, A), a read-only view.

    0 before day 0 and where a rate is not known.
    """
    before = np.pad(np.nan_to_num(growth_rates(values)), ((0, 0), (WINDOW_DAYS, 0)))
    return np.lib.stride_tricks.sliding_window_view(before, WINDOW_DAYS, axis=1)


def training_windows(values: Floats, last: Ints) -> tuple[Floats, Floats]:
    """What there is to learn from curves: windows (M, W) and the rates that followed (M,).

    `values` (N, A), `last` (N,) the last age known of each. Every age from 1 on is a target that
    the curve can grow from.
    """
    age = np.arange(values.shape[1] - 1)
    known = (age >= 1) & (age < last[:, None]) & (values[:, :-1] > 0)
    return rate_windows(values)[:, :-1][known], growth_rates(values)[known]


def check_net_sizes(*, units: Sequence[int], dense: int, dropout: float) -> None:
    """Raise ValueError for no units, sizes below 1 or a dropout outside [0, 1)."""
    if not units or min(*units, dense) < 1 or not 0.0 <= dropout < 1.0:
        raise ValueError(
            "expected units and dense >= 1, units of a layer or more, and dropout in [0, 1), got "
            f"{list(units)}, {dense} and {dropout}"
        )


class GrowthRateNet(nn.Module):
    """Two recurrent layers over a window, a dense layer, one positive rate.

    `units` of the recurrent layers, `dense` of the hidden one, `dropout` after each recurrent
    one; `unit` a typical rate, in which rates come in and go out. Raises ValueError for no units,
    sizes below 1 or a dropout outside [0, 1).
    """

    def __init__(self, *, units: Sequence[int], dense: int, dropout: float, unit: float) -> None:
        """Build the layers."""
        super().__init__()
        check_net_sizes(units=units, dense=dense, dropout=dropout)
        self.layers = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True)
            for before, after in zip([1, *units], units, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(units[-1], dense)
        self.head = nn.Linear(dense, 1)
        self.unit = unit

    def forward(self, window: Tensor) -> Tensor:
        """The next rate (B,) after a window (B, W)."""
        hidden = (window / self.unit).unsqueeze(2)  # (B, W, 1)
        for layer in self.layers:
            hidden = self.dropout(layer(hidden)[0])  # (B, W, units)
        raw = self.head(functional.relu(self.dense(hidden[:, -1])))  # (B, 1)
        return self.unit * functional.softplus(raw.squeeze(1))


class GrowthLSTM:
    """A forecaster of the next day's growth rate, applied until the last age.

    `net` the sizes of Growth; Adam on the squared error of rates, its learning rate falling from
    `rate` to 0, for `epochs` of at most `windows` drawn at random, in batches of `batch_size`,
    from `seed`; `pattern` the config of a Pattern, which speaks where no rate is known or nothing
    stands to grow from. Raises ValueError for a number out of range.
    """

    def __init__(
        self,
        *,
        net: Mapping[str, Any],
        epochs: int,
        windows: int,
        batch_size: int,
        rate: float,
        seed: int,
        pattern: Mapping[str, Any],
    ) -> None:
        """Take the configuration; nothing is random here."""
        if min(epochs, windows, batch_size) < 1 or rate <= 0:
            raise ValueError(
                "expected epochs, windows and batch_size >= 1 and rate > 0, got "
                f"{epochs}, {windows}, {batch_size} and {rate}"
            )
        check_net_sizes(**net)
        self.sizes = dict(net)
        self.epochs, self.windows, self.batch_size = epochs, windows, batch_size
        self.rate, self.seed = rate, seed
        self.arguments = {"net": self.sizes, "epochs": epochs, "windows": windows}
        self.arguments |= {"batch_size": batch_size, "rate": rate, "seed": seed}
        self.pattern = create_pattern(pattern)
        self.net: GrowthRateNet | None = None

    def fit(self, curves: Curves) -> Self:
        """Fit the pattern, and the net where there are enough cohorts.

        Raises ValueError when no cohort has a complete age.
        """
        curves = with_complete_age(curves)
        self.pattern.fit(curves)
        self.net = None
        window, target = training_windows(curves.values, curves.observed_age)
        week = int((curves.observed_age >= WINDOW_DAYS).sum())
        if len(curves) < MIN_COHORTS_TO_LEARN or not week or not target.sum() > 0:
            log.warning(
                "too little data for growth rates (%d cohorts, %d of them observed to D%d): the "
                "pattern forecasts alone", len(curves), week, WINDOW_DAYS,
            )  # fmt: skip
            return self
        return self.train_net(window, target)

    def train_net(
        self, window: Floats, target: Floats, watch: Callable[[GrowthRateNet], None] | None = None
    ) -> Self:
        """Train a new net to forecast rates (M,) above 0 on average from windows (M, W).

        `watch` is shown the net after each epoch, and leaves it in training mode.
        """
        x, y = (torch.from_numpy(array.astype(np.float32)) for array in (window, target))
        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = GrowthRateNet(**self.sizes, unit=float(target.mean()))
            optimizer = torch.optim.Adam(net.parameters(), lr=self.rate)
            steps = self.epochs * math.ceil(min(self.windows, len(x)) / self.batch_size)
            falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
            for _ in range(self.epochs):
                drawn = torch.randperm(len(x))[: self.windows]
                for rows in torch.split(drawn, self.batch_size):
                    optimizer.zero_grad()
                    error = (net(x[rows]) - y[rows]) / net.unit
                    error.square().mean().backward()
                    nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
                    optimizer.step()
                    falling.step()
                if watch is not None:
                    watch(net)
        self.net = net.eval()
        return self

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        forecast = self.pattern.predict(curves, ages)
        return (
            forecast
            if self.net is None
            else forecast_with_fallback(forecast, roll_out(self.net, curves, ages))
        )

    def state(self) -> State:
        """The net's sizes and weights, and the pattern's state."""
        weights = {} if self.net is None else self.net.state_dict()
        unit = None if self.net is None else self.net.unit
        arrays = add_prefix({name: weight.numpy() for name, weight in weights.items()}, "net/")
        return baseline_state(self.pattern, {"arguments": self.arguments, "unit": unit}, arrays)

    @classmethod
    def from_state(cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The forecaster that `state()` described."""
        made = restore_baseline(cls, values, arrays)
        if values["unit"] is not None:
            made.net = GrowthRateNet(**made.sizes, unit=values["unit"]).eval()
            weights = strip_prefix(arrays, "net/")
            made.net.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in weights.items()})
        return made


def roll_out(net: GrowthRateNet, curves: Curves, ages: Sequence[int]) -> Floats:
    """Values at `ages` (N, H), a day at a time, each on the forecasts of the days before it.

    NaN at ages observed, where no rate is known (k < 1) and where there is nothing to grow from.
    """
    asked, k = validate_ages(ages), curves.observed_age
    found = np.full((len(k), len(asked)), np.nan)
    rows = np.flatnonzero((k >= 1) & (curves.observed_value > 0))
    rows = rows[np.argsort(k[rows], kind="stable")]  # those under way at an age come first
    level = curves.observed_value[rows]
    window = torch.from_numpy(
        rate_windows(curves.values)[rows, k[rows]].astype(np.float32)
    )  # (R, W)
    column = {age: h for h, age in enumerate(asked.tolist())}
    # What explodes is not finite, and the pattern speaks there.
    with _one_thread(), torch.inference_mode(), np.errstate(over="ignore"):
        for age in range(k[rows[0]] if len(rows) else asked[-1], asked[-1]):
            begun = np.searchsorted(k[rows], age, side="right")
            rate = net(window[:begun])
            window[:begun] = torch.cat((window[:begun, 1:], rate[:, None]), dim=1)
            level[:begun] *= 1.0 + rate.numpy()
            if age + 1 in column:
                found[rows[:begun], column[age + 1]] = level[:begun]
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread of torch: for nets this small more of them only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
