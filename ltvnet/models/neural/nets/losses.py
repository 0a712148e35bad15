"""The loss of what a net says, and its slope written out: autograd would take twice as long.

Shapes: B tasks, I intervals, T = I + 1 targets, Q quantities (mean, p10, p50, p90), here the first
axis: what is next to each other in memory is worked on together.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ltvnet.models.neural.nets.heads import Targets, departures

QUANTILES = (0.1, 0.5, 0.9)

HUBER = 0.5
"""Log ratio beyond which the Huber loss is linear."""

FLOOR = 1e-3
"""Share of the pattern's value that both values get, so that zero can be compared."""


class Rule(NamedTuple):
    """What is learned.

    The `mean` by "huber" or "deviance", its z scaled by `confidence` in 0..1; `quantiles` weight of
    the pinball loss; `scale` weighted mean growth of the pattern: the unit of money cancels.
    """

    mean: str
    confidence: float
    quantiles: float
    scale: Tensor


class Graded(NamedTuple):
    """A loss, and its slope over what it is of."""

    loss: Tensor
    slope: Tensor


class Grown(NamedTuple):
    """Forecast growth at each target (Q, B, T), and what it is made of.

    `raw` (Q, B, I) what the net said, `z` (B, I) of the mean, and the `multiple` (Q, B, I) of the
    pattern's growth.
    """

    forecast: Tensor
    raw: Tensor
    z: Tensor
    multiple: Tensor


def grown(raw: Tensor, targets: Targets, confidence: float) -> Grown:
    """Growth that raw z (B, I, Q) forecast: `departures`, anchored in the pattern at targets."""
    raw = raw.permute(2, 0, 1).contiguous()
    z = departures(raw, confidence)
    multiple = z.exp()
    forecast = z.new_empty((*z.shape[:2], z.shape[2] + 1))
    forecast[..., :-1] = _summed(multiple * targets.steps)
    place = _place(targets)
    before = forecast.gather(2, (place - 1).clamp_(min=0)).mul_(place > 0)
    last = multiple.gather(2, place).mul_(targets.part.unsqueeze(1))
    forecast[..., -1:] = before.add_(last)
    return Grown(forecast, raw, z[0], multiple)


def learned(raw: Tensor, targets: Targets, rule: Rule, penalty: float) -> Graded:
    """Sum of losses by the weights of targets (), and its slope over raw z (B, I, Q).

    With `penalty` times the sum of squares of the mean's z.
    """
    found = grown(raw, targets, rule.confidence)
    loss, slope = graded(found.forecast, targets, rule)
    slope = slope.mul_(targets.weight)
    last, each = slope[..., -1:], slope[..., :-1].flip(2)
    place = _place(targets)
    each.scatter_add_(2, (each.shape[2] - place).clamp_(max=each.shape[2] - 1), last * (place > 0))
    each = _summed(each).flip(2).mul_(targets.steps)  # what is grown once stays in later sums
    each.scatter_add_(2, place, last * targets.part.unsqueeze(1)).mul_(found.multiple)
    over = torch.empty_like(found.raw)
    torch.add(each[1], each[2], out=over[1]).add_(each[3])
    torch.add(each[0], over[1], out=over[0]).add_(found.z, alpha=2.0 * penalty)
    over[0].mul_(rule.confidence)
    torch.mul(each[1::2], found.raw[2:].sigmoid(), out=over[2:])
    over[2].neg_()
    total = loss.mul_(targets.weight).sum().add_(found.z.square().sum(), alpha=penalty)
    return Graded(total, over.permute(1, 2, 0))


def graded(forecast: Tensor, targets: Targets, rule: Rule) -> Graded:
    """Loss of a forecast (Q, B, T) at each target (B, T), with its slope (Q, B, T)."""
    mean = deviance if rule.mean == "deviance" else huber
    own, others = mean(forecast[0], targets, rule.scale), pinball(forecast[1:], targets)
    loss = own.loss.add_(others.loss, alpha=rule.quantiles)
    slope = torch.empty_like(forecast)
    slope[0] = own.slope
    torch.mul(others.slope, rule.quantiles, out=slope[1:])
    return Graded(loss, slope)


def deviance(mean: Tensor, targets: Targets, scale: Tensor) -> Graded:
    """Over-dispersed Poisson deviance: (M - G+ log M) / scale, (B, T).

    Unbiased in sums, takes zeros; its saturated case is the chain ladder. A target without weight
    may have no growth to compare.
    """
    actual = targets.growth.clamp(min=0.0)
    mean = torch.where(targets.weight > 0, mean, targets.pattern)
    loss = mean.div(targets.pattern).log_().mul_(actual).neg_().add_(mean).div_(scale)
    return Graded(loss, actual.div_(mean).neg_().add_(1.0).div_(scale))


def huber(mean: Tensor, targets: Targets, _: Tensor) -> Graded:
    """Huber loss of the log ratio of values, y(k) + growth: (B, T). Refunds alone count as none."""
    base = targets.value.clamp(min=0.0).unsqueeze(1)
    floor = (targets.pattern + base).mul_(FLOOR).add_(base)
    actual = targets.growth.clamp(min=0.0).add_(floor)
    forecast = floor.add_(mean)
    ratio = actual.div_(forecast).log_()
    near = ratio.clamp(-HUBER, HUBER)
    loss = ratio.sub_(near, alpha=0.5).mul_(near)
    return Graded(loss, near.div_(forecast).neg_())


def pinball(quantiles: Tensor, targets: Targets) -> Graded:
    """Pinball loss of QUANTILES of growth over the pattern's growth, summed over them: (B, T)."""
    above, below = _levels(quantiles.device, quantiles.dtype)
    error = (targets.growth - quantiles).div_(targets.pattern)
    side = torch.where(error < 0, below, above)
    loss = error.mul_(side).sum(0)
    return Graded(loss, side.div_(-targets.pattern))


def _summed(steps: Tensor) -> Tensor:
    """Cumulative sums over intervals: (Q, B, I). A GPU adds up rows, not what is next in memory."""
    if steps.device.type == "cpu":
        return steps.cumsum(2)
    return steps.transpose(1, 2).contiguous().cumsum(1).transpose(1, 2)


def _place(targets: Targets) -> Tensor:
    """The interval that holds the last age, of each quantity: (Q, B, 1)."""
    return targets.interval[None, :, None].expand(len(QUANTILES) + 1, -1, 1)


@cache
def _levels(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Slopes of the pinball losses on both sides: copied but once, as a GPU waits for that."""
    level = torch.tensor(QUANTILES, device=device, dtype=dtype)[:, None, None]
    return level, level - 1.0
