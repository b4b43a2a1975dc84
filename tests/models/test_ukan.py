"""U-KAN: its formula, its twin, what the published code gets wrong, and two learning rates."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanvision as kv
from kanvision.layers import KANLinear
from kanvision.models.token_unet import TokenBlock, TokenEmbed
from kanvision.models.ukan import UKAN, PlainLinear, TokenMixer
from kanvision.optim import kan_parameter_names, parameter_groups

TINY = {"embed_dims": (16, 24, 32), "stem_dims": (3, 5)}


def network(**kwargs) -> UKAN:
    torch.manual_seed(0)
    return UKAN(**{**TINY, **kwargs})


def count(name: str, **kwargs) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in kv.create_model(name, **kwargs).parameters())


@pytest.mark.parametrize(
    ("name", "kwargs", "published"),
    [
        ("ukan_small", {}, 1_848_633),
        ("ukan_medium", {}, 6_356_689),
        ("ukan_large", {}, 25_359_265),
        ("ukan_medium", {"plain": True}, 2_764_561),
        ("ukan_crop", {"in_chans": 12, "num_classes": 2}, 75_182_914),
        ("ukan_crop", {"in_chans": 2, "num_classes": 2}, 75_177_154),
    ],
)
def test_published_counts(name, kwargs, published):
    assert count(name, **kwargs) == published


def test_published_counts_of_a_block():
    with torch.device("meta"):
        kan, mlp = (UKAN(plain=plain).down_blocks[0] for plain in (False, True))
    assert sum(p.numel() for p in kan.parameters()) == 774_080
    assert sum(p.numel() for p in mlp.parameters()) == 83_360


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4, 5])
def test_number_of_layers(num_layers):
    model = network(num_layers=num_layers)
    blocks = [m for m in model.modules() if isinstance(m, TokenBlock)]
    assert [len(block.mixers) for block in blocks] == [num_layers] * 4
    assert sum(isinstance(m, KANLinear) for m in model.modules()) == 4 * num_layers
    assert model(torch.randn(2, 3, 64, 32)).shape == (2, 1, 64, 32)


def test_the_mlp_twin_has_no_kan_layer():
    """The published switch does not reach the blocks: it trains a U-KAN."""
    model = network(plain=True)
    assert not [m for m in model.modules() if isinstance(m, KANLinear)]
    plain = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(plain) == 12
    assert all(layer.bias is not None and layer.bias.eq(0).all() for layer in plain)
    weights = torch.cat([layer.weight.detach().flatten() for layer in plain])
    assert weights.std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("plain", [0, 1, 2])
def test_any_layer_of_a_block_can_be_plain(plain):
    model = network(plain=[index == plain for index in range(3)])
    for block in (m for m in model.modules() if isinstance(m, TokenBlock)):
        kinds = [type(mixer.layer) for mixer in block.mixers]
        assert kinds == [PlainLinear if index == plain else KANLinear for index in range(3)]


def test_a_block_is_the_written_formula():
    torch.manual_seed(0)
    block = TokenBlock([TokenMixer(KANLinear(6, 6), 6) for _ in range(2)], 6).double().eval()
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    y = F.layer_norm(x, (6,), block.norm.weight, block.norm.bias)
    for mixer in block.mixers:
        y = mixer.layer(y.reshape(-1, 6)).reshape(2, 20, 6)
        maps = y.transpose(1, 2).reshape(2, 6, 5, 4)
        y = mixer.norm(F.conv2d(maps, mixer.conv.weight, mixer.conv.bias, padding=1, groups=6)).relu()
        y = y.flatten(2).transpose(1, 2)
    torch.testing.assert_close(block(x), x + y.reshape(2, 5, 4, 6))


@torch.no_grad()
def test_start_values():
    torch.manual_seed(0)
    embed = TokenEmbed(64, 64)
    assert embed.conv.weight.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert embed.conv.bias.eq(0).all()
    mixers = [mixer for block in UKAN().down_blocks for mixer in block.mixers]
    weights = torch.cat([mixer.conv.weight.flatten() for mixer in mixers])
    assert weights.std() == pytest.approx((2 / 9) ** 0.5, rel=0.03)
    assert all(mixer.conv.bias.eq(0).all() for mixer in mixers)
    layer = mixers[0].layer
    bound = layer.in_features**-0.5
    for weight in (layer.base_weight, layer.edge_scale):
        assert weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert layer.basis_weight.std() == pytest.approx(0.0089, rel=0.1)  # measured on the published layer
    assert layer.basis.knots.tolist() == pytest.approx([-2.2 + 0.4 * i for i in range(12)])


def test_two_learning_rates():
    """All tensors of KAN layers at one rate and all others at another, as published; the twin's alike."""
    for plain, each in ((False, 3), (True, 2)):
        model = network(plain=plain)
        fast = kan_parameter_names(model)
        assert len(fast) == 12 * each
        assert all(".mixers." in name and ".layer." in name for name in fast)
        groups = parameter_groups(model, lr=1e-4, kan_lr=1e-2, weight_decay=1e-4)
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            assert rates[id(parameter)] == pytest.approx(1e-2 if name in fast else 1e-4)


@pytest.mark.parametrize("in_chans", [1, 4, 12])
def test_the_stem_takes_the_channels_that_it_is_told(in_chans):
    """The published one is made for three channels whatever it is told."""
    model = network(in_chans=in_chans, num_classes=2)
    assert model(torch.randn(2, in_chans, 32, 64)).shape == (2, 2, 32, 64)


@pytest.mark.parametrize("basis", ["rbf", "gram", "chebyshev", "wavelet", "rational", "fourier"])
def test_any_basis(basis):
    model = network(basis=basis)
    layers = [m for m in model.modules() if isinstance(m, KANLinear)]
    assert {layer.basis.name for layer in layers} == {basis}
    assert all(isinstance(layer.norm, nn.Identity) for layer in layers)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_other_layers():
    published = network(preset="kagn", basis="gram")
    assert {type(m.norm) for m in published.modules() if isinstance(m, KANLinear)} == {nn.LayerNorm}
    model = network(preset="group_rational")
    assert not [m for m in model.modules() if isinstance(m, KANLinear)]
    assert sum(isinstance(m, kv.layers.GroupRational) for m in model.modules()) == 12
    assert len(kan_parameter_names(model)) == 12 * 4
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    act, linear = model.down_blocks[0].mixers[0].layer
    hidden = linear(act(torch.randn(4096, linear.in_features))).detach()
    assert hidden.square().mean() == pytest.approx(1, rel=0.3)
    assert network(preset="fastkan", basis="rbf", layer_kwargs={"bias": False})(
        torch.randn(2, 3, 32, 32)
    ).shape


def test_basis_arguments_reach_the_layers():
    model = network(basis_kwargs={"grid_size": 9, "grid_range": (-3.0, 3.0)})
    layers = [m for m in model.modules() if isinstance(m, KANLinear)]
    assert {(layer.basis.num_basis, layer.basis.domain) for layer in layers} == {(12, (-3.0, 3.0))}


def test_little_is_kept_for_the_backward_pass():
    """The published code keeps 270 MiB for an image of 256 x 256, in the size M."""
    torch.manual_seed(0)
    model = UKAN(embed_dims=(128, 160, 256))
    kept: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = model(torch.randn(1, 3, 64, 64)).mean()
    assert loss.requires_grad
    assert sum(kept.values()) * 16 < 110 * 2**20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"embed_dims": (8, 16)}, r"embed_dims=\(8, 16\) must be three positive widths"),
        ({"embed_dims": (4, 8, 8), "stem_dims": None}, "stem_dims=None must be two positive widths"),
        ({"num_layers": 0}, "num_layers=0 must be at least 1"),
        ({"plain": (True, False)}, "one value for each of num_layers=3"),
        ({"preset": "kaggn"}, "preset='kaggn' is not known; legal names: group_rational, kan"),
        ({"preset": "kagn"}, "preset='kagn' has basis='gram', not 'bspline'"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
    ],
)
def test_a_wrong_value_is_answered(kwargs, message):
    with pytest.raises(ValueError, match=message):
        network(**kwargs)
