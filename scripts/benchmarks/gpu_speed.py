"""Training and forecasting on a GPU, all data resident there: what=gpu.

Whether the device and its faster number formats forecast as the CPU does, how fast it is, and which
limit it meets: that of its memory or that of starting kernels.

Shapes: N cohorts, B tasks of a batch, J nodes, Q quantities.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from hydra import compose
from hydra.utils import instantiate
from launch import plain
from omegaconf import DictConfig
from targets import Measurement
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ltvnet.forecasting.run_context import HardwareConfig
from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.cuda_graphs import CapturedGraph, iter_tensors
from ltvnet.models.neural.nets.losses import forecast_growth
from ltvnet.models.neural.task_sampling import Batch, EpochSampler, ProcessShard
from ltvnet.models.neural.training import train_net
from ltvnet.models.neural.training_config import TrainingConfig, TrainingJob
from ltvnet.models.neural.training_module import ResidualTrainingModule

log = logging.getLogger("benchmark")

FORECAST_TOLERANCE = 1e-3
"""Most by which a forecast may change, relative to it."""

Precision = Literal["32-true", "tf32", "bf16-mixed"]


@dataclass(frozen=True)
class UntrainedNet:
    """A net, its data on the CPU, and how it learns; `confidence` in 0..1 scales its departure."""

    net: nn.Module
    windows: CohortTensors
    training: TrainingConfig
    confidence: float
    seed: int

    @classmethod
    def from_config(cls, settings: DictConfig, model: str) -> "UntrainedNet":
        """Return the net of a model, untrained, with the data of `settings.overrides`."""
        from ltvnet.forecasting.evidence import confidence
        from ltvnet.models.neural.covariates import CovariateConfig
        from ltvnet.models.neural.forecaster import build_net
        from ltvnet.models.neural.input_scaling import InputScaling
        from ltvnet.models.pattern.pattern import Pattern

        job = compose("train", [f"model={model}", *settings.overrides])
        job.out = ""
        source = instantiate(job.data)
        arguments = plain(job.model, resolve=True)
        curves = source.history().as_of(source.origin)
        curves = curves.take(curves.observed_age >= 0)

        pattern_arguments = dict(arguments["pattern"])
        pattern_arguments.pop("name", None)
        pattern = Pattern(**pattern_arguments).estimate(curves)
        covariates = CovariateConfig(**arguments["covariates"])
        scaling = InputScaling.fit(curves, pattern.segment_curves.median_revenue_d7, covariates)
        torch.manual_seed(job.seed)
        net = build_net(arguments["net"], scaling.input_sizes)
        held_out = pattern.leave_one_out_curves(curves)
        training = arguments["training"] | plain(settings.training, resolve=True)
        return cls(
            net=net,
            windows=CohortTensors.from_curves(curves, held_out, scaling),
            training=TrainingConfig(**training),
            confidence=confidence(curves),
            seed=job.seed,
        )

    @property
    def name(self) -> str:
        """Name of the net's class."""
        return type(self.net).__name__

    def training_job(self, windows: CohortTensors) -> TrainingJob:
        """Return a call of `fit()` on these windows to the end of the schedule."""
        return TrainingJob(
            name="lstm",
            net=self.net,
            cohort_tensors=windows,
            validation=None,
            confidence=self.confidence,
            seed=self.seed,
            stop_epoch=self.training.epochs,
            checkpoint_folder=None,
            event_folder=None,
        )


def measurements(config: DictConfig) -> list[Measurement]:
    """Measure agreement, steps and whole runs of each model; a note where there is no GPU."""
    settings = config.gpu
    device = torch.device(settings.device)
    is_gpu = device.type == "cuda"
    if is_gpu and not torch.cuda.is_available():
        log.warning("what=gpu: no GPU is at hand, so nothing was measured")
        return [Measurement("GPU: none is at hand", None)]

    name = torch.cuda.get_device_name(device) if is_gpu else str(device)
    limits = DeviceLimits.measure(device, settings)
    results = [
        Measurement(f"{name}: bytes read and written by a copy", limits.copied_bytes / 1e9, "GB/s"),
        Measurement(f"{name}: least time between two kernels", limits.launch * 1e6, "µs"),
        Measurement(f"{name}: the same of recorded ones", limits.replay * 1e6, "µs"),
    ]
    for model in settings.models:
        untrained = UntrainedNet.from_config(settings, model)
        log.info("gpu: %s", model)
        results += measure_agreement(untrained, settings, device)
        results += measure_steps(untrained, settings, device, limits)
        results += measure_whole_runs(untrained, settings, device)
    return results


def time_when_done(device: torch.device) -> float:
    """Return the time (s) at which everything asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def average_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return seconds of a piece of work, of so many in a row; a first one is not counted."""
    work()
    start = time_when_done(device)
    for _ in range(repeats):
        work()
    return (time_when_done(device) - start) / repeats


def copy_rate(device: torch.device, size: int) -> float:
    """Return bytes a second, read and written, when `size` bytes are copied within the memory."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / average_seconds(lambda: target.copy_(source), device, 20)


def launch_seconds(device: torch.device, count: int) -> float:
    """Return seconds from one kernel to the next where kernels have next to nothing to do."""
    number = torch.zeros(1, device=device)
    return average_seconds(lambda: number.add_(1.0), device, count)


def replay_seconds(device: torch.device, count: int) -> float:
    """Return seconds from one kernel to the next where they are recorded and started together.

    Without a GPU those of kernels that are asked for one by one.
    """
    if device.type != "cuda":
        return launch_seconds(device, count)

    def add_many_times(number: Tensor) -> Tensor:
        for _ in range(count):
            number.add_(1.0)
        return number

    number = torch.zeros(1, device=device)
    graph = CapturedGraph(add_many_times, number)
    return average_seconds(lambda: graph(number), device, 3) / count


class DeviceLimits(NamedTuple):
    """The most that a device can do.

    `copied_bytes` a second, read and written; seconds from one kernel to the next, `launch` where
    each is asked for and `replay` where they are recorded.
    """

    copied_bytes: float
    launch: float
    replay: float

    @classmethod
    def measure(cls, device: torch.device, settings: DictConfig) -> "DeviceLimits":
        """Measure the limits of a device."""
        return cls(
            copied_bytes=copy_rate(device, settings.copied),
            launch=launch_seconds(device, settings.launches),
            replay=replay_seconds(device, settings.launches),
        )


def repeat_cohorts(windows: CohortTensors, count: int) -> CohortTensors:
    """Return so many cohorts, those of some windows again and again, on their device."""
    rows = torch.arange(count, device=windows.last_age.device) % len(windows)
    repeated = {}
    for field in fields(windows):
        value = getattr(windows, field.name)
        is_by_cohort = isinstance(value, Tensor) and field.name != "rarity"
        if is_by_cohort:
            repeated[field.name] = value[rows]
    return replace(windows, **repeated)


def precision_context(precision: str, device: torch.device) -> Any:  # noqa: ANN401 a context
    """Return the context that a net is run in: 32-true, tf32 or bf16-mixed."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if precision == "bf16-mixed":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@torch.inference_mode()
def forecast_tasks(
    untrained: UntrainedNet,
    windows: CohortTensors,
    tasks: Tasks,
    precision: Precision = "32-true",
) -> Tensor:
    """Return revenue per user at the nodes after each task's age, where windows are: (Q, B, I)."""
    inputs, targets = windows.inputs_and_targets(tasks)
    with precision_context(precision, windows.last_age.device):
        raw = untrained.net(inputs)
    growth = forecast_growth(raw.float(), targets, untrained.confidence).growth[..., :-1]
    return targets.observed_value.unsqueeze(1) + growth


def latest_tasks(windows: CohortTensors) -> Tasks:
    """Return each cohort where it stands."""
    cohort_index = torch.arange(len(windows), device=windows.last_age.device)
    return Tasks(cohort_index, windows.last_age)


def largest_change(forecast: Tensor, reference: Tensor) -> float:
    """Return the largest difference of forecasts, relative to the reference."""
    forecast, reference = forecast.double().cpu(), reference.double().cpu()
    return float(((forecast - reference).abs() / reference.abs().clamp(min=1e-12)).max())


def measure_agreement(
    untrained: UntrainedNet, settings: DictConfig, device: torch.device
) -> Iterator[Measurement]:
    """Yield how far forecasts on the device are from the CPU's, by a net that was trained."""
    hardware = HardwareConfig(**plain(settings.machine, resolve=True))
    windows = untrained.windows
    train_net(untrained.training_job(windows), untrained.training, hardware)
    expected = forecast_tasks(untrained, windows, latest_tasks(windows))

    on_device = windows.to(device)
    untrained.net.to(device).eval()
    for precision in settings.precisions:
        forecast = forecast_tasks(untrained, on_device, latest_tasks(on_device), precision)
        change = largest_change(forecast, expected)
        is_used = precision in ("32-true", hardware.precision)  # others are shown only
        target = FORECAST_TOLERANCE if is_used else None
        what = f"{untrained.name}: forecasts in {precision} differ from the CPU's by"
        yield Measurement(what, change, "", target)
    untrained.net.cpu()


def training_module(
    untrained: UntrainedNet, windows: CohortTensors, hardware: HardwareConfig
) -> ResidualTrainingModule:
    """Return the module that `fit()` hands to Lightning, ready to step without it.

    On the device of the windows.
    """
    module = ResidualTrainingModule(
        job=untrained.training_job(windows), training=untrained.training, hardware=hardware
    )
    module.to(windows.last_age.device).train()
    half_way = latest_tasks(windows)._replace(observed_age=windows.last_age // 2)
    _, targets = windows.inputs_and_targets(half_way)
    module.scale = (targets.weight * targets.pattern_growth).sum() / targets.weight.sum()
    return module


def full_batches(
    module: ResidualTrainingModule, sampler: EpochSampler, block_count: int
) -> list[Batch]:
    """Return batches of some blocks, all of one size, so without a smaller last one."""
    batches = []
    for block in islice(sampler, block_count):
        sized_batches = zip(module.normalized_batches(block), block.global_sizes, strict=True)
        batches += [batch for batch, size in sized_batches if size == sampler.plan.batch_size]
    return batches


def byte_count(batch: Batch) -> int:
    """Return the bytes of the tensors of a batch."""
    return sum(tensor.numel() * tensor.element_size() for tensor in iter_tensors(batch))


def count_kernels(work: Callable[[], object]) -> int:
    """Return how many kernels a piece of work starts on a GPU; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    return sum(event.count for event in profiler.key_averages() if event.device_time > 0)


def measure_steps(
    untrained: UntrainedNet, settings: DictConfig, device: torch.device, limits: DeviceLimits
) -> Iterator[Measurement]:
    """Yield examples a second of the data path and of whole steps, and limits that they reach."""
    name = untrained.name
    windows = repeat_cohorts(untrained.windows.to(device), settings.cohorts)
    module = training_module(
        untrained, windows, HardwareConfig(**plain(settings.machine, resolve=True))
    )
    batch_size = module.plan.batch_size
    sampler = EpochSampler(
        cohort_tensors=windows, plan=module.plan, seed=untrained.seed, shard=ProcessShard(0, 1)
    )
    block_count = min(len(sampler), settings.blocks)

    data_seconds = average_seconds(lambda: [None for _ in islice(sampler, block_count)], device, 1)
    batches = full_batches(module, sampler, block_count)
    data_rate = len(batches) * batch_size / data_seconds
    yield Measurement(f"{name}: examples of the data path, features included", data_rate, "/s")
    bandwidth = 2 * sum(map(byte_count, batches)) / data_seconds / limits.copied_bytes
    yield Measurement(f"{name}: memory bandwidth that they reach, of a copy's", bandwidth)

    eager_gradient = module.compute_gradient_eagerly
    eager_seconds = _step_seconds(untrained, module, eager_gradient, batches, device)
    what = f"{name}: examples of training steps, kernel by kernel"
    yield Measurement(what, batch_size / eager_seconds, "/s")
    kernel_count = count_kernels(lambda: eager_gradient(batches[0], batch_size))
    if kernel_count:
        yield Measurement(f"{name}: kernels of a step", kernel_count)
        launch_share = kernel_count * limits.launch / eager_seconds
        yield Measurement(f"{name}: launch limit that it reaches", launch_share)

    recorded_gradient = module.compute_gradient
    recorded_seconds = _step_seconds(untrained, module, recorded_gradient, batches, device)
    what = f"{name}: examples of training steps, recorded"
    yield Measurement(what, batch_size / recorded_seconds, "/s")
    if kernel_count:
        replay_share = kernel_count * limits.replay / recorded_seconds
        yield Measurement(f"{name}: limit of replayed kernels that it reaches", replay_share)


def _step_seconds(
    untrained: UntrainedNet,
    module: ResidualTrainingModule,
    compute_gradient: Callable[[Batch, int], Tensor],
    batches: list[Batch],
    device: torch.device,
) -> float:
    """Return seconds of a step of training, its gradient computed in one of two ways."""
    weights = module.net.parameters()
    optimizer = torch.optim.AdamW(weights, lr=untrained.training.rate / 10, fused=True)
    batch_size = module.plan.batch_size

    def step_through() -> None:
        for batch in batches:
            compute_gradient(batch, batch_size)
            optimizer.step()

    return average_seconds(step_through, device, 1) / len(batches)


def measure_whole_runs(
    untrained: UntrainedNet, settings: DictConfig, device: torch.device
) -> Iterator[Measurement]:
    """Yield seconds to train on `settings.cohorts` and to forecast `settings.forecasts` cohorts."""
    name = untrained.name
    windows = repeat_cohorts(untrained.windows.to(device), settings.cohorts)
    hardware = HardwareConfig(**plain(settings.machine, resolve=True))
    start = time_when_done(device)
    train_net(untrained.training_job(windows), untrained.training, hardware)
    seconds = time_when_done(device) - start
    yield Measurement(f"{name}: training on {settings.cohorts:,} cohorts", seconds, "s")

    untrained.net.to(device)
    chunks = list(latest_tasks(windows).split(settings.chunk))
    for precision in settings.precisions:
        forecast_count = 0
        start = time_when_done(device)
        while forecast_count < settings.forecasts:
            for tasks in chunks:
                forecast_tasks(untrained, windows, tasks, precision)
            forecast_count += len(windows)
        seconds = (time_when_done(device) - start) * settings.forecasts / forecast_count
        what = f"{name}: forecasts of {settings.forecasts:,} cohorts in {precision}"
        yield Measurement(what, seconds, "s")
    untrained.net.cpu()
