"""Derivatives beyond one backward pass, over all bases, all layers and one model of each family."""

import copy
from contextlib import nullcontext

import pytest
import torch
from timm.models import VisionTransformer
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

import kanvision as kv
from kanvision.bases import BASES
from kanvision.layers import KANConv2d, KANLinear

from .layers import test_contract as layers
from .models import test_contract as classifiers
from .models import test_segmenter_contract as segmenters
from .models.families import TINY, tiny

CLASSIFIERS = (
    "kat_micro_patch16_224",
    "vit_micro_patch16_224",
    "karat_micro_patch16_224",
    "karat_convit_tiny_patch16_224",
    "karat_swin_tiny_patch4_window7_224",
    "kkan_small",
    "conv_kan_small",
    "conv_mlp_small",
    "kanc_mlp_small",
)
MODELS = (*TINY, *CLASSIFIERS, *segmenters.ONE_OF_EACH)


def of_basis(basis):
    return KANConv2d(2, 2, 3, padding=1, basis=basis, norm="batch", act="silu"), (2, 2, 3, 3)


def of_layer(case):
    layer, shape = layers.make(case)
    return layer, (2, *shape[1:])


def of_model(name):
    if name in segmenters.MODELS:
        return segmenters.create(name, in_chans=1, num_classes=1), (2, 1, 16, 16)
    if name in TINY:
        return tiny(name), (2, 3, 16, 16)
    return classifiers.create(name, num_classes=3), (2, 3, 32, 32)


CASES = [("basis", of_basis, BASES), ("layer", of_layer, layers.CASES), ("model", of_model, MODELS)]


def test_every_family_is_here():
    families = {name.split("_micro_")[0].split("_small")[0].split("_tiny")[0] for name in CLASSIFIERS}
    families |= set(TINY)
    for name in kv.list_models(kind="classifier"):
        assert name.startswith(tuple(families)), name


def output(module, x):
    """One value for each sample and output, with the same random numbers every time."""
    torch.manual_seed(0)
    y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    return y.flatten(2).mean(2) if y.ndim > 2 else y


def without_recomputation(module):
    twin = copy.deepcopy(module)
    for part in twin.modules():
        if hasattr(part, "checkpoint"):
            part.checkpoint = False
    return twin


@pytest.mark.parametrize(
    ("make", "name", "training"),
    [
        pytest.param(
            make,
            name,
            training,
            id=f"{kind}-{name}-{'training' if training else 'evaluation'}",
            marks=pytest.mark.slow if make is of_model and not training else (),
        )
        for kind, make, names in CASES
        for name in names
        for training in (True, False)
    ],
)
def test_a_graph_can_be_used_again(make, name, training):
    """Two losses, a penalty and a Jacobian; layers also against themselves without recomputation."""
    torch.manual_seed(1)
    module, shape = make(name)
    module.double().train(training)
    x = torch.randn(shape, dtype=torch.float64)
    found = derivatives(module, x)
    assert all(value.isfinite().all() for value in found)
    if training and make is not of_model:
        for one, other in zip(found, derivatives(without_recomputation(module), x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def derivatives(module, x):
    """Gradients of all kinds from one graph and a Jacobian; the batch is counted once in statistics."""
    x = x.clone().requires_grad_()
    wanted = [x, *(p for p in module.parameters() if p.requires_grad)]
    # timm attends by fused kernels of torch, which have no second derivative
    fused = sdpa_kernel(SDPBackend.MATH) if isinstance(module, VisionTransformer) else nullcontext()
    with fused:
        y = output(module, x)
        buffers = [buffer.clone() for buffer in module.buffers()]
        loss, other, penalized = y.sum(), y.square().mean(), y.square().sum()
        (slope,) = torch.autograd.grad(penalized, x, create_graph=True)
        found = []
        for value in (loss, other, slope.square().sum()):
            found += torch.autograd.grad(
                value, wanted, retain_graph=True, allow_unused=True, materialize_grads=True
            )
    for before, after in zip(buffers, module.buffers(), strict=True):
        assert torch.equal(before, after)
    return [*found, torch.autograd.functional.jacobian(lambda v: output(module, v)[0, :2], x.detach())]


def per_sample_outputs(layer, x):
    return vmap(lambda v: layer(v.unsqueeze(0)).squeeze(0))(x)


def per_sample_gradients(layer, x):
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    return vmap(grad(lambda w, v: functional_call(layer, w, (v.unsqueeze(0),)).sum()), (None, 0))(weights, x)


def jacobian(layer, x):
    return jacrev(layer)(x)


def directional_derivative(layer, x):
    return jvp(layer, (x,), (torch.ones_like(x),))


def dual_numbers(layer, x):
    with torch.autograd.forward_ad.dual_level():
        y = layer(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
        assert torch.autograd.forward_ad.unpack_dual(y).tangent is not None


def gradient_of_a_trace(layer, x):
    x = x.requires_grad_()
    traced = torch.jit.trace(layer, x, check_trace=False)
    (found,) = torch.autograd.grad(traced(x).sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad(layer(x).sum(), x)[0])


TRANSFORMS = [
    per_sample_outputs,
    per_sample_gradients,
    jacobian,
    directional_derivative,
    dual_numbers,
    gradient_of_a_trace,
]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.__name__)
@pytest.mark.parametrize("basis", BASES)
def test_function_transforms(basis, transform):
    transform(KANLinear(3, 2, basis=basis), torch.randn(2, 3))
