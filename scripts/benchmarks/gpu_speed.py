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
from typing import Any, NamedTuple

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
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

CHANGE = 1e-3
"""Most by which a forecast may change, relative to it."""


@dataclass(frozen=True)
class Ready:
    """A net, its data on the CPU, and how it learns; `confidence` in 0..1 scales its departure."""

    net: nn.Module
    windows: CohortTensors
    training: TrainingConfig
    confidence: float
    seed: int

    @classmethod
    def of(cls, chosen: DictConfig, model: str) -> "Ready":
        """The net of a model, untrained, with the data of `chosen.overrides`."""
        from ltvnet.forecasting.evidence import confidence
        from ltvnet.models.neural.covariates import CovariateConfig
        from ltvnet.models.neural.forecaster import build_net
        from ltvnet.models.neural.input_scaling import InputScaling
        from ltvnet.models.pattern.pattern import Pattern

        job = compose("train", [f"model={model}", *chosen.overrides])
        job.out = ""
        source, found = instantiate(job.data), plain(job.model)
        curves = source.history().as_of(source.origin)
        curves = curves.take(curves.observed_age >= 0)
        own = {name: value for name, value in found["pattern"].items() if name != "name"}
        pattern = Pattern(**own).estimate(curves)
        scaling = InputScaling.fit(
            curves, pattern.segment_curves.median_revenue_d7, CovariateConfig(**found["covariates"])
        )
        torch.manual_seed(job.seed)
        return cls(
            net=build_net(found["net"], scaling.input_sizes),
            windows=CohortTensors.from_curves(
                curves, pattern.leave_one_out_curves(curves), scaling
            ),
            training=TrainingConfig(**found["training"] | plain(chosen.training)),
            confidence=confidence(curves),
            seed=job.seed,
        )

    def job(self, windows: CohortTensors) -> TrainingJob:
        """A call of `fit()` on these windows to the end of the schedule."""
        return TrainingJob(
            net=self.net, cohort_tensors=windows, validation=None, confidence=self.confidence,
            seed=self.seed, stop_epoch=self.training.epochs, checkpoint_folder=None, event_folder=None,
        )  # fmt: skip


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as a dictionary."""
    values: Any = OmegaConf.to_container(config, resolve=True)
    return values  # type: ignore[no-any-return]


def lines(config: DictConfig) -> list[Measurement]:
    """What is said above of each model of `config.gpu`; a note where there is no GPU."""
    chosen = config.gpu
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        log.warning("what=gpu: no GPU is at hand, so nothing was measured")
        return [Measurement("GPU: none is at hand", None)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    card = Card.of(device, chosen)
    found = [
        Measurement(f"{name}: bytes read and written by a copy", card.copied / 1e9, "GB/s"),
        Measurement(f"{name}: least time between two kernels", card.launch * 1e6, "µs"),
        Measurement(f"{name}: the same of recorded ones", card.replay * 1e6, "µs"),
    ]
    for model in chosen.models:
        ready = Ready.of(chosen, model)
        log.info("gpu: %s", model)
        found += [
            *agreement(ready, chosen, device),
            *steps(ready, chosen, device, card),
            *whole(ready, chosen, device),
        ]
    return found


def synchronised(device: torch.device) -> float:
    """The time at which everything asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of a piece of work, of so many in a row; a first one is not counted."""
    work()
    began = synchronised(device)
    for _ in range(repeats):
        work()
    return (synchronised(device) - began) / repeats


def copied(device: torch.device, size: int) -> float:
    """Bytes a second that are read and written when so many are copied within the memory."""
    one = torch.ones(size, dtype=torch.uint8, device=device)
    other = torch.empty_like(one)
    return 2 * size / seconds(lambda: other.copy_(one), device, 20)


def launched(device: torch.device, count: int) -> float:
    """Seconds from one kernel to the next where kernels have next to nothing to do."""
    one = torch.zeros(1, device=device)
    return seconds(lambda: one.add_(1.0), device, count)


def replayed(device: torch.device, count: int) -> float:
    """The same where they are recorded once and started together; without a GPU, as above."""
    if device.type != "cuda":
        return launched(device, count)

    def work(read: Tensor) -> Tensor:
        for _ in range(count):
            read.add_(1.0)
        return read

    one = torch.zeros(1, device=device)
    recorded = CapturedGraph(work, one)
    return seconds(lambda: recorded(one), device, 3) / count


class Card(NamedTuple):
    """What a device can do at most.

    `copied` bytes a second, read and written; seconds from one kernel to the next, `launch` where
    each is asked for and `replay` where they are recorded.
    """

    copied: float
    launch: float
    replay: float

    @classmethod
    def of(cls, device: torch.device, chosen: DictConfig) -> "Card":
        """The limits of a device, measured."""
        count = chosen.launches
        return cls(copied(device, chosen.copied), launched(device, count), replayed(device, count))


def tiled(windows: CohortTensors, cohorts: int) -> CohortTensors:
    """So many cohorts, those of some windows again and again, on their device."""
    rows = torch.arange(cohorts, device=windows.last_age.device) % len(windows)
    kept = {
        field.name: value[rows]
        for field in fields(windows)
        if isinstance(value := getattr(windows, field.name), Tensor) and field.name != "rarity"
    }
    return replace(windows, **kept)


def precise(precision: str, device: torch.device) -> Any:  # noqa: ANN401 a context
    """The context that a net is run in: 32-true, tf32 or bf16-mixed."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    bf16 = precision == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


@torch.inference_mode()
def forecasts(
    ready: Ready, windows: CohortTensors, tasks: Tasks, precision: str = "32-true"
) -> Tensor:
    """Revenue per user at the nodes after each task's age, where windows are: (Q, B, I)."""
    inputs, targets = windows.inputs_and_targets(tasks)
    with precise(precision, windows.last_age.device):
        raw = ready.net(inputs)
    growth = forecast_growth(raw.float(), targets, ready.confidence).growth[..., :-1]
    return targets.observed_value.unsqueeze(1) + growth


def last(windows: CohortTensors) -> Tasks:
    """Each cohort where it stands."""
    return Tasks(torch.arange(len(windows), device=windows.last_age.device), windows.last_age)


def change(one: Tensor, other: Tensor) -> float:
    """The largest difference of forecasts, relative to the second."""
    one, other = one.double().cpu(), other.double().cpu()
    return float(((one - other).abs() / other.abs().clamp(min=1e-12)).max())


def agreement(ready: Ready, chosen: DictConfig, device: torch.device) -> Iterator[Measurement]:
    """How far forecasts on the device are from the CPU's, by a net that was trained."""
    machine = HardwareConfig(**plain(chosen.machine))
    train_net(ready.job(ready.windows), ready.training, machine)
    model = type(ready.net).__name__
    expected = forecasts(ready, ready.windows, last(ready.windows))
    there = ready.windows.to(device)
    ready.net.to(device).eval()
    for precision in chosen.precisions:
        found = change(forecasts(ready, there, last(there), precision), expected)
        used = precision in ("32-true", machine.precision)  # others are shown only
        aim = CHANGE if used else None
        yield Measurement(
            f"{model}: forecasts in {precision} differ from the CPU's by", found, "", aim
        )
    ready.net.cpu()


def learning(
    ready: Ready, windows: CohortTensors, machine: HardwareConfig
) -> ResidualTrainingModule:
    """What `fit()` hands to Lightning, ready to step without it on the device of the windows."""
    module = ResidualTrainingModule(
        job=ready.job(windows), training=ready.training, machine=machine
    )
    module.to(windows.last_age.device).train()
    _, targets = windows.inputs_and_targets(
        last(windows)._replace(observed_age=windows.last_age // 2)
    )
    module.scale = (targets.weight * targets.pattern_growth).sum() / targets.weight.sum()
    return module


def whole_batches(module: ResidualTrainingModule, draws: EpochSampler, blocks: int) -> list[Batch]:
    """Batches of some blocks: all of one size, so without a smaller last one."""
    return [
        batch
        for block in islice(draws, blocks)
        for batch, size in zip(module.normalized_batches(block), block.global_sizes, strict=True)
        if size == draws.plan.batch_size
    ]


def size(batch: Batch) -> int:
    """Bytes of the tensors of a batch."""
    return sum(tensor.numel() * tensor.element_size() for tensor in iter_tensors(batch))


def kernels(work: Callable[[], object]) -> int:
    """How many kernels a piece of work starts on a GPU; 0 without one."""
    if not torch.cuda.is_available():
        return 0
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    return sum(event.count for event in found.key_averages() if event.device_time > 0)


def steps(
    ready: Ready, chosen: DictConfig, device: torch.device, card: Card
) -> Iterator[Measurement]:
    """Examples a second of the data path and of whole steps, and the limits that they reach."""
    model, machine = type(ready.net).__name__, HardwareConfig(**plain(chosen.machine))
    windows = tiled(ready.windows.to(device), chosen.cohorts)
    module = learning(ready, windows, machine)
    plan = module.plan
    draws = EpochSampler(windows=windows, plan=plan, seed=ready.seed, share=ProcessShard(0, 1))
    blocks = min(len(draws), chosen.blocks)
    taken = seconds(lambda: [None for _ in islice(draws, blocks)], device, 1)
    found = whole_batches(module, draws, blocks)
    examples = len(found) * plan.batch_size
    yield Measurement(
        f"{model}: examples of the data path, features included", examples / taken, "/s"
    )
    reached = 2 * sum(map(size, found)) / taken / card.copied
    yield Measurement(f"{model}: memory bandwidth that they reach, of a copy's", reached)

    def through(learn: Callable[[Batch, int], Tensor]) -> float:
        """Seconds of a step of training."""
        weights = module.net.parameters()
        optimizer = torch.optim.AdamW(weights, lr=ready.training.rate / 10, fused=True)

        def stepped() -> None:
            for batch in found:
                learn(batch, plan.batch_size)
                optimizer.step()

        return seconds(stepped, device, 1) / len(found)

    each = through(module.compute_gradient_eagerly)
    yield Measurement(
        f"{model}: examples of training steps, kernel by kernel", plan.batch_size / each, "/s"
    )
    if started := kernels(lambda: module.compute_gradient_eagerly(found[0], plan.batch_size)):
        yield Measurement(f"{model}: kernels of a step", started)
        yield Measurement(f"{model}: launch limit that it reaches", started * card.launch / each)
    each = through(module.compute_gradient)
    yield Measurement(
        f"{model}: examples of training steps, recorded", plan.batch_size / each, "/s"
    )
    if started:
        reached = started * card.replay / each
        yield Measurement(f"{model}: limit of replayed kernels that it reaches", reached)


def whole(ready: Ready, chosen: DictConfig, device: torch.device) -> Iterator[Measurement]:
    """Seconds to train on `chosen.cohorts` and to forecast `chosen.forecasts` cohorts."""
    model, machine = type(ready.net).__name__, HardwareConfig(**plain(chosen.machine))
    windows = tiled(ready.windows.to(device), chosen.cohorts)
    began = synchronised(device)
    train_net(ready.job(windows), ready.training, machine)
    taken = synchronised(device) - began
    yield Measurement(f"{model}: training on {chosen.cohorts:,} cohorts", taken, "s")
    ready.net.to(device)
    everything = list(last(windows).split(chosen.chunk))
    for precision in chosen.precisions:
        done, began = 0, synchronised(device)
        while done < chosen.forecasts:
            for tasks in everything:
                forecasts(ready, windows, tasks, precision)
            done += len(windows)
        taken = (synchronised(device) - began) * chosen.forecasts / done
        yield Measurement(
            f"{model}: forecasts of {chosen.forecasts:,} cohorts in {precision}", taken, "s"
        )
    ready.net.cpu()
