"""What all families of KAN networks can do: any basis, any form, any size of image, timm's protocol, smp."""

import pytest
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from timm.optim import create_optimizer_v2
from torch import nn

import kanvision as kv
from kanvision.bases import BASES
from kanvision.layers import BottleneckKANConv2d, KANConv2d, collect_auxiliary
from kanvision.layers.moe import MoEBottleneckKANConv2d, MoEKANConv2d
from kanvision.models.conv_factory import FORMS
from tests.covering import cover

from .families import TINY, tiny

TARGET = torch.tensor([0, 1, 2, 0])


def step(model, size=16, channels=3):
    """One step of training; every parameter has a finite gradient before it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with collect_auxiliary() as auxiliary:
        loss = F.cross_entropy(model(torch.randn(4, channels, size, size)), TARGET)
    loss = loss + sum(auxiliary)
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert any((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    return loss


@pytest.mark.parametrize(
    ("family", "basis"), cover(["convkan", "vgg_kan", "res_kan", "dense_kan", "rd_kan"], list(BASES))
)
def test_every_family_trains_with_every_basis(family, basis):
    torch.manual_seed(0)
    model = tiny(family, basis=basis)
    assert {conv.basis.name for conv in model.modules() if isinstance(conv, KANConv2d)} == {basis}
    step(model)


LEARNED = [name for name in BASES if list(kv.create_basis(name, num_channels=2).parameters())]


@pytest.mark.parametrize(("family", "basis", "form"), cover(list(TINY), LEARNED, ["plain", "moe_bottleneck"]))
def test_timm_does_not_decay_the_functions(family, basis, form):
    model = tiny(family, basis=basis, head="kan", form=form)
    own = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, kv.bases.Basis)
        for name, _ in module.named_parameters()
    }
    assert own <= model.no_weight_decay() <= {name for name, _ in model.named_parameters()}
    groups = create_optimizer_v2(model, weight_decay=0.1).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name for name, p in model.named_parameters() if not decay[id(p)]} >= own
    assert any(decay.values())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", TINY)
def test_every_family_trains_in_every_form(family, form):
    torch.manual_seed(0)
    model = tiny(family, form=form, num_experts=3)
    kinds = {"bottleneck": BottleneckKANConv2d, "moe": MoEKANConv2d, "moe_bottleneck": MoEBottleneckKANConv2d}
    found = {type(module) for module in model.modules()}
    assert kinds.get(form, KANConv2d) in found
    assert (MoEKANConv2d in found) == form.startswith("moe")
    assert bool({BottleneckKANConv2d, MoEBottleneckKANConv2d} & found) == form.endswith("bottleneck")
    step(model)
    model.eval()
    assert model(torch.randn(1, 3, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize("family", TINY)
def test_every_family_has_a_plain_twin(family):
    torch.manual_seed(0)
    model = tiny(family, plain=True, head="linear")
    assert not [module for module in model.modules() if isinstance(module, kv.bases.Basis)]
    step(model)


@pytest.mark.parametrize(("family", "form"), cover(list(TINY), ["moe", "moe_bottleneck"]))
def test_load_balance_reaches_the_loss(family, form):
    torch.manual_seed(0)
    model = tiny(family, form=form, num_experts=3)
    mixtures = [m for m in model.modules() if isinstance(m, kv.layers.TopKGate)]
    with collect_auxiliary() as auxiliary:
        model(torch.randn(4, 3, 16, 16))
    assert len(auxiliary) == len(mixtures) > 0
    assert all(loss > 0 for loss in auxiliary)
    sum(auxiliary).backward()
    assert any(gate.w_gate.grad.abs().sum() > 0 for gate in mixtures)
    model.eval()
    with collect_auxiliary() as auxiliary:
        model(torch.randn(4, 3, 16, 16))
    assert not auxiliary


@pytest.mark.parametrize(("family", "norm"), cover(list(TINY), [None, "batch", "instance", "group", "layer"]))
def test_trains_on_maps_of_one_position(family, norm):
    torch.manual_seed(0)
    model = tiny(family, norm=norm)
    kinds = {None: nn.Identity, "batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "group": nn.GroupNorm}
    convs = [module for module in model.modules() if isinstance(module, KANConv2d)]
    assert all(isinstance(conv.norm, kinds.get(norm, nn.LayerNorm)) for conv in convs)
    loss = step(model, size=8)
    assert torch.isfinite(loss)
    if family != "convkan":
        assert model.forward_features(torch.randn(4, 3, 8, 8)).shape[2:] == (1, 1)


@pytest.mark.parametrize(("family", "size"), cover(list(TINY), [(33, 21), (7, 5), (1, 1)]))
def test_odd_sizes_are_rounded_up(family, size):
    maps = tiny(family, features_only=True).eval()
    features = maps(torch.randn(1, 3, *size))
    for feature, reduction in zip(features, maps.feature_info.reduction(), strict=True):
        assert tuple(feature.shape[2:]) == tuple(-(-side // reduction) for side in size)


@pytest.mark.parametrize("family", TINY)
def test_layers_are_numbered_in_the_order_of_their_use(family):
    model = tiny(family)
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
        assert set(groups) == {name for name, _ in model.named_parameters()}
        order = [groups[name] for name, _ in model.named_parameters()]
        assert order == sorted(order)
        assert order[-1] > order[0]


@pytest.mark.parametrize("family", TINY)
def test_the_convolution_that_sees_the_image_drops_nothing(family):
    model = tiny(family, layer_drop_rate=0.25, layer_drop_kind="noise", layer_drop_position="input")
    convs = [module for module in model.modules() if isinstance(module, KANConv2d)]
    assert convs[0].in_channels == 3
    assert convs[0].drop_rate == 0
    assert {conv.drop_rate for conv in convs[1:]} <= {0, 0.25}
    assert sum(conv.drop_rate > 0 for conv in convs) >= 2
    assert {conv.drop_position for conv in convs} == {"input"}


@pytest.mark.parametrize("family", TINY)
def test_stochastic_depth_only_where_there_are_branches(family):
    if tiny(family).has_branches:
        step(tiny(family, drop_path_rate=0.2))
    else:
        with pytest.raises(ValueError, match=r"drop_path_rate=0\.2: \w+ has no residual branches to drop"):
            tiny(family, drop_path_rate=0.2)


@pytest.mark.parametrize("family", TINY)
def test_parts_of_the_features(family):
    model = tiny(family).eval()
    x = torch.randn(1, 3, 16, 16)
    final, maps = model.forward_intermediates(x)
    assert len(maps) == len(model.feature_info)
    torch.testing.assert_close(final, model.forward_features(x))
    torch.testing.assert_close(maps[-1], final)
    torch.testing.assert_close(model.forward_head(final), model(x))
    (second,) = model.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(second, maps[1])
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert len(model.stages) == 2
    assert not list(model.head.parameters())
    torch.testing.assert_close(model(x), maps[1])
    with pytest.raises(ValueError, match="output_fmt='NLC'"):
        model.forward_intermediates(x, output_fmt="NLC")


@pytest.mark.parametrize("family", TINY)
def test_encoder_of_smp_itself_with_its_own_defaults(family):
    import segmentation_models_pytorch as smp

    name, small = TINY[family]
    small = {key: value for key, value in small.items() if key != "version"}
    model = smp.Unet(f"tu-{name}", encoder_weights=None, in_channels=4, classes=2, **small)
    assert model(torch.randn(2, 4, 64, 96)).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("family", TINY)
def test_encoder_of_a_segmentation_network(family):
    import segmentation_models_pytorch as smp

    name, small = TINY[family]
    model = kv.models.create_segmenter("Unet", encoder_name=f"tu-{name}", num_classes=2, **small)
    x = torch.randn(2, 3, 45, 37)
    logits = model(x)
    assert logits.shape == (2, 2, 45, 37)
    logits.square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert isinstance(model.network, smp.Unet)
    bare = kv.models.create_segmenter("Unet", encoder_name=f"tu-{name}", num_classes=2, norm=None, **small)
    assert {type(m.norm) for m in bare.modules() if isinstance(m, KANConv2d)} == {nn.Identity}
