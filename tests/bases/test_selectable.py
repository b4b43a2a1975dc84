"""A pool of bases: equal sizes, gates in three phases, and what is left of a chosen member."""

import copy
import math

import numpy as np
import pytest
import torch

from kanvision.bases import SelectableBasis, create_basis

POOL = ("bspline", "rbf", "wavelet", "chebyshev")


def make(logits=(0.3, -0.2, 1.1, 0.4), **kwargs) -> SelectableBasis:
    basis = create_basis("selectable", **kwargs)
    assert isinstance(basis, SelectableBasis)
    with torch.no_grad():
        basis.logits.copy_(torch.tensor(logits[: len(basis.logits)]))
    return basis


def parts(basis: SelectableBasis, values: torch.Tensor) -> dict[str, torch.Tensor]:
    sizes = [member.num_basis for member in basis.members.values()]
    return dict(zip(basis.members, values.split(sizes, -1), strict=True))


def test_all_members_start_with_the_same_power():
    basis = make()
    assert list(basis.members) == list(POOL)
    assert basis.num_basis == 8 + 8 + 1 + 4
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    powers = {name: v.detach().square().sum(-1).mean().item() for name, v in parts(basis, basis(x)).items()}
    # Gates of 1/4; without the scales these numbers lie between .018 and .14.
    assert powers == pytest.approx(dict.fromkeys(POOL, 1 / 16), rel=0.02)
    for name, values in parts(basis, basis(x[:50])).items():
        raw = basis.members[name](x[:50])
        torch.testing.assert_close(values / values.norm(), raw / raw.norm(), atol=1e-6, rtol=1e-5)


def test_members_get_the_channels_and_their_arguments():
    basis = make(pool=["wavelet", "bspline"], pool_kwargs={"bspline": {"grid_size": 3}}, num_channels=5)
    assert basis.members["wavelet"].scale.shape == (5, 1)
    assert basis.num_basis == 1 + 3 + 3
    with pytest.raises(ValueError, match="num_channels=5"):
        basis(torch.zeros(2, 4))


@pytest.mark.parametrize("temperature", [1.0, 0.1, 4.0])
def test_gates_of_each_phase(temperature):
    basis = make()
    assert basis.phase == "train"
    assert basis.gates().tolist() == [0.25] * 4
    (slope,) = torch.autograd.grad(basis(torch.randn(7, 2)).square().sum(), basis.logits)
    assert slope.tolist() == [0.0] * 4  # a gradient, and nothing in it
    basis.set_phase("select", temperature)
    assert basis.phase == "select"
    exponentials = np.exp(np.array([0.3, -0.2, 1.1, 0.4]) / temperature)
    name, gates = basis.selection()
    assert name == "wavelet"
    np.testing.assert_allclose(list(gates.values()), exponentials / exponentials.sum(), rtol=1e-5)
    basis.set_phase("pruned")
    assert basis.phase == "pruned"
    assert basis.selection() == ("wavelet", {"bspline": 0.0, "rbf": 0.0, "wavelet": 1.0, "chebyshev": 0.0})
    basis(torch.randn(7, 2)).sum().backward()
    assert basis.logits.grad is not None
    basis.set_phase("train")
    assert basis.gates().tolist() == [0.25] * 4


def test_the_first_of_equals_is_chosen():
    basis = make(logits=(0.0, 1.0, 1.0, 0.0))
    basis.set_phase("pruned")
    assert basis.gates().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert basis.selection()[0] == "rbf"


@pytest.mark.parametrize("phase", ["select", "pruned"])
def test_the_phase_is_in_the_state_dict(phase):
    basis, other = make(), make(logits=(0.0, 0.0, 0.0, 9.0))
    basis.set_phase(phase, 0.5)
    other.load_state_dict(copy.deepcopy(basis.state_dict()))
    assert other.phase == phase
    assert torch.equal(other.gates(), basis.gates())
    other.reset_parameters()
    assert other.phase == "train"
    assert not other.logits.any()


def test_gates_have_exact_derivatives():
    basis = make(pool=["rbf", "wavelet", "gram"], num_channels=2).double()
    basis.set_phase("select", 0.7)
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def function(x, *_):
        return basis(x)

    tensors = (x, *basis.parameters())
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)


def test_entropy():
    basis = make().double()
    assert basis.entropy().item() == pytest.approx(1)
    basis.set_phase("select", 0.5)
    gates = basis.gates().detach().numpy()
    assert basis.entropy().item() == pytest.approx(-(gates * np.log(gates)).sum() / math.log(4))
    assert torch.autograd.gradcheck(lambda _: basis.entropy(), (basis.logits,))
    basis.set_phase("pruned")
    assert basis.entropy().item() == 0
    assert make(pool=["rbf"]).entropy().item() == 0


@pytest.mark.parametrize("phase", ["train", "select", "pruned"])
def test_the_map_to_a_member_keeps_its_share(phase):
    basis = make().double()
    basis.set_phase(phase, 0.6)
    x = torch.randn(11, 1, dtype=torch.float64)
    for name, values in parts(basis, basis(x)).items():
        weights = torch.randn(basis.num_basis, dtype=torch.float64)
        kept = parts(basis, weights)[name]
        got = basis.members[name](x) @ (basis.get_member_map(name) @ weights)
        torch.testing.assert_close(got, values @ kept)
    with pytest.raises(ValueError, match=r"member='gram' is not in the pool; legal names: bspline, rbf"):
        basis.get_member_map("gram")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"pool": []}, "pool"),
        ({"pool": ["rbf", "rbf"]}, "only once"),
        ({"pool": ["rbf", "splines"]}, "basis='splines' is not known"),
        ({"pool": ["rbf", "selectable"]}, "basis='selectable' is not known"),
        ({"pool": ["rbf"], "pool_kwargs": {"gram": {}}}, "pool_kwargs: gram"),
        ({"pool": ["rbf"], "pool_kwargs": {"rbf": {"degree": 3}}}, "no argument degree"),
        ({"squash": "clamp"}, "needs a domain"),
    ],
)
def test_illegal_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        create_basis("selectable", **kwargs)


def test_illegal_phases():
    with pytest.raises(ValueError, match="phase='prune'"):
        make().set_phase("prune")
    with pytest.raises(ValueError, match=r"temperature=0\.0"):
        make().set_phase("select", 0.0)
