"""Published layers of torch-conv-kan, loaded, against their equations on the published tensors."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from kanvision.checkpoints import CheckpointError
from kanvision.checkpoints.published.official import load_official
from kanvision.checkpoints.published.torch_conv_kan.conv import CONV_KINDS
from kanvision.checkpoints.published.torch_conv_kan.linear import LINEAR_KINDS
from kanvision.layers import KANConv2d
from tests.checkpoints.published.reference_layers import (
    published_conv,
    published_linear,
    random_conv,
    random_linear,
)

SOURCE = "torch-conv-kan"
AMBIGUOUS = ("kaln", "kajn", "kabn")
WARNED = {"kaln": "whole batch", "kabn": "return 1"}
SIDE = {1: 11, 2: 7, 3: 5}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def load(state, kind, **options):
    named = {"layer": kind} if kind in AMBIGUOUS and "poly_weights" in state else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_official(state, source=SOURCE, **named, **options)


def same(got, want):
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def batches(kind, x):
    # the extremes of KALN are those of the whole batch there
    return x.split(1) if kind == "kaln" else [x]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", CONV_KINDS)
def test_convolutions(kind, groups, ndim):
    state = random_conv(kind, ndim, groups=groups, norm="batch" if kind == "wavkan" else "instance")
    geometry = {"stride": 2, "padding": 1}
    told = {"groups": groups} if kind == "kagn_v2" else {}
    layer = load(state, kind, **geometry, **told)
    x = torch.randn(2, 3 * groups, *(SIDE[ndim],) * ndim, dtype=torch.float64)
    want = [published_conv(kind, state, u, groups=groups, **geometry) for u in batches(kind, x)]
    with torch.no_grad():
        same(layer(x), torch.cat(want))
    assert not layer.training


@pytest.mark.parametrize("kernel", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", CONV_KINDS)
def test_norms_are_told_from_the_names(kind, norm, affine, kernel):
    state = random_conv(kind, 2, groups=2, kernel=kernel, norm=norm, affine=affine)
    told = {"groups": 2} if kind == "kagn_v2" else {}
    layer = load(state, kind, dilation=2, padding=1, **told)
    x = torch.randn(1, 6, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_conv(kind, state, x, groups=2, dilation=2, padding=1))
    norm_layer = layer.input_norm if kind == "fastkan" else layer.norm
    assert isinstance(norm_layer, torch.nn.BatchNorm2d if norm == "batch" else torch.nn.InstanceNorm2d)
    assert norm_layer.affine is affine


@pytest.mark.parametrize("form", ["base", "fast", "fast_plus_one"])
@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("wavelet", ["mexican_hat", "morlet", "dog", "meyer"])
def test_the_three_forms_of_wavelet_layers(wavelet, ndim, form):
    state = random_conv("wavkan", ndim, groups=2, form=form, norm="batch")
    assert (state["wavelet_conv.0.scale"] < 0).any()
    layer = load(state, "wavkan", wavelet=wavelet, padding=1)
    x = torch.randn(2, 6, *(SIDE[ndim],) * ndim, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), published_conv("wavkan", state, x, groups=2, padding=1, wavelet_kind=wavelet))


def test_wavelets_that_cannot_be_loaded():
    state = random_conv("wavkan", 2, norm="batch")
    with pytest.raises(ValueError, match=r"wavelet='shannon'.*mexican_hat, morlet, meyer, dog"):
        load(state, "wavkan", wavelet="shannon")
    state["wavelet_conv.0.scale"][0, 1, 1] = 1e-4
    with pytest.raises(CheckpointError, match=r"1 of the published wavelet scales .* 0.001"):
        load(state, "wavkan")


def test_options_that_no_tensor_tells():
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    state = random_conv("kajn", 2)
    with torch.no_grad():
        same(
            load(state, "kajn", alpha=0.5, beta=2.0)(x), published_conv("kajn", state, x, alpha=0.5, beta=2.0)
        )
        state = random_conv("kan", 2)
        same(load(state, "kan", base_act="silu")(x), published_conv("kan", state, x, base_act=F.silu))
        state = random_conv("kagn", 2, affine=False)
        assert isinstance(load(state, "kagn", norm=None).norm, torch.nn.Identity)
    assert load(random_conv("kan", 2), "kan", spline_order=2).basis.domain == (-1.0, 1.0)
    assert load(random_conv("kan", 2), "kan", spline_order=2).basis.degree == 2
    with pytest.raises(
        ValueError, match=r"degree=3: a published kagn convolution has the options stride, padding"
    ):
        load(random_conv("kagn", 2), "kagn", degree=3)


@pytest.mark.parametrize("norm", ["instance", None])
def test_a_batch_norm_cannot_become_another(norm):
    state = random_conv("kagn", 2, norm="batch")
    with pytest.raises(ValueError, match=r"norm=.*have running statistics"):
        load(state, "kagn", norm=norm)
    with pytest.raises(ValueError, match=r"norm='batch'.*no running statistics"):
        load(random_conv("kagn", 2), "kagn", norm="batch")
    with pytest.raises(ValueError, match=r"norm=None.*scale and shift"):
        load(random_conv("kagn", 2), "kagn", norm=None)
    with pytest.raises(ValueError, match=r"norm='layer'.*2 groups"):
        load(random_conv("kagn", 2, groups=2), "kagn", norm="layer")
    with pytest.raises(ValueError, match=r"norm='btach' is not known"):
        load(random_conv("kagn", 2), "kagn", norm="btach")


def test_slopes_of_groups():
    state = random_conv("kan", 2, groups=2)
    assert load(state, "kan").act.weight.tolist() == [
        *state["prelus.0.weight"].tolist() * 2,
        *state["prelus.1.weight"].tolist() * 2,
    ]
    state["prelus.1.weight"] = state["prelus.0.weight"].clone()
    assert load(state, "kan").act.weight.shape == (1,)


def test_a_layer_in_single_precision_trains_and_reloads():
    state = {
        k: v.float() if v.is_floating_point() else v for k, v in random_conv("kagn", 2, groups=2).items()
    }
    layer = load(state, "kagn", padding=1)
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    x = torch.randn(2, 6, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(
            layer(x), published_conv("kagn", state, x, groups=2, padding=1), atol=1e-5, rtol=1e-5
        )
    layer.train()(x).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    twin = KANConv2d(
        6,
        4,
        3,
        padding=1,
        groups=2,
        basis=layer.basis,
        base_act="silu",
        basis_act="silu",
        norm="instance",
        act="silu",
    )
    twin.load_state_dict(layer.state_dict())


@pytest.mark.parametrize("kind", WARNED)
def test_what_is_not_as_published_is_said(kind):
    state = random_conv(kind, 2)
    with pytest.warns(UserWarning, match=WARNED[kind]):
        load_official(state, source=SOURCE, layer=kind)
    with pytest.warns(UserWarning, match=WARNED[kind]):
        load_official(random_linear(kind), source=SOURCE)
    with pytest.warns(UserWarning, match="sees channels of others"):
        load_official(random_conv("kagn_v2", 2, groups=2), source=SOURCE, groups=2)


@pytest.mark.parametrize("kind", [k for k in CONV_KINDS if k not in WARNED])
def test_the_rest_loads_without_a_word(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_official(random_conv(kind, 2), source=SOURCE, layer=kind)


def test_layers_of_the_same_names_have_to_be_said():
    state = random_conv("kajn", 2)
    with pytest.raises(CheckpointError, match=r"kaln, kajn, kabn.*layer='kaln'"):
        load_official(state, source=SOURCE)
    with pytest.raises(ValueError, match=r"layer='kajm' is not known; legal values: kan, fastkan"):
        load_official(state, source=SOURCE, layer="kajm")


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_fully_connected_layers(kind):
    state = random_linear(kind)
    told = {"grid_size": 5} if kind == "relukan" else {}
    layer = load(state, kind, **told)
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        same(layer(x), torch.cat([published_linear(kind, state, u) for u in batches(kind, x)]))


@pytest.mark.parametrize("kind", ["kaln", "kagn", "kajn", "kabn"])
def test_fully_connected_layers_with_another_activation(kind):
    # the published stacks put GELU in place of SiLU
    state, x = random_linear(kind), torch.randn(1, 4, dtype=torch.float64)
    with torch.no_grad():
        same(load(state, kind, act="gelu")(x), published_linear(kind, state, x, act=F.gelu))


def test_other_forms_of_fully_connected_layers():
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        state = random_linear("fastkan", base=False)
        same(load(state, "fastkan")(x), published_linear("fastkan", state, x))
        state = random_linear("relukan", num=2)
        same(load(state, "relukan")(x), published_linear("relukan", state, x))
        state = random_linear("wavkan")
        same(
            load(state, "wavkan", wavelet="dog")(x), published_linear("wavkan", state, x, wavelet_kind="dog")
        )
    with pytest.raises(ValueError, match=r"grid_size=None.*grid_size \+ order = 8"):
        load(random_linear("relukan"), "relukan")


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_stacks(kind, wrapped):
    first, second = random_linear(kind, 4, 3), random_linear(kind, 3, 5)
    # dropout is at 0 and 2; the L1 wrapper is around the first layer
    infix = "module." if wrapped else ""
    state = {f"layers.1.{infix}{k}": v for k, v in first.items()} | {
        f"layers.3.{k}": v for k, v in second.items()
    }
    told = {"grid_size": 5} if kind == "relukan" else {}
    stack = load(state, kind, **told)
    x = torch.randn(3, 4, dtype=torch.float64)
    for part, u in enumerate(batches(kind, x)):
        want = published_linear(kind, second, published_linear(kind, first, u))
        with torch.no_grad():
            same(stack(x)[part : part + len(u)] if kind == "kaln" else stack(x), want)


def damaged(state, prefix=""):
    """One tensor less, one more, one of another shape."""
    state = dict(state)
    gone = next(name for name in state if name.startswith(prefix) and name.endswith("bias"))
    wrong = gone.replace("bias", "weight")
    del state[gone]
    state[wrong] = torch.randn(9)
    state[f"{prefix}alien.weight"] = torch.randn(3)
    return state, gone, wrong, f"{prefix}alien.weight"


@pytest.mark.parametrize("kind", CONV_KINDS)
def test_a_damaged_convolution_is_refused_with_every_name(kind):
    state, gone, wrong, alien = damaged(random_conv(kind, 2, groups=2))
    told = {"groups": 2} if kind == "kagn_v2" else {}
    with pytest.raises(CheckpointError) as refusal:
        load(state, kind, **told)
    message = str(refusal.value)
    assert f"1 missing: {gone}" in message
    assert f"1 unexpected: {alien}" in message
    assert f"1 of another shape: {wrong} (9,), not" in message


@pytest.mark.parametrize("kind", ["kan", "fastkan", "kaln", "kagn", "kajn", "kabn", "wavkan"])
def test_a_damaged_stack_is_refused_with_every_name(kind):
    state = {f"layers.0.{name}": value for name, value in random_linear(kind).items()}
    state, gone, wrong, alien = damaged(state, "layers.0.")
    with pytest.raises(CheckpointError) as refusal:
        load(state | {"layers.0": torch.zeros(1)}, kind)
    for name in (gone, wrong, alien, "layers.0"):
        assert name in str(refusal.value)


@pytest.mark.parametrize("kind", CONV_KINDS)
def test_every_tensor_is_needed(kind):
    state = random_conv(kind, 2, groups=2, norm="batch")
    for name in state:
        rest = {key: value for key, value in state.items() if key != name}
        with pytest.raises(CheckpointError):
            load(rest, kind, **({"groups": 2} if kind == "kagn_v2" else {}))


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_every_tensor_of_a_fully_connected_layer_is_needed(kind):
    state = random_linear(kind)
    for name in state:
        with pytest.raises(CheckpointError):
            load({key: value for key, value in state.items() if key != name}, kind)


ODD_SHAPES = [(), (0,), (1,), (7,), (2, 2), (0, 2, 3, 3), (1, 1, 1, 1), (2, 1, 1, 5, 2, 2, 1)]


@pytest.mark.parametrize("kind", CONV_KINDS)
def test_tensors_of_odd_shapes_are_refused(kind):
    state = random_conv(kind, 2, groups=2, norm="batch")
    for name in state:
        for shape in ODD_SHAPES:
            if shape != state[name].shape:
                with pytest.raises(CheckpointError):
                    load(
                        state | {name: torch.zeros(shape)},
                        kind,
                        **({"groups": 2} if kind == "kagn_v2" else {}),
                    )


@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_tensors_of_odd_shapes_are_refused_in_fully_connected_layers(kind):
    state = random_linear(kind)
    for name in state:
        for shape in ODD_SHAPES:
            if shape != state[name].shape:
                with pytest.raises(CheckpointError):
                    load(state | {name: torch.zeros(shape)}, kind)


def test_names_with_and_without_the_wrapper():
    state = random_linear("kacn")
    both = {f"layers.0.{k}": v for k, v in state.items()} | {
        f"layers.0.module.{k}": v for k, v in state.items()
    }
    with pytest.raises(CheckpointError, match="with and without a wrapper"):
        load(both, "kacn")
    with pytest.raises(CheckpointError, match="of no published fully connected layer"):
        load({"layers.0.weight": torch.zeros(2, 2)}, "kacn")
    with pytest.raises(CheckpointError, match="of no published convolution"):
        load({"weight": torch.zeros(2, 2)}, "kacn")


def leaves(state):
    return {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in state.items()}


@pytest.mark.parametrize("wavelet", ["mexican_hat", "dog"])
def test_a_fully_connected_wavelet_layer_trains_as_published(wavelet):
    state = leaves(random_linear("wavkan", 4, 3))
    layer = load_official(state, source=SOURCE, wavelet=wavelet)
    x = torch.randn(6, 4, dtype=torch.float64)
    published_linear("wavkan", state, x, wavelet_kind=wavelet).square().sum().backward()
    layer(x).square().sum().backward()
    found = dict(layer[1].named_parameters())
    sign = state["scale"].detach().sign()
    weight = sign if wavelet == "dog" else torch.ones_like(sign)
    for name, there, factor in (
        ("shift", "translation", 1),
        ("scale", "scale", sign),
        ("basis_weight", "wavelet_weights", weight),
        ("base_weight", "weight1", 1),
        ("norm.weight", "bn.weight", 1),
    ):
        want = state[there].grad
        torch.testing.assert_close(found[name].grad.reshape(want.shape) * factor, want, rtol=1e-4, atol=1e-9)
    assert not found["mix_weight"].requires_grad


def test_groups_of_a_relu_layer_train_apart_what_published_ones_share():
    state = leaves(random_conv("relukan", 2, groups=2))
    layer = load_official(state, source=SOURCE, padding=1)
    x = torch.randn(3, 6, 5, 5, dtype=torch.float64)
    published_conv("relukan", state, x, groups=2, padding=1).square().sum().backward()
    layer(x).square().sum().backward()
    for side, there in ((layer.basis.start, "phase_low"), (layer.basis.end, "phase_high")):
        first, second = side.grad.chunk(2)
        torch.testing.assert_close(first + second, state[there].grad.reshape(first.shape))
        assert not torch.allclose(first, second)
