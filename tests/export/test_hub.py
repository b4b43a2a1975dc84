"""Shared folders: what is written is what is read, by kanvision and by timm, with and without the network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

import kanvision as kv
from kanvision.export import ExportError, RecordError, from_pretrained, push, save_pretrained

from .test_write import build, describe

SRC = Path(__file__).resolve().parents[2] / "src"
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    record = describe("kat_tiny_patch16_224")
    network = build(record)
    return save_pretrained(network, record, tmp_path_factory.mktemp("shared"), license="apache-2.0"), network


def test_a_folder_gives_the_network_back(shared) -> None:
    """To kanvision with its record, and to timm by its own convention, also with another classifier."""
    folder, network = shared
    predictor = from_pretrained(f"local-dir:{folder}")
    expected = network(IMAGES)
    torch.testing.assert_close(predictor.network(IMAGES), expected)
    assert predictor.class_names == ("a", "b", "c")
    for create in (kv.create_model, timm.create_model):
        model = create(f"local-dir:{folder}", pretrained=True).eval()
        torch.testing.assert_close(model(IMAGES), expected)
        assert model.pretrained_cfg["mean"] == [0.5, 0.5, 0.5]
    assert kv.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7)(IMAGES).shape == (2, 7)


@pytest.mark.parametrize("name", ["ukan_tiny", "convkan_4"])
def test_segmenters_and_bases_are_shared_too(name: str, tmp_path: Path) -> None:
    record = describe(name, basis="chebyshev")
    network = build(record)
    save_pretrained(network, record, tmp_path, half=True)
    found = from_pretrained(f"local-dir:{tmp_path}").network(IMAGES)
    torch.testing.assert_close(found, network(IMAGES), rtol=0.02, atol=0.02)
    assert not torch.equal(found, network(IMAGES))


def test_the_card_says_what_the_record_holds(shared) -> None:
    text = (shared[0] / "README.md").read_text()
    for words in ("license: apache-2.0", "pipeline_tag: image-classification", "| classes | a, b, c |"):
        assert words in text


def test_the_layout_of_the_hub_is_read_without_the_network(shared, tmp_path: Path) -> None:
    """The cache of the hub's library as it stands on disk; what is not in it is named with the way out."""
    snapshot = tmp_path / "models--someone--kat" / "snapshots" / ("0" * 40)
    shutil.copytree(shared[0], snapshot)
    (tmp_path / "models--someone--kat" / "refs").mkdir()
    (tmp_path / "models--someone--kat" / "refs" / "main").write_text("0" * 40)
    code = """
        import sys, kanvision as kv
        from kanvision.export import ExportError
        print(kv.from_pretrained("hf-hub:someone/kat", cache_dir=sys.argv[1]).class_names)
        print(kv.create_model("hf-hub:someone/kat", pretrained=True, cache_dir=sys.argv[1]).num_classes)
        try:
            kv.from_pretrained("hf-hub:someone/other", cache_dir=sys.argv[1])
        except ExportError as error:
            print(error)
    """
    environment = {**os.environ, "PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines()), str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, classes, refusal = done.stdout.splitlines()
    assert (names, classes) == ("('a', 'b', 'c')", "3")
    assert refusal.startswith("hf-hub:someone/other: config.json cannot be fetched")
    assert refusal.endswith("local-dir:<folder>")


def test_files_that_are_damaged_or_of_another_program_are_refused(shared, tmp_path: Path) -> None:
    folder = shutil.copytree(shared[0], tmp_path / "copy")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match=r"sha256 is .* not "):
        from_pretrained(f"local-dir:{folder}")
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    with pytest.raises(RecordError, match="holds no network of kanvision"):
        from_pretrained(f"local-dir:{folder}")
    with pytest.raises(ExportError, match=r"config\.json is missing"):
        from_pretrained(f"local-dir:{tmp_path / 'nothing'}")
    with pytest.raises(ExportError, match=r"legal: hf-hub:<owner>/<name> or local-dir:<folder>"):
        from_pretrained(str(folder))


def test_the_three_files_are_uploaded_and_no_others(shared) -> None:
    calls = []
    api = SimpleNamespace(
        create_repo=lambda *words, **options: calls.append((words, options)),
        upload_folder=lambda **options: calls.append(options),
    )
    assert push(shared[0], "someone/kat", private=True, api=api) == "hf-hub:someone/kat"
    assert calls[0] == (("someone/kat",), {"private": True, "exist_ok": True})
    assert set(calls[1]["allow_patterns"]) == {"config.json", "model.safetensors", "README.md"}
    with pytest.raises(ExportError, match=r"without config\.json"):
        push(shared[0].parent, "someone/kat", api=api)
