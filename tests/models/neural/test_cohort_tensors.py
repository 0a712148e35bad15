"""Inputs and targets of tasks: the formulas written out, and nothing that is not observed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.cohorts import curve, history
from factories.configs import COVARIATES

from ltvnet.data.curves import NODES, Curves
from ltvnet.models.neural.cohort_tensors import DAMPING_VOLUME, CohortTensors, Tasks
from ltvnet.models.neural.covariates import CovariateConfig
from ltvnet.models.neural.input_scaling import InputScaling
from ltvnet.models.neural.nets.losses import forecast_growth
from ltvnet.models.neural.task_inputs import INPUT_GAIN


def test_inputs_are_the_formulas_written_out(windows: CohortTensors) -> None:
    row, age = 30, 18
    inputs = windows.inputs_and_targets(Tasks(torch.tensor([row]), torch.tensor([age])))[0]
    volume = float(windows.relative_users[row]) / (DAMPING_VOLUME * windows.unit_per_user)
    values, beta = windows.values[row].double().numpy(), windows.beta[row].double().numpy()
    prior, level = float(windows.prior[row, age]), float(windows.level[row, age])
    nodes = [node for node in NODES if node <= age]
    revenue, expected = volume * values[nodes], volume * prior * beta[nodes]
    for column, (revenue_feature, expected_feature) in enumerate(
        ((revenue, expected), (np.diff(revenue, prepend=0), np.diff(expected, prepend=0)))
    ):
        ratio = INPUT_GAIN * (
            np.log1p(np.maximum(revenue_feature, -0.5)) - np.log1p(expected_feature)
        )
        feature = inputs.node_features[0, : len(nodes), column].numpy()
        np.testing.assert_allclose(feature, ratio, rtol=1e-4, atol=1e-4)
    assert inputs.node_features[0, len(nodes) :].eq(0).all()
    assert inputs.is_observed[0].tolist() == [node <= age for node in NODES]
    log_ratio_now = np.log1p(volume * values[age]) - np.log1p(volume * prior * beta[age])
    scalars = [
        log_ratio_now,
        np.log(level / prior),
        np.log(float(windows.relative_users[row])),
        np.log1p(age) / 3 - 1,
        np.log1p(volume * prior * beta[age]) / 3 - 1,
        2 * beta[age] - 1,
    ]
    np.testing.assert_allclose(inputs.scalars[0].numpy(), scalars, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_what_is_not_observed_is_not_seen_whatever_it_is(
    windows: CohortTensors, garbage: float
) -> None:
    tasks = Tasks(torch.arange(5), torch.full((5,), 18))
    values = windows.values.clone()
    values[:, 19:] = garbage
    spoiled = replace(windows, values=values).inputs_and_targets(tasks)[0]
    for tensor, spoiled_tensor in zip(windows.inputs_and_targets(tasks)[0], spoiled, strict=True):
        assert torch.equal(tensor, spoiled_tensor)


def test_both_are_inputs_and_targets(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(2, torch.Generator().manual_seed(0))
    inputs, targets = windows.inputs_and_targets(tasks)
    for together, alone in zip(inputs, windows.inputs_and_targets(tasks)[0], strict=True):
        assert torch.equal(together, alone)
    for together, alone in zip(targets, windows.targets(tasks), strict=True):
        assert torch.equal(together, alone)


def test_the_patterns_growth_adds_up(windows: CohortTensors) -> None:
    """Steps to the node before the last age, and the part of the interval up to it."""
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(1))
    targets = windows.targets(tasks)
    assert (targets.interval_growth >= 0).all() and (targets.last_interval_growth >= 0).all()
    last = windows.last_age[tasks.cohort_index]
    level = windows.level[tasks.cohort_index, tasks.observed_age]
    total_growth = level * (
        windows.beta[tasks.cohort_index, last]
        - windows.beta[tasks.cohort_index, tasks.observed_age]
    )
    torch.testing.assert_close(targets.pattern_growth[:, -1], total_growth, rtol=1e-5, atol=1e-6)
    is_before = torch.arange(len(NODES) - 1) < targets.last_interval.unsqueeze(1)
    added = (targets.interval_growth * is_before).sum(dim=1) + targets.last_interval_growth
    torch.testing.assert_close(added, total_growth, rtol=1e-4, atol=1e-5)


def test_tasks_are_log_uniform_and_leave_something_to_forecast(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(200, torch.Generator().manual_seed(0))
    assert (tasks.observed_age >= 0).all() and (
        tasks.observed_age < windows.last_age[tasks.cohort_index]
    ).all()
    counts = torch.bincount(tasks.cohort_index, minlength=len(windows))
    assert counts[windows.last_age > 0].eq(200).all() and counts[windows.last_age == 0].eq(0).all()
    oldest = tasks.observed_age[windows.last_age[tasks.cohort_index] == 360].float()
    share = (oldest < 18).float().mean()  # log 19 of log 361 of the draws
    assert float(share) == pytest.approx(math.log(19) / math.log(361), abs=0.02)


def test_targets_are_growth_since_the_observed_age(
    windows: CohortTensors, training_curves: Curves
) -> None:
    row, age = 30, 18
    tasks = Tasks(torch.tensor([row]), torch.tensor([age]))
    targets = windows.targets(tasks)
    steps = targets.interval_growth
    last = int(training_curves.observed_age[row])
    assert last not in NODES
    later = [j for j, node in enumerate(NODES[1:]) if age < node <= last]
    assert targets.weight[0, :-1].nonzero().squeeze(1).tolist() == later
    value = training_curves.values[row]
    ages = [NODES[j + 1] for j in later] + [last]
    actual = targets.actual_growth[0, [*later, -1]].numpy()
    np.testing.assert_allclose(actual, value[ages] - value[age], rtol=1e-4)
    assert steps[0, : later[0]].eq(0).all() and steps[0, later[0]] > 0
    total = targets.weight[0, later].div(windows.rarity[[j + 1 for j in later]]).sum()
    assert float(total) == pytest.approx(
        math.log1p(NODES[later[-1] + 1]) - math.log1p(age), rel=1e-5
    )


def test_untrained_growth_is_the_patterns(windows: CohortTensors) -> None:
    tasks = windows.draw_tasks(3, torch.Generator().manual_seed(1))
    targets = windows.targets(tasks)
    raw = torch.zeros(len(tasks.observed_age), len(NODES) - 1, 4)
    raw[..., 2:] = -50.0  # next to no gaps between quantiles
    for quantity in forecast_growth(raw, targets, 1.0).growth:
        torch.testing.assert_close(quantity, targets.pattern_growth, rtol=1e-5, atol=1e-7)


def test_rare_values_share_the_unseen_bucket() -> None:
    rows = [
        (str(day), str(day), {"Apps": app}, 10.0, curve(20))
        for app, count in (("a", 9), ("b", 5), ("rare", 4))
        for day in np.datetime64("2024-01-01") + np.arange(count)
    ]
    curves = history(rows).as_of("2024-02-29")
    scaling = InputScaling.fit(curves, 1.0, CovariateConfig(**COVARIATES))  # type: ignore[arg-type]
    assert scaling.categories == {"Apps": ["a", "b"]} and scaling.input_sizes.categories == (3,)
    codes = dict(
        zip(
            curves.attributes["Apps"], scaling.encode_categories(curves)[:, 0].tolist(), strict=True
        )
    )
    assert codes == {"a": 1, "b": 2, "rare": 0}
    nameless = history([(*rows[0][:2], {}, 10.0, curve(20))]).as_of("2024-02-29")
    assert scaling.encode_categories(nameless).tolist() == [[0]]
