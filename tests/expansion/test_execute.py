"""Generated loops against the plain formula in float64."""

import pytest
import torch

from kanvision.bases import BASES, create_basis
from kanvision.expansion import elementary, execute
from kanvision.expansion.define import compose
from kanvision.expansion.execute import Arrangement, compute_gradients, compute_values

from .programs import COMPOSED, EVERYTHING, INPUTS

pytestmark = pytest.mark.skipif(bool(execute.get_obstacle()), reason=execute.get_obstacle())

ORDERS = {
    "maps": Arrangement(6, 35, 0, 3, False),  # (2, 3, 35)
    "rows": Arrangement(70, 3, 0, 3, True),  # (70, 3)
    "long": Arrangement(3, 40_000, 0, 3, False),  # several blocks and pieces
}
ACTIVATIONS = {
    **{name: getattr(elementary, name) for name in ("SILU", "GELU", "TANH_GELU", "QUICK_GELU", "RELU")},
    "SIGMOID": elementary.SIGMOID,
    "tanh_onto": elementary.tanh_onto(-3.0, 2.0),
    "sigmoid_onto": elementary.sigmoid_onto(-3.0, 2.0),
    "leaky_relu": elementary.leaky_relu(0.1),
}


def basis_cases():
    for name in BASES:
        for channels in (None, 3):
            options = {"per_channel": True} if name == "sine" and channels else {}
            torch.manual_seed(0)
            basis = create_basis(name, num_channels=channels, **options)
            defined = basis.define()
            if defined is not None and (
                channels is None or any(t.ndim == 2 and len(t) == 3 for t in defined[1])
            ):
                definition, inputs = defined
                squash, ends = basis.define_squash()
                definition = compose(definition, squash, elementary.SILU)
                yield pytest.param(
                    definition, [t.detach() for t in (*inputs, *ends)], id=f"{name}-{channels}"
                )


CASES = [
    *basis_cases(),
    *(pytest.param(definition, [], id=name) for name, definition in ACTIVATIONS.items()),
    pytest.param(elementary.CLAMP, [torch.tensor([-1.0, 0.5])], id="CLAMP"),
    pytest.param(EVERYTHING, [torch.tensor(group) for group in INPUTS[EVERYTHING]], id="everything"),
    pytest.param(COMPOSED, [torch.tensor(group) for group in INPUTS[COMPOSED]], id="composed"),
    pytest.param(EVERYTHING, [torch.rand(3, 2) + 0.5, torch.randn(1)], id="everything-own"),
]


def run(definition, inputs, order, x, dtype, seed=1):
    """Values, and gradients of everything for random gradients of the values."""
    order = order._replace(functions=len(execute.trace_values(definition).results))
    x = x.to(dtype)
    inputs = [t.to(dtype) for t in inputs]
    values = x.new_empty(order.rows, order.functions, order.length)
    compute_values(definition, x, inputs, order, values)
    grads = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    to_x = torch.empty_like(x)
    wanted = (True,) * (1 + len(inputs))
    return [values, to_x, *compute_gradients(definition, x, inputs, order, grads, wanted, to_x)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("definition", "inputs"), CASES)
def test_loops(definition, inputs, order):
    """A wrong expression, index, place of an input or sum; and code that does not compile at all."""
    if order == "long" and len(inputs) == 0:
        pytest.skip("nothing to sum")
    assert execute.find_failure(definition) == ""
    size = ORDERS[order].rows * ORDERS[order].length
    # off the kinks, which rounding would pass
    x = 1.5 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    found = run(definition, inputs, ORDERS[order], x, torch.float32)
    expected = run(definition, inputs, ORDERS[order], x, torch.float64)
    for got, want in zip(found, expected, strict=True):
        scale = want.abs().max().item() + (1 if want.numel() >= size else size**0.5)
        torch.testing.assert_close(got.double() / scale, want / scale, rtol=0, atol=3e-6)


@pytest.mark.parametrize(("definition", "inputs"), CASES)
def test_nan_stays_and_huge_inputs_are_exact(definition, inputs):
    """-ffast-math, or a comparison the wrong way round, loses NaN; reduced angles lose digits."""
    x = torch.tensor([float("nan"), 9e3, -1e5, 3e7, -1e20, float("inf"), -float("inf"), 0.0, 0.4])
    order = Arrangement(3, 3, 0, 3, False)
    found = run(definition, inputs, order, x, torch.float32)[:2]
    expected = run(definition, inputs, order, x, torch.float64)[:2]
    assert torch.equal(found[0].isnan(), expected[0].float().isnan())
    for got, want in zip(found, expected, strict=True):
        assert not (want.float().isnan() & ~got.isnan()).any()
        got = (
            torch.where(x.isnan(), want.float(), got) if got.shape == x.shape else got
        )  # torch's clamp drops it
        torch.testing.assert_close(got.nan_to_num(0), want.float().nan_to_num(0), rtol=1e-4, atol=1e-6)


def test_sums_do_not_depend_on_threads():
    """Partial sums for each thread would differ in their last digits from machine to machine."""
    inputs = [torch.tensor(group) for group in INPUTS[EVERYTHING]]
    x = torch.randn(3 * 40_000)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(run(EVERYTHING, inputs, ORDERS["long"], x, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
