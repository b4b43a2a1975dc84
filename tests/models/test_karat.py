"""Models with KArAt: the published counts and FLOPs, sharing, other sizes, ConViT and Swin."""

import pytest
import timm
import torch
from torch import nn

from kanvision.analysis import cost
from kanvision.layers import KArAtOperator, KArAttention, KArAtWindowAttention
from kanvision.models import create_model
from kanvision.spec.models import KARAT_FREQUENCIES

SMALL = {"img_size": 32, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
PAPER = {"init": "paper", "unit_scales": True}
CONVIT, SWIN = "karat_convit_tiny_patch16_224", "karat_swin_tiny_patch4_window7_224"


def build(**kwargs):
    torch.manual_seed(0)
    return create_model("karat_tiny_patch16_224", **{**SMALL, **kwargs})


def on_meta(name, **kwargs):
    with torch.device("meta"):
        return create_model(name, **kwargs)


def count(model):
    return sum(p.numel() for p in model.parameters())


def operators(model):
    return [module for module in model.modules() if isinstance(module, KArAtOperator)]


@pytest.mark.parametrize(
    ("size", "share", "num_classes", "expected"),
    [
        ("tiny", "blockwise", 10, 6_292_282),
        ("tiny", "universal", 10, 5_590_174),
        ("small", "blockwise", 1000, 23_582_536),
        ("small", "universal", 1000, 22_178_320),
        ("base", "blockwise", 10, 87_508_426),
        ("base", "universal", 10, 85_948_186),
    ],
)
def test_published_parameter_counts(size, share, num_classes, expected):
    given = {"share": share, "num_classes": num_classes}
    model = on_meta(f"karat_{size}_patch16_224", **given, **PAPER)
    assert count(model) == expected
    heads, blocks, g = (
        model.blocks[0].attn.num_heads,
        1 if share == "universal" else 12,
        KARAT_FREQUENCIES[size],
    )
    assert len(operators(model)) == blocks
    plain = on_meta(f"vit_{size}_patch16_224", num_classes=num_classes)
    assert expected - count(plain) == (2 * g + 3) * 197 * 12 * heads * blocks
    # ours, without the redundant factors
    assert count(on_meta(f"karat_{size}_patch16_224", **given)) == expected - 2 * 197 * 12 * heads * blocks


@pytest.mark.parametrize(
    ("name", "plain", "share", "added"),
    [
        (CONVIT, "convit_tiny", "blockwise", 170_208),
        (CONVIT, "convit_tiny", "universal", 85_104),
        (SWIN, "swin_tiny_patch4_window7_224", "blockwise", 730_296),
    ],
)
def test_published_additions_to_other_transformers(name, plain, share, added):
    with torch.device("meta"):
        assert count(on_meta(name, share=share, **PAPER)) - count(timm.create_model(plain)) == added


# The paper counts 3 G + 1 operations; totals are multiply-adds, 4 for an element of a LayerNorm, and these.
@pytest.mark.parametrize(
    ("size", "activation", "total"),
    [("tiny", 0.168, 1.425), ("small", 0.335, 4.941), ("base", 0.268, 17.847)],
)
def test_published_flops(size, activation, total):
    model = on_meta(f"karat_{size}_patch16_224", **PAPER)
    published = sum(operator.published_flops(197) for operator in operators(model)) / 1e9
    assert published == pytest.approx(activation, abs=5e-4)
    plain = on_meta(f"vit_{size}_patch16_224")
    norms = sum(isinstance(module, nn.LayerNorm) for module in plain.modules())
    of_norms = 4 * norms * 197 * plain.embed_dim / 1e9
    macs = cost(plain, (3, 224, 224)).flops / 2e9
    assert macs + of_norms + published == pytest.approx(total, abs=2e-3)


def test_cost_counts_products_and_functions():
    """The products are those of the closed form, not of the formula; the functions see the logits."""
    model = build(rank=4)
    found = cost(model, (3, 32, 32))
    heads, tokens, channels, depth, g, r = 3, 65, 16, 3, 3, 4
    plain = cost(create_model("vit_tiny_patch16_224", patch_size=4, **SMALL), (3, 32, 32))
    logits = heads * tokens**2 * depth
    through_softmax = 2 * 2 * logits * channels
    through_units = (
        2 * logits * channels + 2 * 2 * g * logits * r + 2 * 2 * heads * tokens * r * channels * depth
    )
    assert found.flops == plain.flops - through_softmax + through_units
    assert found.basis_flops == logits * 3 * g
    assert cost(build(rank=4, implementation="gemm"), (3, 32, 32)) == found
    wavelets = build(rank=4, basis="wavelet")
    per_logit = operators(wavelets)[0].units.basis.flops_per_input
    assert cost(wavelets, (3, 32, 32)).basis_flops == logits * per_logit


def test_a_universal_operator_is_saved_once_and_learns_from_all_blocks():
    model = build(share="universal")
    names = [name for name in model.state_dict() if "coefficients" in name]
    assert names == ["karat_operator.units.coefficients"]
    assert {id(block.attn.operator) for block in model.blocks} == {id(model.karat_operator)}
    x, grads = torch.randn(2, 3, 32, 32), []
    parameter = model.karat_operator.weight
    for block in [*model.blocks, None]:
        apart = build(share="blockwise")
        for each in apart.blocks:
            each.attn.operator.load_state_dict(model.karat_operator.state_dict())
        state = {name: value for name, value in model.state_dict().items() if "karat_operator" not in name}
        apart.load_state_dict(state, strict=False)
        if block is not None:
            index = list(model.blocks).index(block)
            out = apart(x).square().sum()
            grads.append(torch.autograd.grad(out, apart.blocks[index].attn.operator.weight)[0])
    together = torch.autograd.grad(model(x).square().sum(), parameter)[0]
    torch.testing.assert_close(together, sum(grads), rtol=1e-4, atol=1e-5)


def test_some_blocks_some_heads():
    model = build(karat_layers=(0, -1), num_softmax_heads=2)
    assert [isinstance(block.attn, KArAttention) for block in model.blocks] == [True, False, True]
    assert [operator.num_heads for operator in operators(model)] == [1, 1]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("basis", ["wavelet", "rational", "bspline"])
def test_any_basis(basis):
    model = build(basis=basis, rank=2)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_full_rank_is_trainable():
    model = build(rank="full", basis_kwargs={"num_frequencies": 1})
    assert operators(model)[0].units.coefficients.shape == (3, 65, 65, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 5
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("share", ["blockwise", "universal"])
def test_another_image_size_by_interpolation(share):
    model = build(share=share, patch_size=4, rank=2).eval()
    with pytest.raises(AssertionError):  # timm's own word
        model(torch.randn(1, 3, 48, 32))
    model.set_input_size((48, 32))
    assert {operator.num_tokens for operator in operators(model)} == {1 + 12 * 8}
    assert model(torch.randn(2, 3, 48, 32)).shape == (2, 5)
    model.set_input_size((32, 32))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_native_models_for_small_images():
    for size, width in (("micro", 96), ("tiny", 192)):
        model = on_meta(f"karat_{size}_patch4_32")
        assert (model.embed_dim, operators(model)[0].num_tokens) == (width, 65)
        assert model.pretrained_cfg["input_size"] == (3, 32, 32)


def test_convit_keeps_its_blocks_with_positions():
    model = on_meta(CONVIT)
    kinds = [type(block.attn).__name__ for block in model.blocks]
    assert kinds == ["GPSA"] * 10 + ["KArAttention"] * 2
    assert {operator.num_tokens for operator in operators(model)} == {197}


def test_swin_has_it_in_all_windows():
    model = on_meta(SWIN)
    attentions = [m for m in model.modules() if isinstance(m, KArAtWindowAttention)]
    assert [attn.operator.num_heads for attn in attentions] == [3, 3, 6, 6, *[12] * 6, 24, 24]
    assert {attn.operator.num_tokens for attn in attentions} == {49}


def test_windows_of_swin_do_not_see_each_other():
    """What is far away, and near by the shift alone, has no influence; with the published mask it has."""
    x = torch.randn(1, 3, 32, 32)
    other = x.clone()
    other[..., 28:, 28:] += 1  # a corner, which the shift brings into the window of the first
    for mode, seen in (("zero", False), ("additive_paper", True)):
        torch.manual_seed(0)
        model = create_model(
            SWIN, img_size=32, window_size=4, depths=(2,), num_heads=(3,), mask_mode=mode
        ).eval()
        with torch.no_grad():
            change = (model.forward_features(other) - model.forward_features(x)).abs().amax((0, 3))
        assert (change[0, 0] > 1e-6).item() is seen
        assert change[7, 7] > 1e-6


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("karat_tiny_patch16_224", {"share": "both"}, "blockwise, universal"),
        ("karat_tiny_patch16_224", {"dynamic_img_size": True}, "fixed number of tokens"),
        ("karat_tiny_patch16_224", {"patch_drop_rate": 0.5}, "fixed number of tokens"),
        ("karat_tiny_patch16_224", {"karat_layers": (12,)}, r"there are 12 blocks, so none is \[12\]"),
        ("karat_tiny_patch16_224", {"karat_layers": ()}, "selects no block"),
        ("karat_tiny_patch16_224", {"num_softmax_heads": 3}, "below num_heads=3"),
        (SWIN, {"share": "universal"}, "stages of Swin differ"),
        (SWIN, {"num_softmax_heads": 1}, "all heads of a window"),
    ],
)
def test_options_are_checked(name, kwargs, words):
    with pytest.raises(ValueError, match=words):
        on_meta(name, **kwargs)


@pytest.mark.parametrize("init", ["scaled", "paper"])
@pytest.mark.parametrize("share", ["blockwise", "universal"])
def test_from_the_meta_device_to_start_values(init, share):
    model = on_meta("karat_tiny_patch16_224", init=init, share=share, **SMALL).to_empty(device="cpu")
    torch.manual_seed(0)
    model.init_weights()
    assert all(p.isfinite().all() for p in model.parameters())
    std = 1.0 if init == "paper" else (65 * 3) ** -0.5
    assert operators(model)[0].units.coefficients.std().item() == pytest.approx(std, rel=0.05)
    assert model(torch.randn(1, 3, 32, 32)).isfinite().all()
