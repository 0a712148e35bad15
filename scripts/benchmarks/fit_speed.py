"""Training beside a bare PyTorch loop, its data path beside a DataLoader, and how it grows.

Shapes: N cohorts, A ages, J nodes.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

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
from ltvnet.models.neural.nets.heads import InputSizes, TaskInputs, TaskTargets
from ltvnet.models.neural.nets.losses import HUBER_DELTA, QUANTILES, VALUE_FLOOR
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard
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


def lines(config: DictConfig) -> list[Measurement]:
    """Overhead of `fit` over a bare loop, examples a second, and the slope of fit time."""
    chosen = config.train
    case = prepared(chosen.overrides)
    return [*overheads(case, chosen), *data_path(case, chosen), growth(chosen)]


def overheads(case: Case, chosen: DictConfig) -> Iterator[Measurement]:
    """Seconds of `fit` over those of a bare loop, for each net and size of batch."""
    for size, target in chosen.targets.items():
        for name in chosen.nets:
            how = settings(name, size, chosen.epochs[size])
            runs = {"fit": partial(fitted, case, *how), "bare": partial(bare, case, *how[:2])}
            seconds = interleaved(runs, chosen.repeats)
            log.info("batch %d, %s: %s seconds", size, name, seconds)
            what = f"fit over a bare PyTorch loop, {name}, batch {size}"
            yield Measurement(what, seconds["fit"] / seconds["bare"], "", target)


def data_path(case: Case, chosen: DictConfig) -> Iterator[Measurement]:
    """Examples a second without a net: ours, and those of a DataLoader over single windows."""
    ours, theirs = chosen.examples.epochs, chosen.examples["items"]
    runs = {"ours": lambda: drawn(case.windows, ours), "items": lambda: loaded(case, theirs)}
    seconds = interleaved(runs, chosen.repeats)
    plan = EpochPlan(tasks_per_cohort=1, batch_size=4096, unseen_share=0.05)
    count = ours * len(
        EpochSampler(windows=case.windows, plan=plan, seed=0, share=ProcessShard(0, 1)).is_hidden
    )
    unit = "thousand a second"
    rate = count / seconds["ours"] / 1000
    yield Measurement(
        "training examples, features and all", rate, unit, chosen.examples.target, is_minimum=True
    )
    yield Measurement("windows of a plain DataLoader", theirs / seconds["items"] / 1000, unit)


def growth(chosen: DictConfig) -> Measurement:
    """How the time of `fit` grows with cohorts."""
    cases = [prepared([*chosen.overrides, *words]) for words in chosen.growth.data]
    how = settings(chosen.growth.net, 4096, chosen.growth.epochs)
    runs = {str(len(case.windows)): partial(fitted, case, *how) for case in cases}
    seconds = interleaved(runs, chosen.repeats)
    log.info("fit of so many cohorts: %s seconds", seconds)
    found = log_log_slope([float(size) for size in seconds], list(seconds.values()))
    return Measurement(f"log-log slope of fit over {', '.join(seconds)} cohorts", found)


def prepared(overrides: list[str]) -> Case:
    """Tensors of the simulated portfolio with these overrides, as of the end of acquisition."""
    config = compose("train", ["model=mlp", *overrides])
    config.out = ""
    source = instantiate(config.data)
    model = model_spec(config).arguments
    curves = source.history().as_of(source.origin)
    curves = curves.take(curves.observed_age >= 0)
    start = NeuralForecaster(**model, context=run_context(config, None)).prepare(curves)
    windows = CohortTensors.from_curves(
        curves, start.pattern.leave_one_out_curves(curves), start.scaling
    )
    return Case(windows, start.scaling.input_sizes, start.confidence)


def settings(
    name: str, size: int, epochs: int
) -> tuple[Mapping[str, Any], TrainingConfig, HardwareConfig]:
    """A net's config, and how it learns in batches of a size for so many epochs."""
    config = compose("train", [f"model={name}"])
    config.out = ""
    model: Any = plain(config.model, resolve=True)
    chosen = {"batch_size": size, "epochs": epochs, "min_steps": 1, "rate": RATE}
    training = TrainingConfig(**model["training"] | chosen)
    return model["net"], training, run_context(config, None).hardware


def fitted(
    case: Case, net: Mapping[str, Any], training: TrainingConfig, machine: HardwareConfig
) -> nn.Module:
    """A new net, fitted; nothing is written."""
    torch.manual_seed(0)
    made = build_net(net, case.sizes)
    stop = training.epochs
    train_net(
        TrainingJob(made, case.windows, None, case.confidence, 0, stop, None, None),
        training,
        machine,
    )
    return made


def bare(case: Case, config: Mapping[str, Any], training: TrainingConfig) -> nn.Module:
    """The same steps by hand: no Trainer, no hooks, nothing logged."""
    torch.manual_seed(0)
    net, windows = build_net(config, case.sizes).train(), case.windows
    mean = deepcopy(net)
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
    credible = windows.relative_users / (windows.relative_users + training.users)
    least = NEGLIGIBLE_GROWTH * scale(windows, plan, credible)
    pace = 1.0 - 0.5 ** (1 / (training.average * steps))
    for epoch in range(training.epochs):
        torch.manual_seed(epoch)
        for block in EpochSampler(windows=windows, plan=plan, seed=epoch, share=ProcessShard(0, 1)):
            targets = block.batch.targets
            counts = (targets.pattern_growth > least).float()
            targets = targets._replace(
                pattern_growth=targets.pattern_growth * counts + 1.0 - counts,
                weight=targets.weight * counts * credible[block.batch.cohort_index].unsqueeze(1),
            )
            batch = block.batch._replace(targets=targets)
            outside = torch.split(1.0 - counts, block.local_sizes)
            for part, out in zip(batch.split(block.local_sizes), outside, strict=True):
                loss = loss_of(net, part.inputs, part.targets, out, case.confidence, training)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), training.clip)
                optimizer.step()
                schedule.step()
                first = schedule.last_epoch == 1
                with torch.no_grad():
                    pairs = list(mean.parameters()), list(net.parameters())
                    torch._foreach_lerp_(*pairs, 1.0 if first else pace)
    return mean


def scale(windows: CohortTensors, plan: EpochPlan, credible: Tensor) -> Tensor:
    """Mean growth of the pattern, weighted as training weighs it."""
    tasks = EpochSampler(windows=windows, plan=plan, seed=0, share=ProcessShard(0, 1)).tasks
    targets = windows.targets(tasks)
    weight = targets.weight * credible[tasks.cohort_index].unsqueeze(1)
    return (weight * targets.pattern_growth).sum() / weight.sum()


def loss_of(
    net: nn.Module,
    inputs: TaskInputs,
    targets: TaskTargets,
    out: Tensor,
    confidence: float,
    training: TrainingConfig,
) -> Tensor:
    """The Huber loss of the mean and the pinball loss of quantiles, with the penalty."""
    raw = net(inputs)
    forecast = at_targets(departures(raw, confidence), targets) + out.unsqueeze(2)
    each = huber(forecast[..., 0], targets)
    each = each + training.quantiles * pinball(forecast[..., 1:], targets)
    penalty = (confidence * raw[..., 0]).square().mean()
    return (targets.weight * each).sum() / targets.weight.sum() + training.penalty * penalty


def departures(raw: Tensor, confidence: float) -> Tensor:
    """Log multiples of the pattern's growth for mean, p10, p50, p90, as one would write them."""
    mean, median, below, above = raw.unbind(-1)
    mean = confidence * mean
    p50 = mean + median
    p10, p90 = p50 - functional.softplus(below), p50 + functional.softplus(above)
    return torch.stack((mean, p10, p50, p90), dim=-1)  # (B, I, Q)


def at_targets(z: Tensor, targets: TaskTargets) -> Tensor:
    """Forecast growth at each target, as one would write it: (B, T, Q)."""
    grown = torch.cumsum(z.exp() * targets.interval_growth.unsqueeze(-1), dim=1)  # (B, I, Q)
    place = targets.last_interval[:, None, None].expand(-1, 1, z.shape[2])  # (B, 1, Q)
    before = torch.where(place > 0, grown.gather(1, (place - 1).clamp(min=0)), 0.0)
    last = before + z.gather(1, place).exp() * targets.last_interval_growth[:, None, None]
    return torch.cat((grown, last), dim=1)


def huber(forecast: Tensor, targets: TaskTargets) -> Tensor:
    """Huber loss of the log ratio of values: (B, T)."""
    base = targets.observed_value.clamp(min=0.0).unsqueeze(1)
    floor = VALUE_FLOOR * (base + targets.pattern_growth)
    actual = base + targets.actual_growth.clamp(min=0.0)
    ratio = ((actual + floor) / (base + forecast + floor)).log()
    none = torch.zeros_like(ratio)
    return functional.huber_loss(ratio, none, reduction="none", delta=HUBER_DELTA)


def pinball(forecast: Tensor, targets: TaskTargets) -> Tensor:
    """Pinball loss of quantiles (B, T, Q - 1) over the pattern's growth: (B, T)."""
    error = (targets.actual_growth.unsqueeze(-1) - forecast) / targets.pattern_growth.unsqueeze(-1)
    level = error.new_tensor(QUANTILES)
    return torch.maximum(level * error, (level - 1.0) * error).sum(-1)


def drawn(windows: CohortTensors, epochs: int) -> None:
    """Make the tensors of all tasks of some epochs, one task a cohort in each."""
    for epoch in range(epochs):
        plan = EpochPlan(tasks_per_cohort=1, batch_size=4096, unseen_share=0.05)
        for block in EpochSampler(windows=windows, plan=plan, seed=epoch, share=ProcessShard(0, 1)):
            del block


class Items(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Windows of curves one by one, as a tutorial has it: prefix, mask and growth at nodes."""

    def __init__(self, case: Case, count: int) -> None:
        """So many of them."""
        self.windows, self.count = case.windows, count
        self.tasks = case.windows.draw_tasks(1, torch.Generator().manual_seed(0))
        self.nodes = node_ages(case.windows.last_age.device)

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """One of them."""
        place %= len(self.tasks.observed_age)
        curve, age = (
            self.windows.values[self.tasks.cohort_index[place]],
            self.tasks.observed_age[place],
        )
        seen = (self.nodes <= age).float()
        at_nodes = curve[self.nodes]
        return torch.log1p(at_nodes.clamp(min=-0.5)) * seen, seen, at_nodes - curve[age]


def loaded(case: Case, count: int) -> None:
    """Go through so many windows in a DataLoader of this process."""
    for batch in DataLoader(Items(case, count), batch_size=4096, shuffle=True):
        del batch


def interleaved(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turn; what only the first run costs is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            begin = perf_counter()
            run()
            if repeat:
                seconds[name].append(perf_counter() - begin)
    return {name: median(each) for name, each in seconds.items()}
