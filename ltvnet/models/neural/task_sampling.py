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
"""Groups that are one where there is no such cache: launching work costs more than the work."""


class ProcessShard(NamedTuple):
    """Number of this process and of all: it takes each `world_size`-th task of every batch."""

    rank: int
    world_size: int


class Batch(NamedTuple):
    """Tasks with their tensors: cohorts (B,), what a net sees, and what became of them."""

    cohort_index: Tensor
    inputs: TaskInputs
    targets: TaskTargets

    def split(self, counts: list[int]) -> Iterator["Batch"]:
        """Yield parts of `counts` tasks."""
        cohort_parts = torch.split(self.cohort_index, counts)
        input_parts = zip(*(torch.split(tensor, counts) for tensor in self.inputs), strict=True)
        target_parts = zip(*(torch.split(tensor, counts) for tensor in self.targets), strict=True)
        parts = zip(cohort_parts, input_parts, target_parts, strict=True)
        for cohort_index, inputs, targets in parts:
            yield Batch(cohort_index, TaskInputs(*inputs), TaskTargets(*targets))


class BatchGroup(NamedTuple):
    """Batches whose tensors are made together.

    `batch` this process's tasks of all of them, `local_sizes` how many of these each has,
    `global_sizes` how many tasks each has in all processes.
    """

    batch: Batch
    local_sizes: list[int]
    global_sizes: list[int]


@dataclass(frozen=True)
class EpochPlan:
    """How many tasks an epoch has, in batches of which size, and what share of codes is hidden.

    Hidden attributes stand for values that were never seen, so that these can be forecast.
    """

    tasks_per_cohort: int
    batch_size: int
    unseen_share: float

    def count_batches(self, cohort_tensors: CohortTensors) -> int:
        """Number of batches of an epoch: cohorts that have not grown have no tasks."""
        task_count = cohort_tensors.grown_cohort_count * self.tasks_per_cohort
        return -(-task_count // self.batch_size)


class EpochSampler:
    """The tasks of one epoch, drawn from a seed; tensors are made of those of this process only."""

    def __init__(
        self, *, cohort_tensors: CohortTensors, plan: EpochPlan, seed: int, shard: ProcessShard
    ) -> None:
        """Draw tasks and what is hidden of them: the same in every process."""
        self.cohort_tensors = cohort_tensors
        self.plan = plan
        self.shard = shard

        device = cohort_tensors.last_age.device
        generator = torch.Generator(device).manual_seed(seed)
        self.tasks = cohort_tensors.draw_tasks(plan.tasks_per_cohort, generator)
        code_shape = (len(self.tasks.cohort_index), cohort_tensors.codes.shape[1])
        chance = torch.rand(code_shape, generator=generator, device=device)
        self.is_hidden = chance < plan.unseen_share  # (M, C)

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-len(self.is_hidden) // self.plan.batch_size)

    @property
    def batches_per_group(self) -> int:
        """Number of batches whose tensors are made together."""
        tasks = TASKS_PER_GROUP
        if self.is_hidden.device.type != "cpu":
            tasks *= ACCELERATOR_GROUP_FACTOR
        return max(tasks // self.plan.batch_size, 1)

    def __len__(self) -> int:
        """Number of groups."""
        return -(-self.batch_count // self.batches_per_group)

    def __iter__(self) -> Iterator[BatchGroup]:
        """Yield the groups in order."""
        rank, world_size = self.shard
        task_count = len(self.is_hidden)
        batch_size = self.plan.batch_size
        group_size = batch_size * self.batches_per_group

        local_rows = self._local_rows()
        cohort_index = self.tasks.cohort_index[local_rows]
        observed_age = self.tasks.observed_age[local_rows]
        is_hidden = self.is_hidden[local_rows]

        local_begin = 0
        for begin in range(0, task_count, group_size):
            end = min(begin + group_size, task_count)
            global_sizes = [min(batch_size, end - first) for first in range(begin, end, batch_size)]
            local_sizes = [len(range(rank, size, world_size)) for size in global_sizes]

            rows = slice(local_begin, local_begin + sum(local_sizes))
            tasks = Tasks(cohort_index[rows], observed_age[rows])
            yield BatchGroup(self._make_batch(tasks, is_hidden[rows]), local_sizes, global_sizes)
            local_begin = rows.stop

    def _local_rows(self) -> Tensor | slice:
        """Rows of the tasks that this process takes, in order."""
        rank, world_size = self.shard
        if world_size == 1:
            return slice(None)  # views, no copies
        rows = torch.arange(len(self.is_hidden), device=self.is_hidden.device)
        return rows[rows % self.plan.batch_size % world_size == rank]

    def _make_batch(self, tasks: Tasks, is_hidden: Tensor) -> Batch:
        """Make the tensors of tasks, hidden codes among the unseen."""
        inputs, targets = self.cohort_tensors.inputs_and_targets(tasks)
        inputs.codes.masked_fill_(is_hidden, 0)
        return Batch(tasks.cohort_index, inputs, targets)
