"""Gradient checkpointing and `fuse` of every family: equal results, less memory, and clear errors."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import kanvision as kv
from kanvision.layers import fuse_norms, restore_structure, structure_changes
from kanvision.models import create_segmenter, set_grad_checkpointing

from .families import TINY, tiny
from .test_segmenter_contract import ONE_OF_EACH, create

TRANSFORMER = {"img_size": 32, "patch_size": 8, "depth": 2, "proj_drop_rate": 0.1, "drop_path_rate": 0.3}
TRANSFORMERS = ("kat_micro_patch16_224", "karat_micro_patch16_224", "vit_micro_patch16_224")
WITH_PATHS = ("ukan", "unext", "u_mamba")


def build(name: str) -> nn.Module:
    """Return a small network of a family, with dropout and stochastic depth."""
    if name in TINY:
        model = tiny(name, layer_drop_rate=0.2, layer_drop_position="basis", drop_rate=0.3)
    elif name in TRANSFORMERS:
        model = kv.create_model(name, num_classes=3, **TRANSFORMER)
    else:
        rates = {"drop_path_rate": 0.3} if name.startswith(WITH_PATHS) else {}
        model = create(name, drop_rate=0.3, num_classes=3, **rates)
    set_grad_checkpointing(model, False)
    return model


def step(model: nn.Module) -> tuple[list[torch.Tensor], int]:
    """Return loss, gradients and buffers after a training step, and the number of kept values."""
    torch.manual_seed(1)
    sizes: dict[int, int] = {}
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.update({t.untyped_storage().data_ptr(): t.untyped_storage().size()}) or t, lambda t: t
    )
    with hooks:
        output = model(torch.randn(2, 3, 32, 32))
        loss = sum(each.square().sum() for each in (output if isinstance(output, tuple) else [output]))
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients, *model.buffers()], sum(sizes.values())


@pytest.mark.parametrize("name", [*TINY, *ONE_OF_EACH, *TRANSFORMERS])
def test_grad_checkpointing_changes_no_bit(name):
    """It would catch another dropout mask in the second pass, and batches that a norm counts twice."""
    torch.manual_seed(0)
    kept = build(name)
    again = copy.deepcopy(kept)
    set_grad_checkpointing(again, True)
    (results, memory), (others, less) = step(kept), step(again)
    assert len(results) == len(others) > 5
    assert all(torch.equal(a, b) for a, b in zip(results, others, strict=True))
    assert less < memory


def test_networks_without_gradient_checkpointing_say_so():
    for network in (
        kv.create_model("kkan_small", num_classes=3),
        create_segmenter("Unet", encoder_name="resnet18", num_classes=2),
    ):
        with pytest.raises(ValueError, match="no layer of this network has activations"):
            set_grad_checkpointing(network, True)
        set_grad_checkpointing(network, False)
    with pytest.raises(ValueError, match="batch norms of this network would count a batch twice"):
        set_grad_checkpointing(timm.create_model("resnet18"), True)
    with pytest.raises(ValueError, match="timm has no gradient checkpointing for this network"):
        set_grad_checkpointing(nn.Linear(2, 2), True)


def randomize_norms(model: nn.Module) -> None:
    """Give all batch norms statistics and factors that change their inputs."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)


# The batch norms of these families are in front of activations and convolutions, or of a linear map.
STAY = {"dense_kan": 3, "dense_kan_tiny": 3, "rolling_unet": 3}


@pytest.mark.parametrize("name", [*TINY, *ONE_OF_EACH])
def test_a_fused_network_computes_the_same(name):
    torch.manual_seed(0)
    model = build(name).eval().double()
    randomize_norms(model)
    norms = sum(isinstance(module, _BatchNorm) for module in model.modules())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    wanted = model(x)
    assert wanted.std() > 0
    assert model.fuse() is model
    torch.testing.assert_close(model(x), wanted, rtol=1e-6, atol=1e-8)  # functions have constants in float32
    left = fuse_norms(model)
    assert len(left) == STAY.get(name, STAY.get(name.rpartition("_")[0], 0))
    assert len(structure_changes(model)) > 0 or norms == 0
    fresh = build(name).eval().double()
    restore_structure(fresh, structure_changes(model))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


def test_a_plain_twin_is_fused():
    model = tiny("res_kan", plain=True).eval()
    randomize_norms(model)
    x = torch.randn(2, 3, 16, 16)
    wanted = model(x)
    torch.testing.assert_close(model.fuse()(x), wanted, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
