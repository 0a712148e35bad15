"""The loss of training: what it is least at, and that its slope is the one that autograd finds."""

import fit_speed as plain  # noqa: E402 the same losses, left to autograd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltvnet.models.neural.nets.heads import TaskTargets
from ltvnet.models.neural.nets.losses import (
    LossConfig,
    deviance_loss,
    forecast_growth,
    huber_loss,
    loss_and_gradient,
    pinball_loss,
    target_losses,
)

NOTHING = torch.zeros(())


def targets_of(growth: list[float], pattern: list[float], value: float = 0.0) -> TaskTargets:
    rows = torch.tensor([growth]), torch.tensor([pattern]), torch.ones(1, len(growth))
    nothing = torch.zeros(1)
    interval = torch.zeros(1, dtype=torch.long)
    return TaskTargets(*rows, interval, nothing, nothing, torch.tensor([value]))


def test_deviance_is_least_where_sums_agree() -> None:
    """The over-dispersed Poisson mean has no bias: its best common multiple is a ratio of sums."""
    targets, scale = targets_of([1.0, 0.0, 5.0, 2.0], [2.0, 1.0, 2.0, 3.0]), torch.tensor(2.0)
    multiples = torch.linspace(0.5, 1.5, 1001)
    losses = [
        deviance_loss(m * targets.pattern_growth, targets, scale).loss.sum() for m in multiples
    ]
    best = float(multiples[int(torch.stack(losses).argmin())])
    assert best == pytest.approx(8 / 8, abs=1e-3)
    mean, unit_scale = torch.tensor([[1.5]]), torch.tensor(1.0)
    negative, zero = targets_of([-3.0], [2.0]), targets_of([0.0], [2.0])
    assert (
        deviance_loss(mean, negative, unit_scale).loss == deviance_loss(mean, zero, unit_scale).loss
    )


def test_huber_is_zero_at_the_truth_and_symmetric_in_logs() -> None:
    targets = targets_of([1.0], [1.0])
    assert float(huber_loss(torch.tensor([[1.0]]), targets, NOTHING).loss) == 0.0
    double, half = (huber_loss(torch.tensor([[x]]), targets, NOTHING).loss for x in (2.0, 0.5))
    assert float(double) == pytest.approx(float(half), rel=1e-2)


def test_pinball_is_least_at_the_quantile() -> None:
    growth = torch.arange(1.0, 101.0)
    targets = targets_of(growth.tolist(), [1.0] * 100)
    candidates = torch.arange(0.5, 101.0)
    truth = torch.tensor([10.0, 50.0, 90.0])[:, None, None].expand(-1, 1, 100)
    for quantile, best in enumerate((10.0, 50.0, 90.0)):
        losses = []
        for candidate in candidates:
            forecast = truth.clone()
            forecast[quantile] = candidate
            losses.append(pinball_loss(forecast, targets).loss.sum())
        minimizer = float(candidates[int(torch.stack(losses).argmin())])
        assert minimizer == pytest.approx(best, abs=1)


def test_growth_is_a_sum_over_intervals() -> None:
    targets = TaskTargets(
        *torch.zeros(3, 1, 4),
        last_interval=torch.tensor([1]),
        last_interval_growth=torch.tensor([3.0]),
        interval_growth=torch.tensor([[1.0, 4.0, 3.0]]),
        observed_value=torch.zeros(1),
    )
    raw = torch.zeros(1, 3, 4)
    raw[0, :, 0] = torch.log(torch.tensor([2.0, 0.5, 1.0]))
    growth = forecast_growth(raw, targets, 1.0).growth[0]
    assert growth.flatten().tolist() == pytest.approx([2.0, 4.0, 7.0, 2.0 + 0.5 * 3.0])


def test_a_cohort_that_was_refunded_has_a_loss() -> None:
    """Less than nothing was earned by the observed age, and the pattern grows all the same."""
    targets = targets_of([0.05], [0.5], value=-0.1)
    graded_loss = huber_loss(torch.tensor([[0.5]]), targets, NOTHING)
    assert (
        graded_loss.loss.isfinite().all() and graded_loss.gradient > 0
    )  # what came is less than was forecast


def draw_targets(seed: int, tasks: int, intervals: int) -> tuple[Tensor, TaskTargets]:
    """Raw z and targets as they may come: decreases, no growth, unknown, last ages anywhere."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = normal(tasks, intervals).exp() * (normal(tasks, intervals) > -0.5)
    interval = torch.randint(intervals, (tasks,), generator=generator)
    growth_before = torch.where(
        interval > 0, steps.cumsum(1).gather(1, (interval - 1).clamp(min=0)[:, None])[:, 0], 0.0
    )
    last_growth = normal(tasks).exp()
    pattern = torch.cat((steps.cumsum(1), (growth_before + last_growth)[:, None]), dim=1)
    growth = pattern * (1 + 0.7 * normal(tasks, intervals + 1))
    counts = (pattern > 0) & (normal(tasks, intervals + 1) > -1)
    weight = counts * normal(tasks, intervals + 1).exp()
    value = normal(tasks).exp() * (normal(tasks) > -1) - (normal(tasks) > 1).double()
    pattern = torch.where(pattern > 0, pattern, 1.0)
    targets = TaskTargets(growth, pattern, weight, interval, last_growth, steps, value)
    return normal(tasks, intervals, 4), targets


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 5)),
    confidence=st.floats(0.0, 1.0),
    penalty=st.floats(0.0, 2.0),
    mean=st.sampled_from(["huber", "deviance"]),
)
@settings(max_examples=150, deadline=None)
def test_slopes_are_those_that_autograd_finds(
    seed: int, shape: tuple[int, int], confidence: float, penalty: float, mean: str
) -> None:
    raw, targets = draw_targets(seed, *shape)
    scale = torch.tensor(1.7, dtype=torch.float64)
    by_hand = loss_and_gradient(raw, targets, LossConfig(mean, confidence, 0.3, scale), penalty)
    raw.requires_grad_()
    forecast = plain.at_targets(plain.departures(raw, confidence), targets)
    if mean == "huber":
        mean_loss = plain.huber(forecast[..., 0], targets)
    else:
        weighed_forecast = torch.where(targets.weight > 0, forecast[..., 0], 1.0)
        mean_loss = (
            weighed_forecast
            - targets.actual_growth.clamp(min=0.0)
            * (weighed_forecast / targets.pattern_growth).log()
        ) / scale
    target_loss = mean_loss + 0.3 * plain.pinball(forecast[..., 1:], targets)
    loss = (targets.weight * target_loss).sum() + penalty * (
        confidence * raw[..., 0]
    ).square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(by_hand.loss, loss.detach())
    torch.testing.assert_close(by_hand.gradient, raw.grad, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        forecast_growth(raw.detach(), targets, confidence).growth,
        forecast.detach().permute(2, 0, 1),
    )


def test_what_does_not_count_has_no_part_in_a_loss() -> None:
    """Also where nothing grew, so that there is no ratio to form."""
    raw, targets = draw_targets(3, 5, 4)
    none = targets._replace(
        interval_growth=torch.zeros_like(targets.interval_growth),
        last_interval_growth=torch.zeros_like(targets.last_interval_growth),
        pattern_growth=torch.ones_like(targets.pattern_growth),
        weight=torch.zeros_like(targets.weight),
    )
    for mean in ("huber", "deviance"):
        rule = LossConfig(mean, 1.0, 0.3, torch.tensor(1.0, dtype=torch.float64))
        result = loss_and_gradient(raw, none, rule, 0.0)
        assert float(result.loss) == 0.0 and result.gradient.eq(0).all()
        assert (
            target_losses(forecast_growth(raw, none, 1.0).growth, none, rule).loss.isfinite().all()
        )
