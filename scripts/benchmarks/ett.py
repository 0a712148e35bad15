"""TiDE on ETTh1 beside ridge regression and the published figures.

Shapes: M hours, C channels, D calendar features, B windows (a channel at an hour), L hours of
lookback, H of the horizon, T = L + H.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor
from torch.nn import functional

from ltvnet.models.neural.nets.tide import TiDE, TiDELayers, TiDEShape
from ltvnet.reports.markdown import markdown_table

Floats = NDArray[np.float64]
Part = Literal["train", "validation", "test"]

ENDS: dict[Part, int] = {"train": 8640, "validation": 11520, "test": 14400}
"""Hours at which the parts end: 12, 4 and 4 months of 30 days."""

PUBLISHED = {96: (0.375, 0.398), 192: (0.412, 0.422), 336: (0.435, 0.433), 720: (0.454, 0.465)}
"""MSE and MAE of TiDE on ETTh1 by horizon, as published with arXiv 2304.08424."""

HEAD = ("horizon", "TiDE MSE", "MAE", "ridge MSE", "MAE", "published TiDE MSE", "MAE", "epochs")


@dataclass(frozen=True)
class Series:
    """Values of channels (M, C), of mean 0 and deviation 1 in training, and the calendar (M, D)."""

    values: Floats
    calendar: Floats

    @classmethod
    def read(cls, path: str | Path) -> "Series":
        """Read the series of a file with a column `date` and a column a channel."""
        table = pd.read_csv(path, index_col="date", parse_dates=True).iloc[: ENDS["test"]]
        values = table.to_numpy(dtype=float)
        train_values = values[: ENDS["train"]]
        scaled = (values - train_values.mean(0)) / train_values.std(0)

        dates = pd.DatetimeIndex(table.index)
        # Of the date only what comes again: twelve months show each day of the year once.
        calendar = np.stack((dates.hour / 23, dates.day_of_week / 6), axis=1) - 0.5
        return cls(scaled, calendar)


@dataclass(frozen=True)
class Split:
    """How windows are cut: `lookback` L, `horizon` H."""

    lookback: int
    horizon: int

    def first_hours(self, part: Part) -> NDArray[np.int64]:
        """Return the hours at which the horizon of a window of a part may begin: all that fit."""
        begin = {"train": self.lookback, "validation": ENDS["train"], "test": ENDS["validation"]}
        return np.arange(begin[part], ENDS[part] - self.horizon + 1)

    def windows(self, channel: Floats, part: Part) -> tuple[Floats, Floats]:
        """Return lookbacks (B, L) and horizons (B, H) of a channel (M,)."""
        length = self.lookback + self.horizon
        all_windows = np.lib.stride_tricks.sliding_window_view(channel, length)
        windows = all_windows[self.first_hours(part) - self.lookback]
        return windows[:, : self.lookback], windows[:, self.lookback :]


def report(config: DictConfig) -> str:
    """Return TiDE and ridge on every horizon, with the published figures, as Markdown."""
    settings = config.ett
    torch.set_num_threads(1)
    series = Series.read(settings.path)
    rows = []
    for horizon in settings.horizons:
        split = Split(settings.lookback, horizon)
        ridge_errors = ridge(series, split, list(settings.penalties))
        learner = Learner(series=series, split=split, config=settings, seed=config.seed)
        epochs = learner.fit()
        published = PUBLISHED.get(horizon, (np.nan, np.nan))
        errors = (*learner.errors("test"), *ridge_errors, *published)
        rows.append((str(horizon), *(f"{error:.3f}" for error in errors), epochs))

    training = settings.training
    notes = (
        f"Lookback {settings.lookback} hours, all test windows, all channels by the same weights, "
        "train-only scaling. TiDE normalises each window by its mean and deviation (reversible "
        "instance normalisation without weights), knows hour and day of the week, learns from "
        f"{training.share:.0%} of the training windows in an epoch, drawn anew, in batches of "
        f"{training.batch_size}, and "
        "stops at the epoch best on validation. Ridge is the closed form on all training windows, "
        "less the mean of each window's lookback, with the penalty best on validation."
    )
    return f"{markdown_table(HEAD, rows)}\n\n{notes}"


def ridge(series: Series, split: Split, penalties: list[float]) -> tuple[float, float]:
    """Return MSE and MAE on test of one linear map for all channels, penalty from validation.

    The least squares of windows less the mean of their lookback: (X'X + penalty B) W = X'Y.
    """
    square, cross, count = 0.0, 0.0, 0
    for channel in series.values.T:
        past, future = split.windows(channel, "train")
        level = past.mean(axis=1, keepdims=True)
        square = square + (past - level).T @ (past - level)  # (L, L)
        cross = cross + (past - level).T @ (future - level)  # (L, H)
        count += len(past)

    eigenvalues, eigenvectors = np.linalg.eigh(square)
    rotated = eigenvectors.T @ cross
    maps = []
    for penalty in penalties:
        scale = (eigenvalues + penalty * count)[:, None]
        maps.append(eigenvectors @ (rotated / scale))
    best = min(maps, key=lambda weight: linear_errors(series, split, weight, "validation")[0])
    return linear_errors(series, split, best, "test")


def linear_errors(series: Series, split: Split, weight: Floats, part: Part) -> tuple[float, float]:
    """Return MSE and MAE of a linear map (L, H) of windows less the mean of their lookback."""
    channel_errors = []
    for channel in series.values.T:
        past, future = split.windows(channel, part)
        level = past.mean(axis=1, keepdims=True)
        error = (past - level) @ weight + level - future
        channel_errors.append((np.square(error).mean(), np.abs(error).mean()))
    mse, mae = np.mean(channel_errors, axis=0)
    return float(mse), float(mae)


class Learner:
    """The TiDE of ltvnet, as it is, trained on windows of all channels."""

    def __init__(self, *, series: Series, split: Split, config: DictConfig, seed: int) -> None:
        """Build the net; `config` has its layers, dropout and norm, and its training."""
        torch.manual_seed(seed)
        self.split = split
        self.training = config.training
        self.values = torch.tensor(series.values, dtype=torch.float32)
        self.calendar = torch.tensor(series.calendar, dtype=torch.float32)
        self.channels = torch.eye(self.values.shape[1])
        shape = TiDEShape(
            lookback=split.lookback,
            steps=split.lookback + split.horizon,
            horizon=split.horizon,
            covariates=self.calendar.shape[1],
            attributes=len(self.channels),
            outputs=1,
        )
        self.net = TiDE(
            shape=shape,
            layers=TiDELayers(**config.layers),
            dropout=config.dropout,
            norm=config.norm,
        )

    def tasks(self, part: Part, every: int = 1) -> Tensor:
        """Return first hours of horizons, one of every so many, and channels: (B, 2)."""
        hours = torch.from_numpy(self.split.first_hours(part)[::every])
        return torch.cartesian_prod(hours, torch.arange(len(self.channels)))

    def forecast(self, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Return forecast and actual values of tasks, (B, H) each."""
        offsets = torch.arange(-self.split.lookback, self.split.horizon)
        hours = tasks[:, :1] + offsets  # (B, T)
        windows = self.values[hours, tasks[:, 1:]]
        past, future = windows.split((self.split.lookback, self.split.horizon), dim=1)

        level = past.mean(1, keepdim=True)
        scale = past.std(1, keepdim=True).clamp(min=1e-3)
        channel = self.channels[tasks[:, 1]]
        raw = self.net((past - level) / scale, self.calendar[hours], channel)  # (B, H, 1)
        return raw.squeeze(2) * scale + level, future

    def fit(self) -> str:
        """Train; keep the weights of the epoch best on validation, and say which that is."""
        start = time.monotonic()
        training = self.training
        tasks = self.tasks("train")
        draws = round(training.share * len(tasks))
        optimizer = torch.optim.AdamW(self.net.parameters(), weight_decay=training.weight_decay)
        steps = training.epochs * -(-draws // training.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, steps)

        best_mse, best_epoch = np.inf, 0
        best_weights: dict[str, Any] = {}
        for epoch in range(1, training.epochs + 1):
            self.net.train()
            epoch_tasks = tasks[torch.randperm(len(tasks))[:draws]]
            for batch in epoch_tasks.split(training.batch_size):
                optimizer.zero_grad()
                functional.mse_loss(*self.forecast(batch)).backward()
                optimizer.step()
                schedule.step()

            mse, _ = self.errors("validation", every=round(1 / training.share))
            if mse < best_mse:
                best_mse, best_epoch = mse, epoch
                weights = self.net.state_dict().items()
                best_weights = {name: weight.clone() for name, weight in weights}
        self.net.load_state_dict(best_weights)
        return f"{best_epoch} of {training.epochs}, {time.monotonic() - start:.0f} s"

    @torch.no_grad()
    def errors(self, part: Part, every: int = 1) -> tuple[float, float]:
        """Return MSE and MAE over all windows of a part, or those of every so many hours."""
        self.net.eval()
        tasks = self.tasks(part, every)
        sums = torch.zeros(2, dtype=torch.float64)
        for squared, absolute in self.error_sums(tasks):
            sums += torch.stack((squared, absolute))
        mse, mae = (sums / (len(tasks) * self.split.horizon)).tolist()
        return mse, mae

    def error_sums(self, tasks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield sums of squared and of absolute errors, a batch at a time."""
        for batch in tasks.split(self.training.batch_size):
            forecast, actual = self.forecast(batch)
            error = (forecast - actual).double()
            yield error.square().sum(), error.abs().sum()
