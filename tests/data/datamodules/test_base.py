import gc
import hashlib
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from kanvision.data import ClassificationDataModule, DataError, build_datamodule
from kanvision.data.seeding import derive_seed
from tests.data import fake

GRAY = {"in_chans": 1, "mean": [0.3], "std": [0.35]}
COLOR = {"in_chans": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
AUGMENT = {"crop": "pad", "hflip": 0.5, "auto_augment": "rand-m9-mstd0.5", "re_prob": 0.5}


def digits(**kwargs) -> ClassificationDataModule:
    return build_datamodule(
        "classification", **({"name": "digits", "img_size": 8, **GRAY, "seed": 1} | kwargs)
    )


def folder(root: Path, **kwargs) -> ClassificationDataModule:
    return build_datamodule(
        "classification", **({"name": "image_folder", "root": str(root), "img_size": 16, **COLOR} | kwargs)
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    fake.class_folders(tmp_path / "train", ("ant", "bee", "cow"), num=10)
    fake.class_folders(tmp_path / "test", ("ant", "bee", "cow"), num=3)
    return tmp_path


def test_splits_counts_and_names(pictures: Path):
    data = folder(pictures, val_fraction=0.2)
    assert data.num_images == {"train": 24, "val": 6, "test": 9}
    assert data.num_classes == 3
    assert data.class_names == ("ant", "bee", "cow")
    train, val = (set(data.datasets[split].indices.tolist()) for split in ("train", "val"))
    assert not train & val
    assert np.bincount(data.datasets["val"].targets).tolist() == [2, 2, 2]
    other = folder(pictures, val_fraction=0.2, split_seed=1)
    other.setup()
    assert set(other.datasets["val"].indices.tolist()) != val


def test_batches_are_dicts_of_tensors(pictures: Path):
    data = folder(pictures, batch_size=8, eval_batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        "image": (8, 3, 16, 16),
        "target": (8,),
        "index": (8,),
    }
    assert batch["target"].dtype == torch.int64
    source = data.datasets["train"].source
    assert batch["target"].tolist() == source.targets[batch["index"].numpy()].tolist()
    tests = [b["index"].tolist() for b in data.test_dataloader()]
    assert [i for batch in tests for i in batch] == list(range(9))
    assert max(map(len, tests)) <= 4


def test_a_single_sample_is_like_one_of_a_batch(pictures: Path):
    data = folder(pictures)
    data.setup()
    dataset = data.datasets["test"]
    sample, batch = dataset[4], dataset.__getitems__([4, 5])
    assert torch.equal(sample["image"], batch["image"][0])
    assert (sample["target"], sample["index"]) == (int(batch["target"][0]), 4)
    dataset.transform = None
    assert dataset[4]["image"].size == (10, 8)
    with pytest.raises(IndexError):
        dataset[9]


def test_validation_on_the_test_split_warns_once(pictures: Path):
    data = folder(pictures, val_fraction=0.0)
    with pytest.warns(UserWarning, match="validation uses the test split") as caught:
        data.setup()
    assert len(caught) == 1
    data.setup("test")  # a second warning would be an error here
    assert data.num_images == {"train": 30, "val": 9, "test": 9}


def test_a_validation_folder_of_its_own_is_used(pictures: Path):
    fake.class_folders(pictures / "val", ("ant", "bee", "cow"), num=2)
    data = folder(pictures, val_fraction=0.5)
    assert data.num_images == {"train": 30, "val": 6, "test": 9}


def test_nothing_can_be_held_out_of_single_images(tmp_path: Path):
    fake.class_folders(tmp_path / "train", num=1)
    fake.class_folders(tmp_path / "test", num=1)
    with pytest.raises(DataError, match=r"data\.val_fraction=0\.1"):
        folder(tmp_path).setup()


def test_limit_is_for_training_images_and_limit_test_for_the_others():
    whole, data = digits(), digits(limit=50)
    assert data.num_images == {**whole.num_images, "train": 50}
    assert all(np.array_equal(data.datasets[s].indices, whole.datasets[s].indices) for s in ("val", "test"))
    trial = digits(limit_test=50)
    assert trial.num_images == {"train": whole.num_images["train"], "val": 50, "test": 50}
    for limited, splits in ((data, ("train",)), (trial, ("val", "test"))):
        assert all((np.bincount(limited.datasets[split].targets) == 5).all() for split in splits)
    again = digits(limit=50)
    again.setup()
    assert np.array_equal(data.datasets["train"].indices, again.datasets["train"].indices)


def epoch(data: ClassificationDataModule, number: int = 0, num_workers: int = 0) -> list[str]:
    data.num_workers = num_workers
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(number)
    return fingerprints(loader)


def fingerprints(loader) -> list[str]:
    return [
        hashlib.sha256(b["image"].numpy().tobytes() + b["index"].numpy().tobytes()).hexdigest()
        for b in loader
    ]


def test_batches_are_a_function_of_seed_and_epoch(pictures: Path):
    data = folder(pictures, augment=AUGMENT, batch_size=8)
    first = epoch(data)
    torch.manual_seed(99)
    np.random.seed(99)
    assert epoch(folder(pictures, augment=AUGMENT, batch_size=8)) == first
    assert epoch(data, 1) != first
    assert epoch(folder(pictures, augment=AUGMENT, batch_size=8, seed=5)) != first
    # The number of workers changes nothing, not even the random transforms.
    assert epoch(data, num_workers=2) == first
    assert epoch(data, 1, num_workers=2) == epoch(data, 1)


def test_workers_that_live_on_and_a_fresh_start_agree(pictures: Path):
    """What makes a resumed run equal: epoch 1 is the same whether or not epoch 0 was loaded before it."""
    loader = folder(pictures, augment=AUGMENT, batch_size=8, num_workers=2).train_dataloader()
    assert loader.persistent_workers
    fingerprints(loader)
    loader.batch_sampler.set_epoch(1)
    assert fingerprints(loader) == epoch(folder(pictures, augment=AUGMENT, batch_size=8), 1)


def test_loading_leaves_the_random_numbers_of_the_model_alone(pictures: Path):
    data = folder(pictures, augment=AUGMENT, batch_size=8)
    data.setup()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    fingerprints(data.train_dataloader())
    fingerprints(data.val_dataloader())
    assert torch.equal(torch.rand(3), expected)


def test_loading_gives_the_threads_back():
    data = digits(batch_size=8)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # loading itself takes one
    try:
        next(iter(data.val_dataloader()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def attached(data: ClassificationDataModule, rank: int, world_size: int, **more) -> ClassificationDataModule:
    loop = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit_loop
    trainer = {"world_size": world_size, "global_rank": rank, "fit_loop": loop, "overfit_batches": 0} | more
    data.trainer = SimpleNamespace(**trainer)
    return data


def test_ranks_share_the_images_and_draw_other_random_numbers():
    ranks = [attached(digits(batch_size=100, augment=AUGMENT), rank, 2) for rank in range(2)]
    train = [torch.cat([b["index"] for b in data.train_dataloader()]).tolist() for data in ranks]
    assert not set(train[0]) & set(train[1])
    assert len(train[0]) == len(train[1])
    assert fingerprints(ranks[0].train_dataloader()) != fingerprints(ranks[1].train_dataloader())
    tests = [[b["index"].tolist() for b in data.test_dataloader()] for data in ranks]
    assert len(tests[0]) == len(tests[1])
    assert sorted(i for batch in tests[0] + tests[1] for i in batch) == list(
        range(ranks[0].num_images["test"])
    )


def test_overfitting_repeats_the_same_images():
    data = attached(digits(), 0, 1, overfit_batches=2)
    loader = data.train_dataloader()
    orders = []
    for number in range(2):
        loader.batch_sampler.sampler.set_epoch(number)
        orders.append([b["index"].tolist() for b in loader])
    assert orders[0] == orders[1]


def test_repeated_augmentation_is_passed_on():
    loader = digits(augment={"num_repeats": 3}, batch_size=6).train_dataloader()
    index = next(iter(loader))["index"].tolist()
    assert index[0] == index[1] == index[2] != index[3]


class Recorder(pl.LightningModule):
    """Learns nothing and notes the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[int, list[str]] = {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).append(
            hashlib.sha256(batch["image"].numpy().tobytes()).hexdigest()
        )
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data: ClassificationDataModule, folder: Path, epochs: int, ckpt: Path | None = None) -> Recorder:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    model = Recorder()
    trainer.fit(model, datamodule=data, ckpt_path=ckpt)
    if ckpt is None:
        trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return model


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_the_same_batches(tmp_path: Path, num_workers: int):
    options = {
        "augment": AUGMENT,
        "limit": 60,
        "limit_test": 60,
        "batch_size": 20,
        "num_workers": num_workers,
    }
    whole = fit(digits(**options), tmp_path, 3).seen
    assert sorted(whole) == [0, 1, 2]
    assert len({print_ for prints in whole.values() for print_ in prints}) == 9
    fit(digits(**options), tmp_path, 1)
    assert fit(digits(**options), tmp_path, 3, tmp_path / "1.ckpt").seen == {1: whole[1], 2: whole[2]}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_truncated_image_is_named_through_the_loader(
    pictures: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
):
    # torch waits so long for a worker that failed; here the wait would fall into the next test.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    path = fake.truncated(pictures / "test" / "bee" / "bee_1.png")
    data = folder(pictures, num_workers=num_workers)
    with pytest.raises(DataError) as caught:
        list(data.test_dataloader())
    assert f"{path}: cannot be read as an image" in str(caught.value)
    del caught
    gc.collect()


def test_a_datamodule_can_be_sent_to_another_process(pictures: Path):
    data = folder(pictures, augment=AUGMENT, batch_size=8)
    data.setup()
    assert epoch(pickle.loads(pickle.dumps(data))) == epoch(data)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"data\.name=digit is unknown; legal: cifar10, .*, digits"):
        digits(name="digit")
    with pytest.raises(ValueError, match=r"data\.mean has 1 values"):
        digits(in_chans=3)
    with pytest.raises(ValueError, match=r"data\.task=sculpture has no datamodule; legal: classification"):
        build_datamodule("sculpture", name="digits")
    with pytest.raises(DataError, match=r"data\.num_classes=3, but the data have 10"):
        digits(num_classes=3).setup()


def test_seeds_are_the_same_everywhere_and_unlike_each_other():
    assert derive_seed("a", 1) == SEED_A_1
    assert len({derive_seed("a", i, j) for i in range(30) for j in range(30)}) == 900
    assert 0 <= derive_seed("b") < 2**63


SEED_A_1 = 6222101017213550541
