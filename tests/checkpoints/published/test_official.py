"""The front door for published weights: sources, files, and what is refused."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from kanvision.checkpoints import SOURCES, CheckpointError, load_official
from kanvision.layers import KANConv2d

from .reference_layers import published_conv, random_conv

SOURCE = "torch-conv-kan"


@pytest.fixture
def state():
    torch.manual_seed(0)
    return random_conv("kagn", 2, norm="batch")


def check(module, state):
    assert isinstance(module, KANConv2d)
    assert not any(part.training for part in module.modules())
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x), published_conv("kagn", state, x), atol=1e-10, rtol=1e-10)


def test_an_unknown_source_is_answered_with_the_known_ones(state):
    legal = "torch-conv-kan, efficient-kan, u-kan, crop-u-kan, kat, flashkat"
    with pytest.raises(ValueError, match=f"source='torch-kan' is not known; legal values: {legal}"):
        load_official(state, source="torch-kan")
    assert ", ".join(SOURCES) == legal


@pytest.mark.parametrize("as_text", [True, False])
def test_files(tmp_path, state, as_text):
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "weights.pth")
    for path in (tmp_path / "model.safetensors", tmp_path / "weights.pth", tmp_path):
        check(load_official(str(path) if as_text else path, source=SOURCE), state)


def test_a_folder_with_a_file_of_torch(tmp_path, state):
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "pytorch_model.bin")
    check(load_official(tmp_path, source=SOURCE), state)


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_training_programs_put_around_the_weights(state, nest, wrapper):
    wrapped = {wrapper + name: value for name, value in state.items()}
    check(load_official({nest: wrapped, "optimizer": {}, "epoch": 5}, source=SOURCE), state)


def test_the_given_tensors_stay_as_they_are(state):
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in load_official(state, source=SOURCE).parameters():
            parameter.zero_()
    for name, value in before.items():
        assert torch.equal(state[name], value)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["weights.pth", "pytorch_model.bin", "model.safetensors"])
def test_a_payload_is_refused_and_not_run(tmp_path, state, name):
    torch.save({**state, "extra": Payload(tmp_path / "trap")}, tmp_path / name)
    with pytest.raises(CheckpointError):
        load_official(tmp_path / name, source=SOURCE)
    (tmp_path / name).write_bytes(pickle.dumps(Payload(tmp_path / "trap")))
    with pytest.raises(CheckpointError):
        load_official(tmp_path / name, source=SOURCE)
    assert not (tmp_path / "trap").exists()


def test_broken_files_and_dictionaries(tmp_path, state):
    save_file(state, tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cut off or not of safetensors"):
        load_official(tmp_path / "cut.safetensors", source=SOURCE)
    for path in (tmp_path / "none.safetensors", tmp_path / "none.pth"):
        with pytest.raises(CheckpointError, match="no such file"):
            load_official(path, source=SOURCE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_official(tmp_path / "empty", source=SOURCE)
    with pytest.raises(CheckpointError, match="is empty"):
        load_official({}, source=SOURCE)
    with pytest.raises(CheckpointError, match=r"more than named tensors: epoch \(int\), 3 \(Tensor\)"):
        load_official({**state, "epoch": 1, 3: torch.zeros(1)}, source=SOURCE)
