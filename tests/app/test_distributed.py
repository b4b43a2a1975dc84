"""Processes that were told different things refuse to train together."""

from multiprocessing import get_context
from pathlib import Path

import pytest
import torch.distributed

from kanvision.app.distributed import check_same_on_all_ranks
from kanvision.config import ConfigError, compose, parse_train

pytestmark = pytest.mark.usefixtures("own_folder")

CONF = Path(__file__).resolve().parents[2] / "conf"
FORK = get_context("fork")


def answers(folder: Path, *each: tuple[list[str], str | None]) -> list[str]:
    """What processes say that were given these words and found these checkpoints."""
    queue = FORK.SimpleQueue()
    configs = [parse_train(compose("train", ["run.dir=here", *words], CONF)) for words, _ in each]

    def ask(rank: int) -> None:
        meeting = f"file://{folder / 'meeting'}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=len(each))
        try:
            check_same_on_all_ranks(configs[rank], each[rank][1])
            queue.put((rank, ""))
        except ConfigError as error:
            queue.put((rank, str(error)))
        torch.distributed.destroy_process_group()

    processes = [FORK.Process(target=ask, args=(rank,)) for rank in range(len(each))]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in each)
    for process in processes:
        process.join()
    return [found[rank] for rank in range(len(each))]


def test_disks_and_cores_may_differ(tmp_path: Path) -> None:
    first = (["data=imagenet", "data.root=/fast", "data.num_workers=2"], None)
    second = (["data=imagenet", "data.root=/slow", "data.num_workers=8"], None)
    assert answers(tmp_path, first, second) == ["", ""]


def test_all_that_differs_is_named_on_all_processes(tmp_path: Path) -> None:
    first, third = (["optimizer.lr=0.1"], "a/last.ckpt"), (["optimizer.lr=0.2", "run.dir=there"], None)
    said = answers(tmp_path, first, first, third)
    assert said[0] == said[1] == said[2]
    for words in (
        "optimizer.lr=0.1 in process 0, 1; optimizer.lr=0.2 in process 2",
        "run.dir=here in process 0, 1; run.dir=there in process 2",
        "run.root must be one folder that all machines share",
        "the checkpoint to resume=a/last.ckpt in process 0, 1",
    ):
        assert words in said[0]


def test_one_process_has_nobody_to_ask() -> None:
    check_same_on_all_ranks(parse_train(compose("train", ["run.dir=here"], CONF)), None)


@pytest.mark.parametrize("name", ["optimizer.lr", "data.root"])
def test_the_keys_are_those_of_the_schema(name: str) -> None:
    from kanvision.config import to_primitive
    from kanvision.config.nested import flatten

    assert name in flatten(to_primitive(parse_train(compose("train", ["run.dir=here"], CONF))))
