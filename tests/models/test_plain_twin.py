"""Plain twins: `plain=True` takes every KAN part out of a network, in every family that has one."""

import pytest
import timm
import torch

import kanvision as kv
from kanvision.bases import Basis
from kanvision.layers import GroupRational, KArAttention, KArAtWindowAttention
from kanvision.models.karat import KArAtSwin

WITHOUT_KAN = {"attention_unet", "nested_unet", "rolling_unet", "u_mamba", "unet", "unext", "vit"}
KAN_PARTS = (Basis, GroupRational, KArAttention, KArAtWindowAttention)


def names_by_family() -> dict[str, str]:
    """Return one registered name for each module of `kanvision.models`."""
    modules = {name: timm.model_entrypoint(name).__module__ for name in kv.list_models()}
    return {module.rpartition(".")[2]: name for name, module in reversed(sorted(modules.items()))}


NAMES = names_by_family() | {"karat_convit": "karat_convit_tiny_patch16_224"}


def build(name: str, **kwargs):
    with torch.device("meta"):
        return kv.create_model(name, num_classes=3, **kwargs)


def has_kan_parts(model) -> bool:
    return any(isinstance(module, KAN_PARTS) for module in model.modules())


@pytest.mark.parametrize("family", sorted(NAMES))
def test_plain_takes_every_kan_part_out(family):
    """It would catch a family without the switch, or one whose twin keeps a KAN layer."""
    name = NAMES[family]
    assert has_kan_parts(build(name)) == (family not in WITHOUT_KAN)
    if family not in WITHOUT_KAN:
        assert not has_kan_parts(build(name, plain=True))


def test_swin_has_a_plain_twin():
    twin = build("karat_swin_tiny_patch4_window7_224", plain=True)
    assert isinstance(twin, KArAtSwin)
    assert not has_kan_parts(twin)


def test_the_twin_of_kat_has_the_parameters_of_a_vit():
    """It would catch a twin of KAT with other blocks than timm's, or without KAT's start of the attention."""
    twin = kv.create_model("kat_micro_patch16_224", plain=True, num_classes=3)
    vit = kv.create_model("vit_micro_patch16_224", num_classes=3)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (twin, vit)]
    assert shapes[0] == shapes[1]
    qkv = twin.blocks[0].attn.qkv.weight
    query, key = (part.view(3, 32, 96) for part in qkv.split(96)[:2])
    assert (query.mT @ key).diagonal(dim1=1, dim2=2).mean() > 0.2  # mimetic, see kanvision.models.mimetic
    with pytest.raises(ValueError, match="variance_preserving"):
        kv.create_model("kat_micro_patch16_224", plain=True, init="variance_preserving")


def test_pointwise_convolutions_alone_can_be_plain():
    model = build("res_kan_18", plain="pointwise")
    convs = {tuple(m.kernel_size) for m in model.modules() if isinstance(m, kv.layers.KANConv2d)}
    assert (1, 1) not in convs
    assert (3, 3) in convs
