"""A loader goes on where it was, whatever its workers have loaded ahead."""

import signal
import subprocess
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kanvision.data.loading.image_dataset import loading_context
from kanvision.data.loading.loaders import TrainLoader, make_loader
from kanvision.data.loading.samplers import TrainBatchSampler


class Numbers(Dataset):
    """A batch is its places and a number drawn for each."""

    def __len__(self) -> int:
        return 30

    def __getitems__(self, places: list[int]) -> Tensor:
        with loading_context(places):
            return torch.stack([torch.tensor(places, dtype=torch.float), torch.rand(len(places))])


def loader(num_workers: int = 0, epoch: int = 2, batch_size: int = 4) -> TrainLoader:
    batches = TrainBatchSampler(Numbers(), batch_size, seed=3)
    batches.set_epoch(epoch)
    made = make_loader(Numbers(), batches, num_workers=num_workers)
    assert isinstance(made, TrainLoader)
    return made


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_goes_on_at_the_next_batch(num_workers: int) -> None:
    whole = list(loader())
    first = loader(num_workers)
    given = iter(first)
    assert same([next(given) for _ in range(3)], whole[:3])
    state = first.state_dict()
    assert {"epoch": 2, "position": 3, "length": 7, "images": 30, "processes": 1}.items() <= state.items()
    second = loader(num_workers)
    second.load_state_dict(state)
    assert second.position == 3
    assert len(second) == 7
    assert same(list(second), whole[3:])
    # once, and not in every epoch from then on
    assert same(list(second), whole)


def test_loads_again_what_was_given_out() -> None:
    whole = list(loader())
    again = loader()
    assert same(list(again.reload_batches(range(2, 5))), whole[2:5])


def test_a_position_in_another_epoch_is_of_no_use() -> None:
    new = loader(epoch=3)
    new.load_state_dict({"epoch": 2, "position": 7, "length": 7})
    assert len(list(new)) == 7


def test_nothing_is_left_of_an_epoch_whose_batches_are_all_given_out() -> None:
    new = loader()
    new.load_state_dict({"epoch": 2, "position": 7, "length": 7})
    iter(new)  # nobody asks it for a batch; the next epoch is whole all the same
    new.batches.set_epoch(3)
    assert same(list(new), list(loader(epoch=3)))


def test_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an epoch of 7 batches a process, which now has 6.*batch_size"):
        loader(batch_size=5).load_state_dict({"epoch": 2, "position": 3, "length": 7})


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell who sends a signal")
def test_only_the_process_that_workers_work_for_ends_them() -> None:
    own = loader(num_workers=2)
    iterator = iter(own)
    begun = [next(iterator) for _ in range(2)]  # one of each worker, so that both are beyond their start
    workers = own._iterator._workers
    for worker in workers:
        for name in ("TERM", "USR1", "USR2"):
            subprocess.run(["/bin/sh", "-c", f"kill -{name} {worker.pid}"], check=True)
    assert same([*begun, *iterator], list(loader()))
    assert all(worker.is_alive() for worker in workers)
    workers[0].terminate()
    workers[0].join(20)
    assert workers[0].exitcode == 0
    workers[1].terminate()
