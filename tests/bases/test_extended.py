"""Polynomial bases with higher degrees added: what is there stays as it is."""

import pytest
import torch

from kanvision.bases import BASES, create_basis
from kanvision.bases.orthogonal import PolynomialBasis

FAMILIES = [name for name, cls in BASES.items() if issubclass(cls, PolynomialBasis)]
CASES = [(name, {}) for name in FAMILIES] + [
    ("gram", {"parity": True}),
    ("gram", {"num_points": 9}),
    ("jacobi", {"alpha": 0.5, "beta": 2.0, "normalize": False}),
    ("hermite", {"normalize": False}),
]


@pytest.mark.parametrize(("name", "kwargs"), CASES)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_keeps_its_functions_and_goes_on_in_the_family(name, kwargs, degree, extra):
    torch.manual_seed(0)
    kwargs = {**kwargs, "squash": "clamp"}
    basis = create_basis(name, degree=degree, **kwargs)
    longer = basis.extended(extra)
    x = torch.randn(3, 5)
    values = longer(x)
    assert values.shape[-1] == longer.num_basis == degree + extra + 1
    assert torch.equal(values[..., : degree + 1], basis(x))
    fresh = create_basis(name, degree=degree + extra, **kwargs)
    assert {key: value.shape for key, value in longer.state_dict().items()} == {
        key: value.shape for key, value in fresh.state_dict().items()
    }
    if name == "gram" and fresh.beta is not None:
        fresh.beta = longer.beta
    torch.testing.assert_close(values, fresh(x))
    assert longer.kan_parameters == fresh.kan_parameters
    assert basis.num_basis == degree + 1  # the basis itself is untouched


def test_each_beta_keeps_its_step():
    basis = create_basis("gram", degree=3, parity=True)
    with torch.no_grad():
        basis.beta.copy_(torch.tensor([9.0, 1.0, 2.0, 8.0]))
    assert basis.extended(2).beta.tolist() == [9.0, 1.0, 2.0, 0.0, 0.0, 8.0]
    basis = create_basis("gram", degree=3)
    with torch.no_grad():
        basis.beta.copy_(torch.tensor([1.0, 2.0]))
    assert basis.extended(2).beta.tolist() == [1.0, 2.0, 0.0, 0.0]
    assert basis.extended(2).factors().tolist() == [1.0, 2.0, 0.0, 0.0]


def test_works_on_meta():
    longer = create_basis("gram", degree=3).to("meta").extended(1)
    assert longer.beta.device.type == longer.recurrence.device.type == "meta"
    longer.to_empty(device="cpu").reset_parameters()
    assert longer(torch.randn(4, 2)).isfinite().all()


def test_messages():
    with pytest.raises(ValueError, match="extra=-1 must be at least 0"):
        create_basis("legendre").extended(-1)
    with pytest.raises(ValueError, match=r"num_points=5 must be above the degree 3 \+ 2 extra ones"):
        create_basis("gram", num_points=5).extended(2)
