"""An epoch's tasks: drawn from a seed, shared by processes, some attributes hidden."""

import pytest
import torch

from ltvnet.models.neural.cohort_tensors import CohortTensors
from ltvnet.models.neural.task_sampling import EpochPlan, EpochSampler, ProcessShard


def test_an_epoch_is_drawn_from_its_seed(windows: CohortTensors) -> None:
    plan = EpochPlan(tasks_per_cohort=4, batch_size=128, unseen_share=0.3)
    first, equal_seed, other_seed = (
        EpochSampler(cohort_tensors=windows, plan=plan, seed=s, shard=ProcessShard(0, 1))
        for s in (1, 1, 2)
    )
    assert torch.equal(first.tasks.observed_age, equal_seed.tasks.observed_age) and torch.equal(
        first.is_hidden, equal_seed.is_hidden
    )
    assert not torch.equal(first.tasks.observed_age, other_seed.tasks.observed_age)
    assert float(first.is_hidden.float().mean()) == pytest.approx(0.3, abs=0.1)
    sizes = [size for block in first for size in block.global_sizes]
    assert (
        len(sizes)
        == first.batch_count
        == plan.count_batches(windows)
        == -(-len(first.tasks.observed_age) // 128)
    )
    assert sum(sizes) == len(first.tasks.observed_age)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shares_are_disjoint_and_cover_every_batch(windows: CohortTensors, ranks: int) -> None:
    plan = EpochPlan(tasks_per_cohort=3, batch_size=100, unseen_share=0.5)
    draws = [
        EpochSampler(cohort_tensors=windows, plan=plan, seed=7, shard=ProcessShard(rank, ranks))
        for rank in range(ranks)
    ]
    tasks = draws[0].tasks
    tasks_by_batch: list[list[tuple[int, int]]] = []
    for blocks in zip(*draws, strict=True):
        batches_by_rank = [
            zip(b.global_sizes, b.batch.split(b.local_sizes), strict=True) for b in blocks
        ]
        for batch in zip(*batches_by_rank, strict=True):
            batch_tasks = [
                (int(cohort), round(float(value), 4))
                for _, shard in batch
                for cohort, value in zip(
                    shard.cohort_index, shard.targets.observed_value, strict=True
                )
            ]
            assert len(batch_tasks) == batch[0][0]
            assert len({len(shard.cohort_index) for _, shard in batch}) <= 2
            tasks_by_batch.append(sorted(batch_tasks))
    values = windows.values[tasks.cohort_index, tasks.observed_age]
    all_tasks = [
        (int(c), round(float(v), 4)) for c, v in zip(tasks.cohort_index, values, strict=True)
    ]
    assert tasks_by_batch == [sorted(all_tasks[i : i + 100]) for i in range(0, len(all_tasks), 100)]


def test_more_batches_are_made_together_where_launches_cost(windows: CohortTensors) -> None:
    draws = EpochSampler(
        cohort_tensors=windows, plan=EpochPlan(1, 256, 0.1), seed=0, shard=ProcessShard(0, 1)
    )
    assert draws.batches_per_group == 16
    draws.is_hidden = draws.is_hidden.to("meta")
    assert draws.batches_per_group == 512


def test_what_is_hidden_is_the_unseen_category(windows: CohortTensors) -> None:
    draws = EpochSampler(
        cohort_tensors=windows, plan=EpochPlan(2, 16, 0.5), seed=0, shard=ProcessShard(0, 1)
    )
    codes = torch.cat([block.batch.inputs.codes for block in draws])
    drawn = windows.codes[draws.tasks.cohort_index]
    assert codes[draws.is_hidden].eq(0).all() and draws.is_hidden.any()
    assert codes[~draws.is_hidden].equal(drawn[~draws.is_hidden])
