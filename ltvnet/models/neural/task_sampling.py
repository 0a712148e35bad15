"""Tasks of an epoch, drawn from a seed, as the batches of one process or of one of several.

Shapes: M tasks of an epoch, B of a batch, C attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ltvnet.models.neural.cohort_tensors import CohortTensors, Tasks
from ltvnet.models.neural.nets.heads import TaskInputs, TaskTargets

TASKS_PER_GROUP = 4096
"""Tasks whose tensors are made at a time: calls cost less than numbers, which stay in the cache."""

ACCELERATOR_GROUP_FACTOR = 32
"""Blocks that are one where there is no such cache: launching work costs more than the work."""


class ProcessShard(NamedTuple):
    """Which of several processes this one is: it takes each `ranks`-th task of every batch."""

    rank: int
    world_size: int


class Batch(NamedTuple):
    """Tasks with their tensors: cohorts (B,), what a net sees, and what became of them."""

    cohort_index: Tensor
    inputs: TaskInputs
    targets: TaskTargets

    def split(self, counts: list[int]) -> Iterator["Batch"]:
        """Parts of so many tasks each."""
        inputs = zip(*(torch.split(x, counts) for x in self.inputs), strict=True)
        targets = zip(*(torch.split(x, counts) for x in self.targets), strict=True)
        cohorts = torch.split(self.cohort_index, counts)
        for cohort, seen, became in zip(cohorts, inputs, targets, strict=True):
            yield Batch(cohort, TaskInputs(*seen), TaskTargets(*became))


class BatchGroup(NamedTuple):
    """Batches whose tensors are made together.

    `batch` this process's tasks of all of them, `own` how many each has, `sizes` how many it has
    in all processes.
    """

    batch: Batch
    local_sizes: list[int]
    global_sizes: list[int]


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch is: `each` tasks of a cohort, batches of `size`, the share of codes `unseen`.

    Hidden attributes stand for values that were never seen, so that these can be forecast.
    """

    tasks_per_cohort: int
    batch_size: int
    unseen_share: float

    def count_batches(self, windows: CohortTensors) -> int:
        """Number of batches of an epoch: cohorts that have not grown have no tasks."""
        return -(-windows.grown_cohort_count * self.tasks_per_cohort // self.batch_size)


class EpochSampler:
    """The tasks of one epoch, drawn from a seed; tensors are made of those of this process only."""

    def __init__(
        self, *, windows: CohortTensors, plan: EpochPlan, seed: int, share: ProcessShard
    ) -> None:
        """Draw tasks and what is hidden of them: the same in every process."""
        device = windows.last_age.device
        generator = torch.Generator(device).manual_seed(seed)
        self.windows, self.plan, self.shard = windows, plan, share
        self.tasks = windows.draw_tasks(plan.tasks_per_cohort, generator)
        codes = len(self.tasks.cohort_index), windows.codes.shape[1]
        chance = torch.rand(codes, generator=generator, device=device)
        self.is_hidden = chance < plan.unseen_share  # (M, C)

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-len(self.is_hidden) // self.plan.batch_size)

    @property
    def batches_per_group(self) -> int:
        """Number of batches in a block."""
        block = (
            TASKS_PER_GROUP
            if self.is_hidden.device.type == "cpu"
            else TASKS_PER_GROUP * ACCELERATOR_GROUP_FACTOR
        )
        return max(block // self.plan.batch_size, 1)

    def __len__(self) -> int:
        """Number of blocks."""
        return -(-self.batch_count // self.batches_per_group)

    def __iter__(self) -> Iterator[BatchGroup]:
        """The blocks in order."""
        count, size, (rank, ranks) = len(self.is_hidden), self.plan.batch_size, self.shard
        own: Tensor | slice = slice(None)
        if ranks > 1:
            rows = torch.arange(count, device=self.is_hidden.device)
            own = rows[rows % size % ranks == rank]
        mine = self.tasks.cohort_index[own], self.tasks.observed_age[own], self.is_hidden[own]
        at = 0
        for begin in range(0, count, size * self.batches_per_group):
            end = min(begin + size * self.batches_per_group, count)
            sizes = [min(size, end - first) for first in range(begin, end, size)]
            counts = [len(range(rank, n, ranks)) for n in sizes]
            block = slice(at, at + sum(counts))
            yield BatchGroup(self._made(*(x[block] for x in mine)), counts, sizes)
            at = block.stop

    def _made(self, cohort: Tensor, age: Tensor, hidden: Tensor) -> Batch:
        inputs, targets = self.windows.inputs_and_targets(Tasks(cohort, age))
        inputs.codes.masked_fill_(hidden, 0)
        return Batch(cohort, inputs, targets)
