"""Tasks of an epoch, drawn from a seed, as the batches of one process or of one of several.

Shapes: M tasks of an epoch, B of a batch, C attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ltvnet.models.neural.nets.heads import Inputs, Targets
from ltvnet.models.neural.windows import Tasks, Windows

BLOCK = 4096
"""Tasks whose tensors are made at a time: calls cost less than numbers, which stay in the cache."""

LAUNCHES = 32
"""Blocks that are one where there is no such cache: launching work costs more than the work."""


class Share(NamedTuple):
    """Which of several processes this one is: it takes each `ranks`-th task of every batch."""

    rank: int
    ranks: int


class Batch(NamedTuple):
    """Tasks with their tensors: cohorts (B,), what a net sees, and what became of them."""

    cohort: Tensor
    inputs: Inputs
    targets: Targets

    def split(self, counts: list[int]) -> Iterator["Batch"]:
        """Parts of so many tasks each."""
        inputs = zip(*(torch.split(x, counts) for x in self.inputs), strict=True)
        targets = zip(*(torch.split(x, counts) for x in self.targets), strict=True)
        cohorts = torch.split(self.cohort, counts)
        for cohort, seen, became in zip(cohorts, inputs, targets, strict=True):
            yield Batch(cohort, Inputs(*seen), Targets(*became))


class Block(NamedTuple):
    """Batches whose tensors are made together.

    `batch` this process's tasks of all of them, `own` how many each has, `sizes` how many it has
    in all processes.
    """

    batch: Batch
    own: list[int]
    sizes: list[int]


@dataclass(frozen=True)
class Plan:
    """What an epoch is: `each` tasks of a cohort, batches of `size`, the share of codes `unseen`.

    Hidden attributes stand for values that were never seen, so that these can be forecast.
    """

    each: int
    size: int
    unseen: float

    def steps(self, windows: Windows) -> int:
        """Number of batches of an epoch: cohorts that have not grown have no tasks."""
        return -(-windows.grown * self.each // self.size)


class Draws:
    """The tasks of one epoch, drawn from a seed; tensors are made of those of this process only."""

    def __init__(self, *, windows: Windows, plan: Plan, seed: int, share: Share) -> None:
        """Draw tasks and what is hidden of them: the same in every process."""
        device = windows.last.device
        generator = torch.Generator(device).manual_seed(seed)
        self.windows, self.plan, self.share = windows, plan, share
        self.tasks = windows.draw(plan.each, generator)
        codes = len(self.tasks.cohort), windows.codes.shape[1]
        chance = torch.rand(codes, generator=generator, device=device)
        self.hidden = chance < plan.unseen  # (M, C)

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.hidden) // self.plan.size)

    @property
    def together(self) -> int:
        """Number of batches in a block."""
        block = BLOCK if self.hidden.device.type == "cpu" else BLOCK * LAUNCHES
        return max(block // self.plan.size, 1)

    def __len__(self) -> int:
        """Number of blocks."""
        return -(-self.steps // self.together)

    def __iter__(self) -> Iterator[Block]:
        """The blocks in order."""
        count, size, (rank, ranks) = len(self.hidden), self.plan.size, self.share
        own: Tensor | slice = slice(None)
        if ranks > 1:
            rows = torch.arange(count, device=self.hidden.device)
            own = rows[rows % size % ranks == rank]
        mine = self.tasks.cohort[own], self.tasks.age[own], self.hidden[own]
        at = 0
        for begin in range(0, count, size * self.together):
            end = min(begin + size * self.together, count)
            sizes = [min(size, end - first) for first in range(begin, end, size)]
            counts = [len(range(rank, n, ranks)) for n in sizes]
            block = slice(at, at + sum(counts))
            yield Block(self._made(*(x[block] for x in mine)), counts, sizes)
            at = block.stop

    def _made(self, cohort: Tensor, age: Tensor, hidden: Tensor) -> Batch:
        inputs, targets = self.windows.both(Tasks(cohort, age))
        inputs.codes.masked_fill_(hidden, 0)
        return Batch(cohort, inputs, targets)
