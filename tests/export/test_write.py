"""Exported files: each computes what the network computes, says what it is, and refuses what it cannot do."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import kanvision as kv
from kanvision.export import (
    ExportError,
    ImagePredictor,
    InputRecord,
    NetworkRecord,
    RecordError,
    export_network,
)
from kanvision.export.formats import FORMATS, onnx
from kanvision.export.formats.safetensors import read_weights, write_weights
from kanvision.spec.evaluation import EXPORT_FORMATS
from tests.models import test_contract, test_segmenter_contract

CLASSIFIERS, SEGMENTERS = (kv.list_models(kind=kind) for kind in ("classifier", "segmenter"))
QUICK = ("convkan_4", "vgg_kan_11", "kat_tiny_patch16_224", "karat_tiny_patch16_224", "ukan_tiny")
FIXED_BATCH = ("u_mamba",)
"""Families whose trace of TorchScript has a fixed batch size, which is refused."""


def describe(name: str, side: int = 32, in_chans: int = 3, **arguments) -> NetworkRecord:
    """The record of a registered network at a size that a test can afford."""
    is_segmenter = name in SEGMENTERS
    family = name.rpartition("_")[0]
    contract = test_segmenter_contract if is_segmenter else test_contract
    small = test_contract.TRANSFORMER if "patch" in name else contract.SMALL.get(family, contract.NARROW)
    return NetworkRecord(
        kind="segmenter" if is_segmenter else "classifier",
        name=name,
        arguments={"num_classes": 3, "in_chans": in_chans, **small, **arguments},
        input=InputRecord(in_chans, side, (0.5,) * in_chans, (0.25,) * in_chans),
        num_classes=3,
        mode="multiclass" if is_segmenter else None,
        class_names=("a", "b", "c"),
    )


def build(record: NetworkRecord) -> nn.Module:
    torch.manual_seed(0)
    return record.build().eval()


@pytest.mark.parametrize("name", QUICK)
def test_files_without_a_graph(name: str, tmp_path: Path) -> None:
    """A network that a trace or its own arguments do not reproduce is found."""
    record = describe(name)
    files = export_network(build(record), record, tmp_path, ["safetensors", "torchscript"])
    assert [file.path.name for file in files] == ["model.safetensors", "model.torchscript"]
    assert all(file.difference <= 1e-4 for file in files)
    assert {path.name for path in tmp_path.iterdir()} == {file.path.name for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CLASSIFIERS, *SEGMENTERS])
def test_every_name_in_every_format(name: str, tmp_path: Path) -> None:
    record = describe(name)
    is_fixed = name.startswith(FIXED_BATCH)
    formats = [item for item in EXPORT_FORMATS if not (is_fixed and item == "torchscript")]
    assert len(export_network(build(record), record, tmp_path, formats)) == len(formats)
    if is_fixed:
        with pytest.raises(ExportError, match=r"torchscript: images .*: the file fails"):
            export_network(build(record), record, tmp_path, ["torchscript"])


@pytest.mark.parametrize(
    ("name", "formats"), [("convkan_4", EXPORT_FORMATS), ("ukan_tiny", ("torchscript",))]
)
def test_files_predict_what_the_network_predicts_at_any_size(name: str, formats, tmp_path: Path) -> None:
    """Sizes and batches that are built into a file, and records that do not survive it, are found."""
    if "onnx" in formats:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    record = describe(name)
    network = build(record)
    files = export_network(network, record, tmp_path, formats, dynamic_size=True, sizes=[(96, 64)])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    expected = ImagePredictor(network, record)(list(pixels))
    for file in files:
        assert (96, 64) in file.sizes
        run, found = FORMATS[file.format].read(file.path)
        assert found.to_dict() == record.to_dict()
        for mine, theirs in zip(expected, ImagePredictor(run, found)(list(pixels)), strict=True):
            np.testing.assert_allclose(mine.probabilities, theirs.probabilities, atol=1e-5)
            assert theirs.class_names == record.class_names


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convkan_4", {"sizes": [(32, 48)]}, "32 x 48: a file for images of 32 x 32 takes no others"),
        ("ukan_tiny", {"dynamic_size": True, "sizes": [(100, 100)]}, "100 x 100: .* multiples of 32"),
        ("kat_tiny_patch16_224", {"dynamic_size": True}, "takes no images of 32 x 33 pixels: .*height|width"),
    ],
)
def test_a_size_that_a_file_cannot_take_is_refused(name, options, message, tmp_path: Path) -> None:
    record = describe(name)
    with pytest.raises(ExportError, match=message):
        export_network(build(record), record, tmp_path, ["torchscript"], **options)
    assert not list(tmp_path.iterdir())


class Branching(nn.Module):
    """Network that a trace cannot follow: it treats large batches otherwise."""

    def forward(self, images):
        return images.mean((2, 3)) * (2 if len(images) > 2 else 1)


def test_a_file_that_differs_from_torch_is_refused(tmp_path: Path) -> None:
    record = describe("convkan_4")
    with pytest.raises(
        ExportError, match=r"torchscript: images \(5, 3, 32, 32\): .*export\.tolerance=0\.0001"
    ):
        export_network(Branching(), record, tmp_path, ["torchscript"])
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"onnxscript is not installed: pip install 'kanvision\[onnx\]'"):
        onnx.write(tmp_path / "model.onnx", nn.Identity(), None, describe("convkan_4"))


def test_weights_are_loaded_strictly(tmp_path: Path) -> None:
    """A file with too few weights, or of another network, is refused, and names what is missing."""
    record = describe("convkan_4")
    network = build(record)
    write_weights(tmp_path / "half.safetensors", network, record, torch.float16)
    tensors, _ = read_weights(tmp_path / "half.safetensors")
    types = {name: value.dtype for name, value in tensors.items()}
    for name, value in network.named_parameters():
        assert types[name] == torch.float16, name
        torch.testing.assert_close(tensors[name].float(), value.detach(), rtol=1e-3, atol=1e-6)
    for name, value in network.named_buffers():
        assert name not in types or types[name] == value.dtype
    del network.head
    write_weights(tmp_path / "less.safetensors", network, record)
    with pytest.raises(RecordError, match=r"do not fit the network: .*[\s\S]*head\.fc\.weight"):
        FORMATS["safetensors"].read(tmp_path / "less.safetensors")
    torch.save({}, tmp_path / "other.safetensors")
    with pytest.raises(RecordError, match="cannot be read as safetensors"):
        FORMATS["safetensors"].read(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format=2; this version reads 1"),
        ({"surprise": 1}, "unknown entries surprise"),
        ({"arguments": {"pretrained_cfg": {"url": "x"}}}, "another source of weights"),
        ({"name": "hf-hub:someone/model"}, "another source of weights"),
        ({"input": {}}, "input: no record of a network .*missing"),
    ],
)
def test_a_record_of_another_version_is_refused(change, message) -> None:
    values = describe("convkan_4").to_dict()
    assert NetworkRecord.from_dict(values, "file") == describe("convkan_4")
    with pytest.raises(RecordError, match=message):
        NetworkRecord.from_dict({**values, **change}, "file").build()
