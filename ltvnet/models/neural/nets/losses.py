"""The loss of what a net says, and its slope written out: autograd would take twice as long.

Shapes: B tasks, I intervals, T = I + 1 targets, Q quantities (mean, p10, p50, p90), here the first
axis: what is next to each other in memory is worked on together.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ltvnet.models.neural.nets.heads import TaskTargets, log_multiples

QUANTILES = (0.1, 0.5, 0.9)

HUBER_DELTA = 0.5
"""Log ratio beyond which the Huber loss is linear."""

VALUE_FLOOR = 1e-3
"""Share of the pattern's value that both values get, so that zero can be compared."""


class LossConfig(NamedTuple):
    """What is learned.

    The `mean` by "huber" or "deviance", its z scaled by `confidence` in 0..1; `quantiles` weight of
    the pinball loss; `scale` weighted mean growth of the pattern: the unit of money cancels.
    """

    mean_loss: str
    confidence: float
    quantile_weight: float
    growth_scale: Tensor


class LossAndGradient(NamedTuple):
    """A loss, and its slope over what it is of."""

    loss: Tensor
    gradient: Tensor


class GrowthForecast(NamedTuple):
    """Forecast growth at each target (Q, B, T), and what it is made of.

    `raw` (Q, B, I) what the net said, `z` (B, I) of the mean, and the `multiple` (Q, B, I) of the
    pattern's growth.
    """

    growth: Tensor
    raw_z: Tensor
    mean_z: Tensor
    multiple: Tensor


def forecast_growth(raw: Tensor, targets: TaskTargets, confidence: float) -> GrowthForecast:
    """Growth that raw z (B, I, Q) forecast: `departures`, anchored in the pattern at targets."""
    raw = raw.permute(2, 0, 1).contiguous()
    z = log_multiples(raw, confidence)
    multiple = z.exp()
    forecast = z.new_empty((*z.shape[:2], z.shape[2] + 1))
    forecast[..., :-1] = _summed(multiple * targets.interval_growth)
    place = _place(targets)
    before = forecast.gather(2, (place - 1).clamp_(min=0)).mul_(place > 0)
    last = multiple.gather(2, place).mul_(targets.last_interval_growth.unsqueeze(1))
    forecast[..., -1:] = before.add_(last)
    return GrowthForecast(forecast, raw, z[0], multiple)


def loss_and_gradient(
    raw: Tensor, targets: TaskTargets, rule: LossConfig, penalty: float
) -> LossAndGradient:
    """Sum of losses by the weights of targets (), and its slope over raw z (B, I, Q).

    With `penalty` times the sum of squares of the mean's z.
    """
    found = forecast_growth(raw, targets, rule.confidence)
    loss, slope = target_losses(found.growth, targets, rule)
    slope = slope.mul_(targets.weight)
    last, each = slope[..., -1:], slope[..., :-1].flip(2)
    place = _place(targets)
    each.scatter_add_(2, (each.shape[2] - place).clamp_(max=each.shape[2] - 1), last * (place > 0))
    each = (
        _summed(each).flip(2).mul_(targets.interval_growth)
    )  # what is grown once stays in later sums
    each.scatter_add_(2, place, last * targets.last_interval_growth.unsqueeze(1)).mul_(
        found.multiple
    )
    over = torch.empty_like(found.raw_z)
    torch.add(each[1], each[2], out=over[1]).add_(each[3])
    torch.add(each[0], over[1], out=over[0]).add_(found.mean_z, alpha=2.0 * penalty)
    over[0].mul_(rule.confidence)
    torch.mul(each[1::2], found.raw_z[2:].sigmoid(), out=over[2:])
    over[2].neg_()
    total = loss.mul_(targets.weight).sum().add_(found.mean_z.square().sum(), alpha=penalty)
    return LossAndGradient(total, over.permute(1, 2, 0))


def target_losses(forecast: Tensor, targets: TaskTargets, rule: LossConfig) -> LossAndGradient:
    """Loss of a forecast (Q, B, T) at each target (B, T), with its slope (Q, B, T)."""
    mean = deviance_loss if rule.mean_loss == "deviance" else huber_loss
    own, others = mean(forecast[0], targets, rule.growth_scale), pinball_loss(forecast[1:], targets)
    loss = own.loss.add_(others.loss, alpha=rule.quantile_weight)
    slope = torch.empty_like(forecast)
    slope[0] = own.gradient
    torch.mul(others.gradient, rule.quantile_weight, out=slope[1:])
    return LossAndGradient(loss, slope)


def deviance_loss(mean: Tensor, targets: TaskTargets, scale: Tensor) -> LossAndGradient:
    """Over-dispersed Poisson deviance: (M - G+ log M) / scale, (B, T).

    Unbiased in sums, takes zeros; its saturated case is the chain ladder. A target without weight
    may have no growth to compare.
    """
    actual = targets.actual_growth.clamp(min=0.0)
    mean = torch.where(targets.weight > 0, mean, targets.pattern_growth)
    loss = mean.div(targets.pattern_growth).log_().mul_(actual).neg_().add_(mean).div_(scale)
    return LossAndGradient(loss, actual.div_(mean).neg_().add_(1.0).div_(scale))


def huber_loss(mean: Tensor, targets: TaskTargets, _: Tensor) -> LossAndGradient:
    """Huber loss of the log ratio of values, y(k) + growth: (B, T). Refunds alone count as none."""
    base = targets.observed_value.clamp(min=0.0).unsqueeze(1)
    floor = (targets.pattern_growth + base).mul_(VALUE_FLOOR).add_(base)
    actual = targets.actual_growth.clamp(min=0.0).add_(floor)
    forecast = floor.add_(mean)
    ratio = actual.div_(forecast).log_()
    near = ratio.clamp(-HUBER_DELTA, HUBER_DELTA)
    loss = ratio.sub_(near, alpha=0.5).mul_(near)
    return LossAndGradient(loss, near.div_(forecast).neg_())


def pinball_loss(quantiles: Tensor, targets: TaskTargets) -> LossAndGradient:
    """Pinball loss of QUANTILES of growth over the pattern's growth, summed over them: (B, T)."""
    above, below = _levels(quantiles.device, quantiles.dtype)
    error = (targets.actual_growth - quantiles).div_(targets.pattern_growth)
    side = torch.where(error < 0, below, above)
    loss = error.mul_(side).sum(0)
    return LossAndGradient(loss, side.div_(-targets.pattern_growth))


def _summed(steps: Tensor) -> Tensor:
    """Cumulative sums over intervals: (Q, B, I). A GPU adds up rows, not what is next in memory."""
    if steps.device.type == "cpu":
        return steps.cumsum(2)
    return steps.transpose(1, 2).contiguous().cumsum(1).transpose(1, 2)


def _place(targets: TaskTargets) -> Tensor:
    """The interval that holds the last age, of each quantity: (Q, B, 1)."""
    return targets.last_interval[None, :, None].expand(len(QUANTILES) + 1, -1, 1)


@cache
def _levels(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Slopes of the pinball losses on both sides: copied but once, as a GPU waits for that."""
    level = torch.tensor(QUANTILES, device=device, dtype=dtype)[:, None, None]
    return level, level - 1.0
