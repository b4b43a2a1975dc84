import itertools

import numpy as np
import pytest

from kanvision.data.loading.samplers import EvenBatchSampler, TrainBatchSampler


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8, 64])
def test_evaluation_sees_each_image_once_in_as_many_batches_everywhere(num_replicas: int, batch_size: int):
    for num in [*range(num_replicas, num_replicas + 40), 360, 1000]:
        ranks = [
            EvenBatchSampler(num, batch_size, num_replicas=num_replicas, rank=rank)
            for rank in range(num_replicas)
        ]
        batches = [list(rank) for rank in ranks]
        seen = list(itertools.chain.from_iterable(itertools.chain.from_iterable(batches)))
        assert sorted(seen) == list(range(num))
        assert {len(rank) for rank in batches} == {len(ranks[0])} == {len(rank) for rank in ranks}
        sizes = [[len(batch) for batch in rank] for rank in batches]
        assert min(map(min, sizes)) > 0
        assert all(max(rank) - min(rank) <= 1 for rank in sizes)
        largest = max(map(max, sizes))
        uneven = batch_size == 1 and num % num_replicas > 0
        assert largest <= batch_size + uneven


def test_evaluation_on_one_process_keeps_the_order():
    assert list(EvenBatchSampler(5, 2)) == [[0], [1, 2], [3, 4]]


def test_more_processes_than_images_are_refused():
    with pytest.raises(ValueError, match="2 images cannot be shared by 3 processes"):
        EvenBatchSampler(2, 4, num_replicas=3, rank=0)


def batches(epoch: int = 0, num: int = 50, **kwargs) -> list[list[int]]:
    sampler = TrainBatchSampler(range(num), **({"batch_size": 8, "seed": 1} | kwargs))
    sampler.set_epoch(epoch)
    return [list(batch) for batch in sampler]


def seeds(epoch: int = 0, **kwargs) -> list[int]:
    sampler = TrainBatchSampler(range(50), **({"batch_size": 8, "seed": 1} | kwargs))
    sampler.set_epoch(epoch)
    return [batch.seed for batch in sampler]


def test_training_order_is_a_function_of_seed_epoch_and_rank():
    assert batches() == batches()
    assert batches(epoch=1) != batches()
    # torch's own rule, seed + epoch, would make these two equal
    assert batches(epoch=1, seed=1) != batches(epoch=0, seed=2)
    assert batches(num_replicas=2, rank=0) != batches(num_replicas=2, rank=1)
    assert seeds() == seeds()
    everything = [
        seeds(epoch, seed=seed, rank=rank, num_replicas=2)
        for epoch in (0, 1)
        for seed in (1, 2)
        for rank in (0, 1)
    ]
    flat = list(itertools.chain.from_iterable(everything))
    assert len(set(flat)) == len(flat)


def test_training_covers_each_image_over_all_ranks():
    seen = [
        i for rank in range(2) for batch in batches(num_replicas=2, rank=rank, batch_size=5) for i in batch
    ]
    assert sorted(seen) == list(range(50))


@pytest.mark.parametrize(("num", "sizes"), [(50, [8] * 6), (16, [8, 8]), (8, [8]), (5, [5])])
def test_only_a_lone_batch_may_be_incomplete(num: int, sizes: list[int]):
    assert [len(batch) for batch in batches(num=num)] == sizes
    assert len(TrainBatchSampler(range(num), 8, seed=1)) == len(sizes)


def test_ranks_make_the_same_number_of_steps():
    assert len({len(batches(num=51, num_replicas=4, rank=rank, batch_size=3)) for rank in range(4)}) == 1


def test_repeated_augmentation_spreads_copies_over_ranks():
    ranks = [
        [
            i
            for batch in batches(num=60, num_repeats=3, num_replicas=3, rank=rank, batch_size=4)
            for i in batch
        ]
        for rank in range(3)
    ]
    assert ranks[0] == ranks[1] == ranks[2]  # the copies of an image are in the same step of three processes
    assert len(ranks[0]) == len(set(ranks[0])) == 20  # an epoch keeps its length
    alone = [i for batch in batches(num=60, num_repeats=3, batch_size=4) for i in batch]
    assert len(alone) == 60
    assert alone[0] == alone[1] == alone[2]
    other = [i for batch in batches(num=60, num_repeats=3, batch_size=4, seed=2) for i in batch]
    assert alone != other


def test_a_fixed_order_repeats_with_other_augmentation():
    assert batches(epoch=3, fixed=True) == batches(epoch=0, fixed=True) == batches(epoch=0)
    assert seeds(epoch=3, fixed=True) != seeds(epoch=0, fixed=True)


def test_lightning_finds_where_to_set_the_epoch():
    sampler = TrainBatchSampler(range(50), 8, seed=1)
    sampler.sampler.set_epoch(4)
    assert list(sampler) == batches(epoch=4)


def test_balanced_order_is_exact_and_balanced() -> None:
    """Catches an order that depends on earlier epochs, ranks that draw apart, and uniform frequencies."""
    targets = np.array([0] * 90 + [1] * 10)
    weights = (1 / np.bincount(targets)[targets]).tolist()

    def sampler(rank: int = 0, num_replicas: int = 1) -> TrainBatchSampler:
        shards = {"num_replicas": num_replicas, "rank": rank}
        return TrainBatchSampler(range(100), 5, seed=3, weights=weights, **shards)

    first = sampler()
    epochs = []
    for epoch in range(20):
        first.set_epoch(epoch)
        epochs.append([list(batch) for batch in first])
    drawn = np.bincount(targets[np.concatenate([batch for epoch in epochs for batch in epoch])])
    assert abs(drawn[1] / drawn.sum() - 0.5) < 0.05
    assert epochs[0] != epochs[1]
    fresh = sampler()
    fresh.set_epoch(7)
    fresh.start = 4
    assert [list(batch) for batch in fresh] == epochs[7][4:]
    ranks = [sampler(rank, 2) for rank in (0, 1)]
    for rank in ranks:
        rank.set_epoch(7)
    whole = [index for batch in epochs[7] for index in batch]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == sorted(whole)
