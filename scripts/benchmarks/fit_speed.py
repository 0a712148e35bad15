"""Training beside a bare PyTorch loop, its data path beside a DataLoader, and how it grows.

Shapes: N cohorts, A ages, J nodes, B tasks of a batch, I intervals, T targets, Q quantities.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from hydra import compose
from hydra.utils import instantiate
from launch import model_spec, plain, run_context
from omegaconf import DictConfig
from targets import Measurement, log_log_slope
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.forecaster import NeuralForecaster, build_net
from ltvnet.models.neural.lookup_tables import node_ages
from ltvnet.models.neural.nets.heads import InputSizes, TaskTargets
from ltvnet.models.neural.nets.losses import HUBER_DELTA, QUANTILES, VALUE_FLOOR
from ltvnet.models.neural.task_sampling import Batch, EpochPlan, EpochSampler, ProcessShard
from ltvnet.models.neural.training import train_net
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import NEGLIGIBLE_GROWTH

log = logging.getLogger("benchmark")

RATE = 0.006
"""Peak of the learning rate, whatever the batch: that both loops do the same is what counts."""


@dataclass(frozen=True)
class Case:
    """Curves to learn from as tensors, and the widths of a net's inputs."""

    windows: CohortTensors
    sizes: InputSizes
    confidence: float


class FitSettings(NamedTuple):
    """A net's config, how it learns, and on what."""

    net: Mapping[str, Any]
    training: TrainingConfig
    hardware: HardwareConfig


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure `fit` over a bare loop, examples a second, and the slope of fit time."""
    settings = config.train
    case = prepare_case(settings.overrides)
    overheads = measure_overheads(case, settings)
    return [*overheads, *measure_data_path(case, settings), measure_growth(settings)]


def measure_overheads(case: Case, settings: DictConfig) -> Iterator[Measurement]:
    """Yield seconds of `fit` over those of a bare loop, for each net and size of batch."""
    for batch_size, target in settings.targets.items():
        for name in settings.nets:
            how = fit_settings(name, batch_size, settings.epochs[batch_size])
            runs = {
                "fit": partial(fit_net, case, how),
                "bare": partial(fit_by_bare_loop, case, how.net, how.training),
            }
            seconds = median_seconds_in_turn(runs, settings.repeats)
            log.info("batch %d, %s: %s seconds", batch_size, name, seconds)
            what = f"fit over a bare PyTorch loop, {name}, batch {batch_size}"
            yield Measurement(what, seconds["fit"] / seconds["bare"], "", target)


def measure_data_path(case: Case, settings: DictConfig) -> Iterator[Measurement]:
    """Yield examples a second without a net: ours, and those of a DataLoader of single windows."""
    epochs = settings.examples.epochs
    item_count = settings.examples["items"]
    runs = {
        "ours": lambda: make_examples(case.windows, epochs),
        "items": lambda: load_items(case, item_count),
    }
    seconds = median_seconds_in_turn(runs, settings.repeats)

    example_count = epochs * len(_one_task_a_cohort(case.windows, seed=0).is_hidden)
    rate = example_count / seconds["ours"] / 1000
    unit = "thousand a second"
    yield Measurement(
        "training examples, features and all", rate, unit, settings.examples.target, is_minimum=True
    )
    item_rate = item_count / seconds["items"] / 1000
    yield Measurement("windows of a plain DataLoader", item_rate, unit)


def measure_growth(settings: DictConfig) -> Measurement:
    """Measure how the time of `fit` grows with cohorts."""
    growth = settings.growth
    cases = [prepare_case([*settings.overrides, *overrides]) for overrides in growth.data]
    how = fit_settings(growth.net, 4096, growth.epochs)
    runs = {str(len(case.windows)): partial(fit_net, case, how) for case in cases}
    seconds = median_seconds_in_turn(runs, settings.repeats)
    log.info("fit of so many cohorts: %s seconds", seconds)

    slope = log_log_slope([float(count) for count in seconds], list(seconds.values()))
    return Measurement(f"log-log slope of fit over {', '.join(seconds)} cohorts", slope)


def prepare_case(overrides: list[str]) -> Case:
    """Return tensors of the simulated portfolio with overrides, as of the end of acquisition."""
    config = compose("train", ["model=mlp", *overrides])
    config.out = ""
    source = instantiate(config.data)
    model = model_spec(config).arguments
    curves = source.history().as_of(source.origin)
    curves = curves.take(curves.observed_age >= 0)

    start = NeuralForecaster(**model, context=run_context(config, None)).prepare(curves)
    held_out = start.pattern.leave_one_out_curves(curves)
    windows = CohortTensors.from_curves(curves, held_out, start.scaling)
    return Case(windows, start.scaling.input_sizes, start.confidence)


def fit_settings(name: str, batch_size: int, epochs: int) -> FitSettings:
    """Return a net's config, and how it learns in batches of a size for so many epochs."""
    config = compose("train", [f"model={name}"])
    config.out = ""
    model = plain(config.model, resolve=True)
    changes = {"batch_size": batch_size, "epochs": epochs, "min_steps": 1, "rate": RATE}
    training = TrainingConfig(**model["training"] | changes)
    return FitSettings(model["net"], training, run_context(config, None).hardware)


def fit_net(case: Case, settings: FitSettings) -> nn.Module:
    """Return a new net, fitted; nothing is written."""
    torch.manual_seed(0)
    net = build_net(settings.net, case.sizes)
    job = TrainingJob(
        name="lstm",
        net=net,
        cohort_tensors=case.windows,
        validation=None,
        confidence=case.confidence,
        seed=0,
        stop_epoch=settings.training.epochs,
        checkpoint_folder=None,
        event_folder=None,
    )
    train_net(job, settings.training, settings.hardware)
    return net


def fit_by_bare_loop(
    case: Case, net_config: Mapping[str, Any], training: TrainingConfig
) -> nn.Module:
    """Fit a net by the same steps written by hand: no Trainer, no hooks, nothing logged."""
    torch.manual_seed(0)
    windows = case.windows
    net = build_net(net_config, case.sizes).train()
    average_net = deepcopy(net)
    plan = EpochPlan(
        tasks_per_cohort=training.tasks,
        batch_size=training.batch_size,
        unseen_share=training.unseen,
    )
    steps = plan.count_batches(windows)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=training.rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.rate, training.epochs * steps
    )

    user_weight = windows.relative_users / (windows.relative_users + training.users)
    smallest_growth = NEGLIGIBLE_GROWTH * mean_pattern_growth(windows, plan, user_weight)
    pace = 1.0 - 0.5 ** (1 / (training.average * steps))
    for epoch in range(training.epochs):
        torch.manual_seed(epoch)
        sampler = EpochSampler(
            cohort_tensors=windows, plan=plan, seed=epoch, shard=ProcessShard(0, 1)
        )
        for batch, is_left_out in _bare_batches(sampler, smallest_growth, user_weight):
            loss = bare_loss(net, batch, is_left_out, case.confidence, training)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), training.clip)
            optimizer.step()
            schedule.step()

            is_first = schedule.last_epoch == 1
            with torch.no_grad():
                weights = list(average_net.parameters()), list(net.parameters())
                torch._foreach_lerp_(*weights, 1.0 if is_first else pace)
    return average_net


def _bare_batches(
    sampler: EpochSampler, smallest_growth: Tensor, user_weight: Tensor
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches of an epoch, and 1 where a target (B, T) is left out of the loss, else 0.

    Targets are left out where the pattern hardly grows, and weigh by the users of their cohort.
    """
    for block in sampler:
        targets = block.batch.targets
        counts = (targets.pattern_growth > smallest_growth).float()
        cohort_weight = user_weight[block.batch.cohort_index].unsqueeze(1)
        targets = targets._replace(
            pattern_growth=targets.pattern_growth * counts + 1.0 - counts,
            weight=targets.weight * counts * cohort_weight,
        )
        batches = block.batch._replace(targets=targets).split(block.local_sizes)
        left_out = torch.split(1.0 - counts, block.local_sizes)
        yield from zip(batches, left_out, strict=True)


def mean_pattern_growth(windows: CohortTensors, plan: EpochPlan, user_weight: Tensor) -> Tensor:
    """Return the mean growth of the pattern (), weighted as training weighs it."""
    tasks = EpochSampler(cohort_tensors=windows, plan=plan, seed=0, shard=ProcessShard(0, 1)).tasks
    targets = windows.targets(tasks)
    weight = targets.weight * user_weight[tasks.cohort_index].unsqueeze(1)
    return (weight * targets.pattern_growth).sum() / weight.sum()


def bare_loss(
    net: nn.Module, batch: Batch, is_left_out: Tensor, confidence: float, training: TrainingConfig
) -> Tensor:
    """Return the Huber loss of the mean and the pinball loss of quantiles, with the penalty."""
    targets = batch.targets
    raw = net(batch.inputs)  # (B, I, Q)
    forecast = at_targets(departures(raw, confidence), targets) + is_left_out.unsqueeze(2)
    loss = huber(forecast[..., 0], targets)
    loss = loss + training.quantiles * pinball(forecast[..., 1:], targets)  # (B, T)
    penalty = (confidence * raw[..., 0]).square().mean()
    return (targets.weight * loss).sum() / targets.weight.sum() + training.penalty * penalty


def departures(raw: Tensor, confidence: float) -> Tensor:
    """Return log multiples of the pattern's growth for mean, p10, p50, p90, by hand: (B, I, Q)."""
    mean, median_step, below, above = raw.unbind(-1)
    mean = confidence * mean
    p50 = mean + median_step
    p10 = p50 - functional.softplus(below)
    p90 = p50 + functional.softplus(above)
    return torch.stack((mean, p10, p50, p90), dim=-1)


def at_targets(z: Tensor, targets: TaskTargets) -> Tensor:
    """Return forecast growth at each target from log multiples z (B, I, Q), by hand: (B, T, Q)."""
    growth = torch.cumsum(z.exp() * targets.interval_growth.unsqueeze(-1), dim=1)  # (B, I, Q)
    last = targets.last_interval[:, None, None].expand(-1, 1, z.shape[2])  # (B, 1, Q)
    growth_before = torch.where(last > 0, growth.gather(1, (last - 1).clamp(min=0)), 0.0)
    last_growth = z.gather(1, last).exp() * targets.last_interval_growth[:, None, None]
    return torch.cat((growth, growth_before + last_growth), dim=1)


def huber(forecast: Tensor, targets: TaskTargets) -> Tensor:
    """Return the Huber loss of the log ratio of values: (B, T)."""
    base = targets.observed_value.clamp(min=0.0).unsqueeze(1)
    floor = VALUE_FLOOR * (base + targets.pattern_growth)
    actual = base + targets.actual_growth.clamp(min=0.0)
    log_ratio = ((actual + floor) / (base + forecast + floor)).log()
    zeros = torch.zeros_like(log_ratio)
    return functional.huber_loss(log_ratio, zeros, reduction="none", delta=HUBER_DELTA)


def pinball(forecast: Tensor, targets: TaskTargets) -> Tensor:
    """Return the pinball loss of quantiles (B, T, Q - 1) over the pattern's growth: (B, T)."""
    error = (targets.actual_growth.unsqueeze(-1) - forecast) / targets.pattern_growth.unsqueeze(-1)
    level = error.new_tensor(QUANTILES)
    return torch.maximum(level * error, (level - 1.0) * error).sum(-1)


def _one_task_a_cohort(windows: CohortTensors, seed: int) -> EpochSampler:
    """Return an epoch of one task a cohort, in batches of 4096."""
    plan = EpochPlan(tasks_per_cohort=1, batch_size=4096, unseen_share=0.05)
    return EpochSampler(cohort_tensors=windows, plan=plan, seed=seed, shard=ProcessShard(0, 1))


def make_examples(windows: CohortTensors, epochs: int) -> None:
    """Make the tensors of all tasks of some epochs, one task a cohort in each."""
    for epoch in range(epochs):
        for block in _one_task_a_cohort(windows, seed=epoch):
            del block


class Items(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Windows of curves one by one, as a tutorial has it: prefix, mask and growth at nodes."""

    def __init__(self, case: Case, count: int) -> None:
        """Draw a task of each cohort, of which `count` items are made, again and again."""
        self.windows = case.windows
        self.count = count
        self.tasks = case.windows.draw_tasks(1, torch.Generator().manual_seed(0))
        self.nodes = node_ages(case.windows.last_age.device)

    def __len__(self) -> int:
        """Return the number of items."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return prefix, mask and growth of an item, (J,) each."""
        row = index % len(self.tasks.observed_age)
        curve = self.windows.values[self.tasks.cohort_index[row]]
        age = self.tasks.observed_age[row]
        mask = (self.nodes <= age).float()
        at_nodes = curve[self.nodes]
        return torch.log1p(at_nodes.clamp(min=-0.5)) * mask, mask, at_nodes - curve[age]


def load_items(case: Case, count: int) -> None:
    """Go through so many windows in a DataLoader of this process."""
    for batch in DataLoader(Items(case, count), batch_size=4096, shuffle=True):
        del batch


def median_seconds_in_turn(
    runs: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Return median seconds of each, run in turn; what only the first run costs is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = perf_counter()
            run()
            if repeat > 0:
                seconds[name].append(perf_counter() - start)
    return {name: median(run_seconds) for name, run_seconds in seconds.items()}
