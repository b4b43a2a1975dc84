"""Kolmogorov-Arnold attention: all implementations, options, bases, masks, shared operators, other sizes."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models import VisionTransformer
from timm.models.swin_transformer import WindowAttention, get_relative_position_index

from kanvision.layers import KArAtOperator, KArAttention, KArAtWindowAttention, karat_attn_layer
from kanvision.ops.karat import fourier_attention_reference

TOKENS, WIDTH, HEADS = 7, 6, 2
BASES = ("fourier", "wavelet", "rational", "bspline", "chebyshev")
ORDERS = ("w_phi", "phi_w", "phi_phi")
OPTIONS = [
    *({"basis": basis, "order": order} for basis, order in itertools.product(BASES, ORDERS)),
    *({"rank": None, "basis": basis} for basis in ("fourier", "wavelet")),
    {"rank": None, "w_bias": "head"},
    *(
        {"order": order, "project": project}
        for order, project in itertools.product(ORDERS, ("output", "hidden"))
    ),
    *({"w_bias": bias} for bias in ("layer", "head")),
    *({"base_act": act, "unit_scales": True} for act in ("zero", "identity", "silu", "gelu")),
    {"base_act": "gelu", "include_dc": True},
    {"order": "phi_phi", "base_act": "silu", "unit_scales": True, "w_bias": "layer", "include_dc": True},
    {"basis": "rbf", "include_dc": True, "base_act": "silu"},
]


def attention(implementation="auto", seed=0, num_heads=HEADS, **options):
    """An attention in double precision none of whose parameters is where it starts."""
    torch.manual_seed(seed)
    own = {key: options.pop(key) for key in ("num_softmax_heads", "mask_mode") if key in options}
    options = {"rank": 3, "implementation": implementation, **options}
    attn = KArAttention(WIDTH, num_heads, qkv_bias=True, num_tokens=TOKENS, options=options, **own).double()
    with torch.no_grad():
        for parameter in attn.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return attn


def tokens(seed=1):
    torch.manual_seed(seed)
    return torch.randn(2, TOKENS, WIDTH, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_implementations_are_one_function(options):
    x, results = tokens(), []
    for implementation in ("naive", "gemm", "recompute", "auto"):
        attn = attention(implementation, **options)
        wanted = [x, *(p for p in attn.parameters() if p.requires_grad)]
        out = attn(x)
        grads = torch.autograd.grad(out.square().sum(), wanted)
        assert all(g.abs().max() > 0 for g in grads)
        results.append((out, *grads))
        with torch.no_grad():
            torch.testing.assert_close(attn(x), out)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(two, one)


@pytest.mark.parametrize("options", [{}, {"order": "phi_w"}, {"basis": "wavelet"}, {"rank": None}], ids=str)
def test_gradients(options):
    operator = attention(**options).operator
    q, k, v = (
        torch.randn(1, HEADS, n, 2, dtype=torch.double, requires_grad=True) for n in (3, TOKENS, TOKENS)
    )
    assert torch.autograd.gradcheck(operator, (q, k, v))


def test_the_default_is_the_closed_form_over_the_parameters():
    attn = attention(w_bias="layer")
    operator, x = attn.operator, tokens()
    q, k, v = attn._heads(x)
    weight = torch.cat((operator.weight, operator.bias.expand(HEADS, -1).unsqueeze(-1)), -1)
    expected = fourier_attention_reference(
        q, k, v, operator.units.coefficients, weight, operator.series, 3**-0.5
    )
    torch.testing.assert_close(operator(q, k, v), expected)


@pytest.mark.parametrize("options", [{}, {"order": "phi_w"}, {"rank": None}, {"project": "output"}], ids=str)
def test_matrices_to_look_at_are_those_that_are_used(options):
    attn, x = attention(**options), tokens()
    before, after = attn.attention(x)
    q, k, v = attn._heads(x)
    torch.testing.assert_close(before, q @ k.mT * 3**-0.5)
    torch.testing.assert_close(attn.proj((after @ v).transpose(1, 2).flatten(2)), attn(x))


@pytest.mark.parametrize(
    ("options", "largest"),
    [({}, 3), ({"w_bias": "head"}, 4), ({"w_bias": "layer"}, 4), ({"rank": None}, TOKENS)],
)
def test_rank_of_the_attention(options, largest):
    _, after = attention(**options).attention(tokens())
    assert torch.linalg.matrix_rank(after).tolist() == [[largest] * HEADS] * 2


def test_projection_puts_rows_on_the_simplex():
    _, after = attention(project="output").attention(tokens())
    assert (after >= 0).all()
    torch.testing.assert_close(after.sum(-1), torch.ones(2, HEADS, TOKENS, dtype=torch.double))
    _, hidden = attention(project="hidden").attention(tokens())
    assert (hidden < 0).any()


def test_queries_may_be_exchanged_and_keys_not():
    operator = attention().operator
    q, k, v = torch.randn(3, 1, HEADS, TOKENS, 3, dtype=torch.double)
    out, order = operator(q, k, v), torch.randperm(TOKENS)
    torch.testing.assert_close(operator(q[:, :, order], k, v), out[:, :, order])
    assert not torch.allclose(operator(q, k[:, :, order], v[:, :, order]), out)
    torch.testing.assert_close(operator(q[:, :, :2], k, v), out[:, :, :2])


def test_another_number_of_tokens_is_answered_with_what_to_do():
    with pytest.raises(ValueError, match=r"num_tokens=7.*got 8 keys.*set_input_size"):
        attention()(torch.randn(1, 8, WIDTH, dtype=torch.double))


@pytest.mark.parametrize("basis", ["fourier", "wavelet", "bspline"])
@pytest.mark.parametrize("order", ORDERS)
def test_scaled_start_has_units_of_size_one_and_entries_of_that_of_a_matrix_w(basis, order):
    torch.manual_seed(0)
    operator = KArAtOperator(3, 197, 12, basis=basis, order=order)
    q, k = torch.randn(2, 2, 3, 197, 64)
    logits, after = operator.attention(q, k)
    hidden = operator._hidden(logits, None)
    if order != "phi_w":
        assert hidden.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.3)
    assert 0.04 < after.std() < 0.12
    paper = KArAtOperator(3, 197, 12, basis=basis, order=order, init="paper")
    assert paper.units.coefficients.std().item() == pytest.approx(1.0, rel=0.03)
    for weight in (operator.weight, paper.weight):
        if weight is not None:
            assert weight.abs().max() <= 0.04


def test_unit_scales_without_base_are_there_and_frozen():
    """The published counts need both; distributed training would wait for a gradient that never comes."""
    operator = KArAtOperator(2, 5, 3, unit_scales=True)
    assert operator.units.scale_base.requires_grad is False
    assert sum(p.numel() for p in operator.parameters()) == (2 * 3 + 3) * 5 * 3 * 2
    assert KArAtOperator(2, 5, 3, unit_scales=True, base_act="silu").units.scale_base.requires_grad


# masks --------------------------------------------------------------------------------------------------


def banned(attn, x, mask, change):
    """Largest change of each query's output when one key changes."""
    other = x.detach().clone()
    other[:, change] += 1.0
    return (attn(other, attn_mask=mask) - attn(x, attn_mask=mask)).abs().amax((0, 2))


@pytest.mark.parametrize("implementation", ["naive", "gemm", "auto"])
@pytest.mark.parametrize(
    "options", [{}, {"order": "phi_w"}, {"order": "phi_phi"}, {"project": "output"}], ids=str
)
def test_a_key_that_is_hidden_has_no_influence(options, implementation):
    attn, x = attention(implementation, num_heads=3, num_softmax_heads=1, **options), tokens()
    keep = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    keep[:3, 5] = False
    additive = torch.zeros(TOKENS, TOKENS, dtype=torch.double).masked_fill(~keep, float("-inf"))
    for mask in (keep, additive, keep.expand(2, TOKENS, TOKENS), keep.expand(2, 3, TOKENS, TOKENS)):
        influence = banned(attn, x, mask, change=5)
        assert (influence[:3] < 1e-12).all()
        assert (influence[3:] > 1e-6).all()


def test_the_published_mask_hides_nothing():
    keep = torch.ones(TOKENS, TOKENS, dtype=torch.bool)
    keep[:3, 5] = False
    attn = attention(mask_mode="additive_paper")
    assert (banned(attn, tokens(), keep, change=5)[:3] > 1e-6).all()


def test_causal_attention():
    attn, x = attention(), tokens()
    other = x.detach().clone()
    other[:, 4] += 1
    change = (attn(other, is_causal=True) - attn(x, is_causal=True)).abs().amax((0, 2))
    assert (change[:4] < 1e-12).all()
    assert (change[4:] > 1e-6).all()


def test_numbers_are_added_to_the_logits():
    attn, x = attention(), tokens()
    bias = torch.randn(TOKENS, TOKENS, dtype=torch.double)
    before, _ = attn.attention(x, attn_mask=bias)
    torch.testing.assert_close(before, attn.attention(x)[0] + bias)


# around the operator ------------------------------------------------------------------------------------


def test_softmax_heads_are_those_of_timm():
    attn = attention(num_heads=3, num_softmax_heads=2)
    usual = Attention(WIDTH, 3, qkv_bias=True).double()
    usual.load_state_dict({k: v for k, v in attn.state_dict().items() if not k.startswith("operator")})
    x = tokens()
    q, k, v = attn._heads(x)
    expected = F.scaled_dot_product_attention(q, k, v)
    expected[:, 2:] = attn.operator(q[:, 2:], k[:, 2:], v[:, 2:])
    torch.testing.assert_close(attn(x), usual.proj(expected.transpose(1, 2).flatten(2)))
    assert attn.operator.num_heads == 1
    assert torch.allclose(attn.attention(x)[1][:, :2].sum(-1), torch.ones((), dtype=torch.double))


def test_dropout_of_the_attention():
    torch.manual_seed(0)
    attn = KArAttention(WIDTH, HEADS, num_tokens=TOKENS, attn_drop=0.5).double()
    x = tokens()
    assert not torch.equal(attn(x), attn(x))
    attn.eval()
    torch.testing.assert_close(attn(x), attn(x), rtol=0, atol=0)


def test_as_attn_layer_of_timm():
    torch.manual_seed(0)
    layer = karat_attn_layer(10, rank=2, order="phi_w", mask_mode="additive_paper")
    sizes = {"img_size": 12, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    model = VisionTransformer(**sizes, num_classes=3, attn_layer=layer)
    operators = [m for m in model.modules() if isinstance(m, KArAtOperator)]
    assert [(o.num_tokens, o.rank, o.order) for o in operators] == [(10, 2, "phi_w")] * 2
    assert model(torch.randn(2, 3, 12, 12)).shape == (2, 3)


def test_taking_over_keeps_all_that_an_attention_has():
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm
    usual = Attention(12, 3, qkv_bias=True, qk_norm=True, scale_norm=True, gated=True, norm_layer=norm).eval()
    attn = KArAttention.from_attention(usual, TOKENS, options={"rank": 2}, num_softmax_heads=2)
    assert attn.qkv is usual.qkv
    assert attn.q_norm is usual.q_norm
    assert attn.gate is usual.gate
    assert not attn.training
    assert not any(p.is_meta for p in attn.parameters())
    # with nothing of the one head that is new, it is the old one
    x = torch.randn(2, TOKENS, 12)
    with torch.no_grad():
        attn.operator.weight.zero_()
        usual.norm = attn.norm = torch.nn.Identity()
        usual.proj.weight[:, 8:] = 0
        torch.testing.assert_close(attn(x), usual(x))
    with pytest.raises(ValueError, match="Linear has not all of them"):
        KArAttention.from_attention(torch.nn.Linear(3, 3), TOKENS)


def test_a_shared_operator_is_one_after_copies_too():
    operator = KArAtOperator(HEADS, TOKENS, 2)
    model = torch.nn.Module()
    model.shared = operator
    model.blocks = torch.nn.ModuleList(
        KArAttention(WIDTH, HEADS, num_tokens=TOKENS, operator=operator) for _ in range(2)
    )
    names = [name for name in model.state_dict() if "coefficients" in name]
    assert names == ["shared.units.coefficients"]
    twin = copy.deepcopy(model)
    assert twin.blocks[0].operator is twin.blocks[1].operator is twin.shared is not operator
    twin.double()
    assert twin.blocks[1](tokens()).dtype == torch.double
    with pytest.raises(ValueError, match="num_heads=2, the attention needs 3"):
        KArAttention(WIDTH, 3, num_tokens=TOKENS, operator=operator)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "phi"}, "w_phi, phi_w, phi_phi"),
        ({"init": "zeros"}, "scaled, paper"),
        ({"w_bias": "both"}, "none, layer, head"),
        ({"project": "l1"}, "none, output, hidden"),
        ({"implementation": "cuda"}, "auto, naive, gemm, recompute, triton"),
        ({"base_act": "relu"}, "zero, identity, silu, gelu"),
        ({"basis": "foo"}, "fourier"),
        ({"rank": 0}, "rank=0 must be at least 1"),
        ({"rank": None, "order": "phi_w"}, "which order='phi_w' needs"),
        ({"rank": None, "project": "hidden"}, "no hidden units to project"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        KArAtOperator(2, 5, **options)


@pytest.mark.parametrize(
    "options", [{"basis": "wavelet"}, {"order": "phi_w"}, {"project": "output"}], ids=str
)
def test_kernels_that_cannot_be_are_refused(options):
    with pytest.raises(
        ValueError, match=r"implementation='triton' is not possible.*use implementation='auto'"
    ):
        attention("triton", **options)(tokens())


# windows ------------------------------------------------------------------------------------------------


def window_attention(**options):
    torch.manual_seed(0)
    return KArAtWindowAttention(WindowAttention(WIDTH, HEADS, window_size=2), rank=3, **options).double()


def test_windows_have_position_bias_and_hide_what_is_masked():
    attn = window_attention()
    assert torch.equal(attn.relative_position_index, get_relative_position_index(2, 2))
    torch.nn.init.normal_(attn.relative_position_bias_table)
    x = torch.randn(4, 4, WIDTH, dtype=torch.double)  # two images of two windows
    mask = torch.zeros(2, 4, 4, dtype=torch.double)
    mask[1, :2, 3] = -100.0
    q, k, v = attn.qkv(x).reshape(4, 4, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    logits = q @ k.mT * 3**-0.5 + attn._get_rel_pos_bias()
    keep = (mask == 0)[[0, 1, 0, 1]].unsqueeze(1)
    cos_sin = torch.cat([f(m * logits).unsqueeze(-1) for f in (torch.cos, torch.sin) for m in (1, 2, 3)], -1)
    hidden = torch.einsum("bhijk,hpjk,bcij->bhip", cos_sin, attn.operator.units.coefficients, keep.double())
    matrix = torch.einsum("bhip,hjp->bhij", hidden, attn.operator.weight) * keep
    expected = attn.proj((matrix @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attn(x, mask), expected)
    assert attn.relative_position_bias_table.requires_grad


def test_the_published_mask_of_windows_lets_a_token_through():
    x, mask = torch.randn(1, 4, WIDTH, dtype=torch.double), torch.zeros(1, 4, 4, dtype=torch.double)
    mask[0, :2, 3] = -100.0
    other = x.clone()
    other[:, 3] += 1
    for mode, seen in (("zero", False), ("additive_paper", True)):
        attn = window_attention(mask_mode=mode)
        assert ((attn(other, mask) - attn(x, mask))[:, :2].abs().max() > 1e-6).item() is seen


# other sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"order": "phi_w"}, {"order": "phi_phi"}, {"rank": None}], ids=str)
@pytest.mark.parametrize("basis", ["fourier", "wavelet"])
def test_an_operator_for_more_tokens_does_the_same_where_all_patches_are_alike(options, basis):
    """Sums over patches that hold the same functions and see the same image keep their value."""
    torch.manual_seed(0)
    options = {"rank": 2, "basis": basis, "w_bias": "head", "unit_scales": True, **options}
    operator = KArAtOperator(2, 1 + 4, **options).double()
    q, k, v = torch.randn(3, 1, 2, 2, 3, dtype=torch.double)  # a token in front and one patch
    with torch.no_grad():
        for name, parameter in operator.named_parameters():
            if "basis." not in name:  # shifts and scales are alike from the start
                parameter.copy_(torch.randn(parameter.shape[:1] + (1,) * (parameter.ndim - 1)))
    before = operator(q, *(torch.cat((t[:, :, :1], t[:, :, 1:].expand(-1, -1, 4, -1)), 2) for t in (k, v)))
    operator.resize((2, 2), (3, 5), num_prefix_tokens=1)
    after = operator(q, *(torch.cat((t[:, :, :1], t[:, :, 1:].expand(-1, -1, 15, -1)), 2) for t in (k, v)))
    torch.testing.assert_close(after, before)


def test_the_same_size_changes_nothing_and_there_and_back_nearly_nothing():
    torch.manual_seed(0)
    operator = KArAtOperator(2, 1 + 16, 3, basis="wavelet")
    smooth = torch.linspace(-1, 1, 4)
    with torch.no_grad():
        operator.weight[:, 1:] = (smooth[:, None] + smooth.square()).flatten()[None, :, None]
    start = {name: value.clone() for name, value in operator.state_dict().items()}
    operator.resize((4, 4), (4, 4), 1)
    for name, value in operator.state_dict().items():
        torch.testing.assert_close(value, start[name])
    operator.resize((4, 4), (8, 8), 1)
    assert operator.weight.shape == (2, 65, 3)
    operator.resize((8, 8), (4, 4), 1)
    torch.testing.assert_close(operator.weight, start["weight"], rtol=0.15, atol=0.15)
    with pytest.raises(ValueError, match="makes 10 tokens, the operator has 17"):
        operator.resize((3, 3), (4, 4), 1)


def test_windows_of_another_size():
    attn = window_attention()
    attn.set_window_size((3, 3))
    assert attn.operator.num_tokens == 9
    assert attn(torch.randn(2, 9, WIDTH, dtype=torch.double)).shape == (2, 9, WIDTH)
