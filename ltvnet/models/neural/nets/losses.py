"""The loss of what a net says, and its slope written out: autograd would take twice as long.

Shapes: B tasks, I intervals, T = I + 1 targets, Q quantities (mean, p10, p50, p90), here the first
axis: what is next to each other in memory is worked on together.
"""

from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ltvnet.models.neural.nets.heads import QUANTITY_COUNT, TaskTargets, log_multiples

MeanLoss = Literal["deviance", "huber"]
"""Losses of the mean."""

QUANTILES = (0.1, 0.5, 0.9)

HUBER_DELTA = 0.5
"""Log ratio beyond which the Huber loss is linear."""

VALUE_FLOOR = 1e-3
"""Share of the pattern's value that both values get, so that zero can be compared."""


class LossConfig(NamedTuple):
    """Parts of the loss and their weights.

    `mean_loss` of the mean, whose z is scaled by `confidence` in 0..1; `quantile_weight` of
    the pinball loss; `growth_scale` weighted mean growth of the pattern: the unit of money cancels.
    """

    mean_loss: MeanLoss
    confidence: float
    quantile_weight: float
    growth_scale: Tensor


class LossAndGradient(NamedTuple):
    """A loss, and its gradient with respect to the forecast or the output that it is of."""

    loss: Tensor
    gradient: Tensor


class GrowthForecast(NamedTuple):
    """Forecast growth at each target (Q, B, T), and what it is made of.

    `raw_z` (Q, B, I) the output of the net, `mean_z` (B, I) of the mean, and the `multiple`
    (Q, B, I) of the pattern's growth.
    """

    growth: Tensor
    raw_z: Tensor
    mean_z: Tensor
    multiple: Tensor


def forecast_growth(raw: Tensor, targets: TaskTargets, confidence: float) -> GrowthForecast:
    """Growth that raw z (B, I, Q) forecast: multiples of the pattern's growth up to each target."""
    raw = raw.permute(2, 0, 1).contiguous()  # (Q, B, I)
    z = log_multiples(raw, confidence)
    multiple = z.exp()

    growth = z.new_empty((*z.shape[:2], z.shape[2] + 1))  # (Q, B, T)
    growth[..., :-1] = _accumulate_intervals(multiple * targets.interval_growth)

    # to the last age: whole intervals before the one that holds it, and its part of that one
    last_interval = _last_interval(targets)
    before_interval = growth.gather(2, (last_interval - 1).clamp_(min=0)).mul_(last_interval > 0)
    in_interval = multiple.gather(2, last_interval)
    in_interval.mul_(targets.last_interval_growth.unsqueeze(1))
    growth[..., -1:] = before_interval.add_(in_interval)
    return GrowthForecast(growth, raw, z[0], multiple)


def loss_and_gradient(
    raw: Tensor, targets: TaskTargets, config: LossConfig, penalty: float
) -> LossAndGradient:
    """Weighted sum of target losses (scalar), and its gradient over raw z (B, I, Q).

    With `penalty` times the sum of squares of the mean's z.
    """
    forecast = forecast_growth(raw, targets, config.confidence)
    loss, growth_gradient = target_losses(forecast.growth, targets, config)
    growth_gradient = growth_gradient.mul_(targets.weight)

    z_gradient = _gradient_over_z(growth_gradient, forecast, targets)
    gradient = _gradient_over_raw(z_gradient, forecast, config, penalty)
    squared_z = forecast.mean_z.square().sum()
    total = loss.mul_(targets.weight).sum().add_(squared_z, alpha=penalty)
    return LossAndGradient(total, gradient.permute(1, 2, 0))


def _gradient_over_z(
    growth_gradient: Tensor, forecast: GrowthForecast, targets: TaskTargets
) -> Tensor:
    """Gradient over the log multiples (Q, B, I), of that over growth at targets (Q, B, T)."""
    at_last_age = growth_gradient[..., -1:]
    # reversed, as growth in an interval stays in all later sums
    reversed_gradient = growth_gradient[..., :-1].flip(2)
    interval_count = reversed_gradient.shape[2]

    last_interval = _last_interval(targets)
    interval_before = (interval_count - last_interval).clamp_(max=interval_count - 1)  # reversed
    reversed_gradient.scatter_add_(2, interval_before, at_last_age * (last_interval > 0))
    gradient = _accumulate_intervals(reversed_gradient).flip(2).mul_(targets.interval_growth)
    in_interval = at_last_age * targets.last_interval_growth.unsqueeze(1)
    gradient.scatter_add_(2, last_interval, in_interval)
    return gradient.mul_(forecast.multiple)


def _gradient_over_raw(
    z_gradient: Tensor, forecast: GrowthForecast, config: LossConfig, penalty: float
) -> Tensor:
    """Gradient over raw z (Q, B, I), of that over log multiples: `log_multiples` backwards."""
    gradient = torch.empty_like(forecast.raw_z)
    mean, median_shift, gap_below, _ = gradient
    torch.add(z_gradient[1], z_gradient[2], out=median_shift).add_(z_gradient[3])
    torch.add(z_gradient[0], median_shift, out=mean).add_(forecast.mean_z, alpha=2.0 * penalty)
    mean.mul_(config.confidence)
    torch.mul(z_gradient[1::2], forecast.raw_z[2:].sigmoid(), out=gradient[2:])
    gap_below.neg_()
    return gradient


def target_losses(forecast: Tensor, targets: TaskTargets, config: LossConfig) -> LossAndGradient:
    """Loss of a forecast (Q, B, T) at each target (B, T), with its gradient (Q, B, T)."""
    mean_loss = deviance_loss if config.mean_loss == "deviance" else huber_loss
    of_mean = mean_loss(forecast[0], targets, config.growth_scale)
    of_quantiles = pinball_loss(forecast[1:], targets)

    loss = of_mean.loss.add_(of_quantiles.loss, alpha=config.quantile_weight)
    gradient = torch.empty_like(forecast)
    gradient[0] = of_mean.gradient
    torch.mul(of_quantiles.gradient, config.quantile_weight, out=gradient[1:])
    return LossAndGradient(loss, gradient)


def deviance_loss(mean: Tensor, targets: TaskTargets, scale: Tensor) -> LossAndGradient:
    """Over-dispersed Poisson deviance: (M - G+ log M) / scale, (B, T).

    Unbiased in sums, takes zeros; its saturated case is the chain ladder. A target without weight
    may have no growth to compare.
    """
    actual = targets.actual_growth.clamp(min=0.0)
    mean = torch.where(targets.weight > 0, mean, targets.pattern_growth)
    log_ratio = mean.div(targets.pattern_growth).log_()
    loss = log_ratio.mul_(actual).neg_().add_(mean).div_(scale)
    gradient = actual.div_(mean).neg_().add_(1.0).div_(scale)
    return LossAndGradient(loss, gradient)


def huber_loss(mean: Tensor, targets: TaskTargets, _: Tensor) -> LossAndGradient:
    """Huber loss of the log ratio of values, y(k) + growth: (B, T). Refunds alone count as none."""
    base = targets.observed_value.clamp(min=0.0).unsqueeze(1)
    floor = (targets.pattern_growth + base).mul_(VALUE_FLOOR).add_(base)
    actual = targets.actual_growth.clamp(min=0.0).add_(floor)
    forecast = floor.add_(mean)  # in place: the floor is not needed again

    log_ratio = actual.div_(forecast).log_()
    clipped_ratio = log_ratio.clamp(-HUBER_DELTA, HUBER_DELTA)
    loss = log_ratio.sub_(clipped_ratio, alpha=0.5).mul_(clipped_ratio)
    return LossAndGradient(loss, clipped_ratio.div_(forecast).neg_())


def pinball_loss(quantiles: Tensor, targets: TaskTargets) -> LossAndGradient:
    """Pinball loss of QUANTILES of growth over the pattern's growth, summed over them: (B, T)."""
    slope_above, slope_below = _pinball_slopes(quantiles.device, quantiles.dtype)
    error = (targets.actual_growth - quantiles).div_(targets.pattern_growth)
    slope = torch.where(error < 0, slope_below, slope_above)
    loss = error.mul_(slope).sum(0)
    return LossAndGradient(loss, slope.div_(-targets.pattern_growth))


def _accumulate_intervals(growth: Tensor) -> Tensor:
    """Cumulative sums over intervals: (Q, B, I). A GPU adds up rows, not what is next in memory."""
    if growth.device.type == "cpu":
        return growth.cumsum(2)
    return growth.transpose(1, 2).contiguous().cumsum(1).transpose(1, 2)


def _last_interval(targets: TaskTargets) -> Tensor:
    """The interval that holds the last age, of each quantity: (Q, B, 1)."""
    return targets.last_interval[None, :, None].expand(QUANTITY_COUNT, -1, 1)


@cache
def _pinball_slopes(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Slopes of the pinball losses above and below: copied but once, as a GPU waits for that."""
    level = torch.tensor(QUANTILES, device=device, dtype=dtype)[:, None, None]
    return level, level - 1.0
