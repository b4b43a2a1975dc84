"""The group rational against its plain formula: values, derivatives, signs, range, layouts, tracers."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import kanvision.ops.rational as operator
from kanvision.expansion.build import get_obstacle
from kanvision.layers import RATIONAL_PRESETS
from kanvision.ops.rational import FORMS, rational, rational_reference
from kanvision.ops.rational_loops import are_loops_usable
from tests.covering import one_of_each

from .rational_oracle import coefficients, sums_of_magnitudes, value_and_grads


@pytest.mark.parametrize("preset", RATIONAL_PRESETS)
@pytest.mark.parametrize("magnitude", [1e-3, 3.0, 1e3, 1e6])
def test_matches_the_formula_in_double_precision(preset, magnitude):
    torch.manual_seed(0)
    a, b = coefficients(preset)
    x = torch.empty(5, 7, 8).uniform_(-magnitude, magnitude)
    grad = torch.randn_like(x)
    y, dx, da, db = value_and_grads(rational, x, a, b, grad)
    want = value_and_grads(rational_reference, *(t.double() for t in (x, a, b, grad)))
    for got, ref in ((y, want[0]), (dx, want[1])):
        assert (got - ref).abs().max() <= 3e-6 * ref.abs().max()
    for got, ref, scale in zip((da, db), want[2:], sums_of_magnitudes(x, grad, a, b), strict=True):
        assert ((got - ref).abs() <= 3e-6 * scale).all()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,)])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_derivatives_of_both_orders(shape, shared, form):
    torch.manual_seed(0)
    a, b = coefficients("gelu", shared=shared, dtype=torch.float64, noise=0.1)
    x = torch.randn(shape, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, a, b)]
    assert gradcheck(rational, (*inputs, -1, form))
    assert gradgradcheck(rational, (*inputs, -1, form), fast_mode=True)


def test_derivatives_of_third_order():
    """Of sum F(x) along x, against differences of the second."""
    a, b = (c.double() for c in coefficients("gelu"))
    x = torch.tensor([[0.3, -1.2, 0.8, 2.1]], dtype=torch.float64, requires_grad=True)

    def second(x):
        (first,) = torch.autograd.grad(rational(x, a, b).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]

    assert gradcheck(second, (x,))


@pytest.mark.parametrize("wanted", [(0,), (1, 2), (0, 2), (0, 1, 2)])
def test_second_derivatives_of_what_depends_on_each_other(wanted):
    """A coefficient made from x: paths through it are counted once."""
    torch.manual_seed(0)
    a, b = coefficients("gelu", shared=False, dtype=torch.float64, noise=0.1)
    leaves = [torch.randn(3, 4, dtype=torch.float64), a, b]
    inputs = [t.clone().requires_grad_(k in wanted) for k, t in enumerate(leaves)]

    def second(function):
        x, a, b = inputs
        y = function(x * a.mean(), a + x.mean(), b * x.amax(), 1, "kernel")
        found = [inputs[k] for k in wanted]
        first = torch.autograd.grad(y.sin().sum(), found, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), found)

    for got, want in zip(second(rational), second(rational_reference), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_registration_of_the_operator(form, dtype):
    """Schema, meta kernel, autograd and tracing, as torch's own checker sees them."""
    a, b = (c.requires_grad_() for c in coefficients(noise=0.1))
    x = torch.randn(2, 3, 4, dtype=dtype, requires_grad=True)
    torch.library.opcheck(torch.ops.kanvision.rational, (x, a, b, 2, form))
    inputs = [t.detach() for t in (torch.ones_like(x), x, a, b)]
    torch.library.opcheck(torch.ops.kanvision.rational_backward, (*inputs, 2, form, [True, True, True]))
    torch.library.opcheck(torch.ops.kanvision.rational_backward, (*inputs, 2, form, [False, True, False]))


def test_only_what_is_needed_is_returned():
    x, a, b = torch.randn(3, 4), *coefficients()
    for wanted in range(3):
        inputs = [t.clone().requires_grad_(k == wanted) for k, t in enumerate((x, a, b))]
        rational(*inputs).sum().backward()
        full = value_and_grads(rational, x, a, b, torch.ones_like(x))
        assert torch.equal(inputs[wanted].grad, full[1 + wanted])


@pytest.mark.parametrize("function", [rational, rational_reference])
def test_signs_at_zero_count_as_positive(function):
    a, b = coefficients("identity")
    x = torch.tensor([[-2.0, -1.0, 1.0, 2.0]])
    _, _, _, db = value_and_grads(function, x, a, b, torch.ones_like(x))
    # b = 0: db_j = -sum over the group of x |x|^j
    want = torch.tensor(
        [[sum(v * abs(v) ** j for v in pair) for j in range(1, 5)] for pair in ((2, 1), (-1, -2))]
    )
    assert torch.allclose(db, want.float())
    a = torch.tensor([[1.0, 0, 0, 0, 0, 0]])
    b = torch.tensor([[0.5, 0, 0, 0]] * 2)
    for zero in (0.0, -0.0):
        x = torch.full((1, 4), zero)
        _, dx, _, _ = value_and_grads(function, x, a, b, torch.ones_like(x))
        assert torch.allclose(dx, torch.full_like(x, -0.5))  # s(0) = +1 for either zero
    _, _, _, negative = value_and_grads(function, torch.ones(1, 4), a, -b, torch.ones(1, 4))
    _, _, _, positive = value_and_grads(function, torch.ones(1, 4), a, b, torch.ones(1, 4))
    assert torch.allclose(negative[:, 0], -positive[:, 0])


@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 6, 3, 5), 1), ((6, 5), 0), ((2, 5, 6), -1), ((1, 2, 3, 6, 2), -2)]
)
@pytest.mark.parametrize("shared", [True, False])
def test_channels_on_any_axis(shape, dim, shared):
    torch.manual_seed(0)
    a, b = coefficients(groups=3, shared=shared, noise=0.1)
    x, grad = torch.randn(shape), torch.randn(shape)
    last = value_and_grads(rational, x.movedim(dim, -1), a, b, grad.movedim(dim, -1))
    here = value_and_grads(rational, x, a, b, grad, dim)
    assert torch.allclose(here[0].movedim(dim, -1), last[0])
    assert torch.allclose(here[1].movedim(dim, -1), last[1])
    for got, want in zip(here[2:], last[2:], strict=True):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5)


def test_strides_do_not_matter():
    torch.manual_seed(0)
    a, b = coefficients()
    x, grad = torch.randn(8, 5, 3).mT[::2, :, :4], torch.randn(3, 1, 4).expand(3, 4, 4).transpose(0, 1)
    expanded = torch.randn(1, 1, 4).expand(4, 3, 4)
    for inputs in ((x, grad), (expanded, grad), (x, torch.ones(()).expand(4, 3, 4))):
        got = value_and_grads(rational, inputs[0], a, b, inputs[1])
        want = value_and_grads(rational, inputs[0].contiguous(), a, b, inputs[1].contiguous())
        assert all(torch.allclose(g, w, rtol=1e-5, atol=1e-6) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    torch.manual_seed(0)
    a, b = coefficients()
    x, grad = (10 * torch.randn(4, 8)).to(dtype), torch.randn(4, 8).to(dtype)
    y, dx, da, db = value_and_grads(rational, x, a, b, grad)
    assert y.dtype == dx.dtype == dtype
    assert da.dtype == db.dtype == torch.float32
    want = value_and_grads(rational, x.float(), a, b, grad.float())
    assert torch.equal(y, want[0].to(dtype))
    assert torch.equal(dx, want[1].to(dtype))
    assert torch.equal(da, want[2])
    assert torch.equal(db, want[3])


def test_half_coefficients_have_half_gradients():
    a, b = (c.bfloat16() for c in coefficients())
    _, _, da, db = value_and_grads(rational, torch.randn(4, 8).bfloat16(), a, b, torch.ones(4, 8).bfloat16())
    assert da.dtype == db.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_dtype(dtype):
    a, b = coefficients()
    x = torch.randn(4, 8, dtype=dtype)
    plain = rational(x, a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = rational(x, a, b)
    assert y.dtype == dtype
    assert torch.equal(y, plain)


def test_backward_keeps_x_alone():
    a, b = (c.requires_grad_() for c in coefficients())
    x = torch.randn(16, 8).bfloat16().requires_grad_()
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        rational(x, a, b)
    large = [t for t in saved if t.numel() > max(a.numel(), b.numel())]
    assert [t.data_ptr() for t in large] == [x.data_ptr()]
    assert sum(t.numel() for t in saved) == x.numel() + a.numel() + b.numel()


def test_empty_input():
    a, b = coefficients()
    y, dx, da, db = value_and_grads(rational, torch.empty(0, 3, 4), a, b, torch.empty(0, 3, 4))
    assert y.shape == dx.shape == (0, 3, 4)
    assert not da.any()
    assert not db.any()


@pytest.mark.parametrize(
    ("backend", "form"),
    one_of_each(
        itertools.product(["aot_eager_decomp_partition", "inductor"], FORMS), lambda case: "compiled"
    ),
)
def test_compiled_for_any_size_in_one_graph(backend, form):
    """No more is kept for its backward pass than x and the coefficients."""
    torch.manual_seed(0)
    a, b = coefficients(noise=0.1)
    compiled = torch.compile(rational, backend=backend, fullgraph=True, dynamic=True)
    for rows in (3, 5):
        x, grad = torch.randn(rows, 7, 8), torch.randn(rows, 7, 8)
        got, want = (value_and_grads(f, x, a, b, grad, form=form) for f in (compiled, rational))
        assert all(torch.allclose(g, w, rtol=1e-4, atol=1e-5) for g, w in zip(got, want, strict=True))
    kept = []
    leaves = [t.clone().requires_grad_() for t in (x, a, b)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        compiled(*leaves, -1, form)
    assert sum(t.numel() for t in kept) == x.numel() + a.numel() + b.numel()


def test_vmap():
    a, b = coefficients()
    x = torch.randn(3, 5, 4)
    torch.testing.assert_close(torch.vmap(lambda row: rational(row, a, b))(x), rational(x, a, b))
    own = torch.stack([a, 2 * a, 3 * a])
    got = torch.vmap(lambda row, c: rational(row, c, b, 0), in_dims=(2, 0))(x.permute(2, 1, 0), own)
    want = torch.stack([rational(x[k], own[k], b).mT for k in range(3)])
    torch.testing.assert_close(got, want)


def test_exports_with_any_batch_size():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (torch.nn.Parameter(c) for c in coefficients())

        def forward(self, x):
            return rational(x, self.a, self.b)

    net = Net()
    program = torch.export.export(net, (torch.randn(3, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    for x in (torch.randn(5, 4), torch.full((9, 4), 1e30)):
        assert torch.allclose(program.module()(x), net(x), rtol=1e-5)


def test_meta_tensors_have_shapes():
    a, b = (c.to("meta").requires_grad_() for c in coefficients())
    x = torch.empty(3, 4, dtype=torch.bfloat16, device="meta", requires_grad=True)
    y = rational(x, a, b)
    y.sum().backward()
    assert y.is_meta
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert x.grad.shape == x.shape
    assert a.grad.shape == a.shape


@pytest.mark.parametrize(
    ("x", "a", "b", "dim", "message"),
    [
        (torch.ones(2, 5), torch.ones(1, 6), torch.ones(2, 4), -1, "cannot be split into 2 equal groups"),
        (torch.ones(2, 4), torch.ones(2, 6), torch.ones(4, 4), -1, "numerator has 2 rows; legal: 1 or 4"),
        (torch.ones(2, 4), torch.ones(6), torch.ones(4, 4), -1, "numerator must have shape"),
        (torch.ones(2, 4), torch.ones(1, 6), torch.ones(4, 0), -1, "denominator must have shape"),
        (torch.ones(2, 4), torch.ones(1, 6), torch.ones(4, 4), 2, "channel_dim=2 is not an axis"),
        (torch.ones(2, 4).long(), torch.ones(1, 6), torch.ones(4, 4), -1, "floating point"),
    ],
)
@pytest.mark.parametrize("function", [rational, rational_reference])
def test_what_cannot_be_is_refused(function, x, a, b, dim, message):
    with pytest.raises(ValueError, match=message):
        function(x, a, b, dim)


@pytest.mark.parametrize("function", [rational, rational_reference])
def test_an_unknown_form_is_refused(function):
    with pytest.raises(ValueError, match="form='pade' is not known; legal values: kernel, paper"):
        function(torch.ones(2, 4), *coefficients(), form="pade")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [True, False])
def test_loops_and_closed_forms_agree(form, dtype, shared, monkeypatch):
    """Parameters of another group, a sum that misses rows, a slope of the wrong sign at 0."""
    torch.manual_seed(0)
    a, b = torch.randn(1 if shared else 4, 6), torch.randn(4, 4)
    b[0] = 0.0  # the identity's denominator, at a kink
    x, grad = torch.randn(3, 5, 24).to(dtype), torch.randn(3, 5, 24).to(dtype)
    x[0, 0, 0] = 0.0
    loops = value_and_grads(rational, x, a, b, grad, form=form)
    monkeypatch.setattr(operator, "are_loops_usable", lambda *arguments: False)
    closed = value_and_grads(rational, x, a, b, grad, form=form)
    rounding = 1e-5 if dtype == torch.float32 else 1e-2
    for got, want in zip(loops, closed, strict=True):
        torch.testing.assert_close(got, want, rtol=rounding, atol=rounding * want.abs().max().item())


def test_loops_leave_extreme_inputs_to_closed_forms():
    """Powers of huge inputs overflow in a loop, and NaN must stay in its place."""
    a, b = torch.randn(4, 6), torch.randn(4, 4)
    x = torch.randn(2, 8)
    assert are_loops_usable(x, a, b, 1) == (not get_obstacle())
    for value in (1e4, -1e4, torch.inf, torch.nan):
        x[1, 3] = value
        assert not are_loops_usable(x, a, b, 1)
        assert not are_loops_usable(torch.randn(2, 8), a.index_fill(1, torch.tensor(0), 10 * value), b, 1)
