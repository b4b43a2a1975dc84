import multiprocessing
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanvision.data import READERS, DataError, list_datasets
from tests.data import fake
from tests.data.reading import read, refusal


def test_the_names_are_those_of_the_readers():
    names = {
        "digits",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "svhn",
        "stl10",
        "flowers102",
        "tiny_imagenet",
        "imagenet",
        "image_folder",
        "image_table",
        "webdataset",
    }
    assert set(READERS) == names
    assert names <= set(list_datasets())
    assert all(reader.info.name == name for name, reader in READERS.items())


@pytest.mark.parametrize("name", sorted(set(READERS) - {"digits"}))
def test_a_missing_root_says_what_is_expected_and_where_to_get_it(name: str, tmp_path: Path):
    message = refusal(name, tmp_path / "nowhere")
    info = READERS[name].info
    assert name in message
    assert f"{tmp_path / 'nowhere'}: does not exist" in message
    assert all(line.strip() in message for line in info.tree.splitlines())
    assert info.source in message
    fetchable = name in {"mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10", "flowers102"}
    assert ("data.download=true downloads it" in message) is fetchable
    assert "data.root is null" in refusal(name, None)
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in refusal(name, tmp_path / "file")


@pytest.mark.parametrize("name", sorted(set(READERS) - {"digits"}))
def test_an_empty_root_is_refused(name: str, tmp_path: Path):
    assert str(tmp_path) in refusal(name, tmp_path)


def test_digits_are_all_there_and_split_by_class():
    splits = read("digits", None)
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.pixels.shape[1:] == (8, 8)
    assert (splits.train.pixels.min(), splits.train.pixels.max()) == (0, 255)
    share = np.bincount(splits.test.targets) / (
        np.bincount(splits.test.targets) + np.bincount(splits.train.targets)
    )
    assert np.abs(share - 0.2).max() < 0.005
    # The images themselves: none may be both in training and in the test. Each scan is unique.
    rows = np.concatenate([splits.train.pixels, splits.test.pixels]).reshape(1797, -1)
    assert len(np.unique(rows, axis=0)) == 1797


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    wanted, splits = load_digits(), read("digits", None)
    levels = (wanted.images * 255 / 16 + 0.5).astype(np.uint8)
    right = sorted((int(label), image.tobytes()) for image, label in zip(levels, wanted.target, strict=True))
    found = [
        (int(label), image.tobytes())
        for part in (splits.train, splits.test)
        for image, label in zip(part.pixels, part.targets, strict=True)
    ]
    assert sorted(found) == right


def test_digits_warn_of_a_root_and_refuse_a_wrong_number_of_classes(tmp_path: Path):
    with pytest.warns(UserWarning, match="no effect"):
        read("digits", tmp_path)
    with pytest.raises(DataError, match="num_classes=11, but the data have 10 classes"):
        read("digits", None, num_classes=11)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", [".", "raw", "FashionMNIST/raw"])
def test_idx_files_in_all_legal_places(tmp_path: Path, folder: str, packed: bool):
    arrays = fake.mnist(tmp_path / folder, packed)
    splits = read("fashion_mnist", tmp_path, num_classes=10)
    assert np.array_equal(splits.train.pixels, arrays["train-images-idx3-ubyte"])
    assert np.array_equal(splits.test.targets, arrays["t10k-labels-idx1-ubyte"])
    assert splits.class_names[9] == "Ankle boot"
    assert splits.test.image(3).getpixel((5, 2)) == arrays["t10k-images-idx3-ubyte"][3, 2, 5]


def test_mnist_does_not_take_fashion_for_digits(tmp_path: Path):
    fake.mnist(tmp_path / "FashionMNIST" / "raw")
    assert "train-images-idx3-ubyte[.gz] is missing" in refusal("mnist", tmp_path)


def test_all_problems_of_idx_files_come_in_one_message(tmp_path: Path):
    fake.mnist(tmp_path, packed=False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    fake.truncated(tmp_path / "train-images-idx3-ubyte")
    labels = np.arange(20, dtype=np.uint8)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(fake.idx(labels))
    message = refusal("mnist", tmp_path, num_classes=5)
    assert "4 problems" in message
    assert "train-labels-idx1-ubyte[.gz] is missing" in message
    assert f"{tmp_path / 'train-images-idx3-ubyte'}: holds" in message
    assert f"{tmp_path / 't10k-labels-idx1-ubyte'}: label 10 at index 10 (10 such); legal: 0 to 9" in message
    assert "data.num_classes=5, but the data have 10" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x1f\x8b broken", "cannot be unpacked"),
        (b"<html>not found</html>", "not an idx file"),
        (b"\x00", "not an idx file"),
        (fake.idx(np.zeros((2, 2), np.uint8)) + bytes(8), "2 dimensions instead of 3"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, content: bytes, reason: str):
    fake.mnist(tmp_path, packed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    message = refusal("mnist", tmp_path)
    assert f"{path}: " in message
    assert reason in message


def test_a_cut_gz_file_and_a_wrong_number_of_labels_are_named(tmp_path: Path):
    fake.mnist(tmp_path)
    path = fake.truncated(tmp_path / "train-images-idx3-ubyte.gz")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(fake.idx(np.zeros(19, np.uint8)))
    message = refusal("mnist", tmp_path)
    assert f"{path}: cannot be unpacked" in message
    assert "19 labels for 20 images" in message


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("folder", [".", "cifar-10-batches-py"])
def test_cifar10_batches(tmp_path: Path, folder: str, protocol: int):
    batches = fake.cifar10(tmp_path / folder, protocol)
    splits = read("cifar10", tmp_path, num_classes=10)
    assert (len(splits.train), len(splits.test)) == (100, 20)
    assert splits.class_names == tuple(f"class{i}" for i in range(10))
    second = batches["data_batch_2"]["data"][3].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(splits.train.image(23)), second.transpose(1, 2, 0))
    assert splits.train.targets[23] == 3


def test_cifar10_as_python_2_wrote_it(tmp_path: Path):
    """The official files: byte strings for keys and array contents, and numpy's old module name."""
    fake.cifar10(tmp_path)
    data = bytes(range(256)) * 24  # two images
    stream = (
        b"(dp1\nS'data'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntS'b'\ntRp5\n"
        b"(I1\n(I2\nI3072\ntcnumpy\ndtype\np6\n(S'u1'\nI0\nI1\ntRp7\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS" + repr(data)[1:].encode() + b"\ntbsS'labels'\n(lp8\nI3\naI7\nas."
    )
    (tmp_path / "test_batch").write_bytes(stream)
    splits = read("cifar10", tmp_path)
    assert splits.test.targets.tolist() == [3, 7]
    assert np.asarray(splits.test.image(1))[0, :4, 0].tolist() == [0, 1, 2, 3]


def test_cifar100_uses_fine_labels(tmp_path: Path):
    fake.cifar100(tmp_path / "cifar-100-python")
    splits = read("cifar100", tmp_path)
    assert splits.train.targets.max() == 99
    assert splits.class_names[99] == "fine99"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path):
    fake.cifar10(tmp_path / "data")
    trap = tmp_path / "trap"
    batch = {"data": Payload(trap), "labels": []}
    content = pickle.dumps(batch)
    (tmp_path / "data" / "data_batch_3").write_bytes(content)
    message = refusal("cifar10", tmp_path / "data")
    assert f"{tmp_path / 'data' / 'data_batch_3'}: is refused" in message
    assert "pathlib" in message
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists()  # the payload was live


@pytest.mark.parametrize(
    "name", ["builtins.eval", "os.system", "numpy.load", "numpy.core.multiarray.fromfile"]
)
def test_no_other_global_gets_through(tmp_path: Path, name: str):
    fake.cifar10(tmp_path)
    module, _, function = name.rpartition(".")
    (tmp_path / "test_batch").write_bytes(f"c{module}\n{function}\n(S'1'\ntR.".encode())
    assert f"is refused or broken ({name})" in refusal("cifar10", tmp_path)


def test_all_problems_of_cifar_come_in_one_message(tmp_path: Path):
    batches = fake.cifar10(tmp_path)
    (tmp_path / "data_batch_1").unlink()
    fake.truncated(tmp_path / "data_batch_2")
    batches["data_batch_3"]["labels"][4] = 10
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(batches["data_batch_3"]))
    (tmp_path / "data_batch_4").write_bytes(pickle.dumps({"data": [1], "labels": [1]}))
    (tmp_path / "data_batch_5").write_bytes(pickle.dumps([1, 2]))
    message = refusal("cifar10", tmp_path)
    assert f"{tmp_path / 'data_batch_1'}: is missing" in message
    assert f"{tmp_path / 'data_batch_2'}: " in message
    assert f"{tmp_path / 'data_batch_3'}: label 10 at index 4 (1 such); legal: 0 to 9" in message
    assert "'data' must be an array of bytes" in message
    assert "holds a list instead of a dictionary" in message


class FakeDownload:
    """Stands in for a class of torchvision.datasets."""

    def __init__(self, write):
        self.write = write
        self.calls = 0

    def __call__(self, root: Path, download: bool):
        assert download
        self.calls += 1
        self.write(root)


def test_a_data_set_is_fetched_only_when_asked_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mnist = FakeDownload(lambda root: fake.mnist(root / "MNIST" / "raw"))
    cifar = FakeDownload(lambda root: fake.cifar10(root / "cifar-10-batches-py"))
    monkeypatch.setattr("torchvision.datasets.MNIST", mnist)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", cifar)
    for name, fetched in {"mnist": mnist, "cifar10": cifar}.items():
        READERS[name](tmp_path).prepare()
        assert fetched.calls == 0
        READERS[name](tmp_path, download=True).prepare()
        READERS[name](tmp_path, download=True).prepare()
        assert fetched.calls == 1
        assert len(read(name, tmp_path).train)


def test_of_several_runs_one_fetches_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def slowly(root: Path) -> None:
        with (tmp_path / "fetched").open("a") as file:
            file.write("x")
        (root / "MNIST" / "raw").mkdir(parents=True)  # half unpacked
        time.sleep(0.3)
        fake.mnist(root / "MNIST" / "raw")

    def run(status: Any) -> None:
        READERS["mnist"](tmp_path / "data", download=True).prepare()
        with status.get_lock():
            status.value += len(read("mnist", tmp_path / "data").train) > 0

    monkeypatch.setattr("torchvision.datasets.MNIST", FakeDownload(slowly))
    fork = multiprocessing.get_context("fork")
    status = fork.Value("i", 0)
    runs = [fork.Process(target=run, args=(status,), daemon=True) for _ in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join(60)
    assert status.value == 3
    assert (tmp_path / "fetched").read_text() == "x"


def test_a_failed_or_impossible_download_says_where_to_get_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def offline(root: Path) -> None:
        raise RuntimeError("Error downloading")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", FakeDownload(offline))
    for name, reason in {
        "cifar100": "data.download=true failed: Error downloading",
        "tiny_imagenet": "has no automatic download",
        "imagenet": "has no automatic download",
    }.items():
        with pytest.raises(DataError, match=reason) as caught:
            READERS[name](tmp_path, download=True).prepare()
        assert READERS[name].info.source in str(caught.value)


def test_a_long_list_of_problems_is_cut():
    error = READERS["mnist"].info.error("x", [f"problem {i}" for i in range(30)])
    assert "30 problems" in str(error)
    assert "problem 9\n  - and 20 more" in str(error)
    assert "problem 10" not in str(error)
