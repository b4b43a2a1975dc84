"""Planes and surfaces of losses that are known exactly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kanvision as kv
from kanvision.analysis.curvature.landscape import (
    Plane,
    at_weights,
    batch_statistics,
    get_weights,
    path_plane,
    random_plane,
    share_in_plane,
    surface,
)
from kanvision.spec.evaluation import DIRECTION_SCALINGS, DirectionScaling


class Bowl(nn.Module):
    """Half the sum of curvature * weight^2."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.matrix = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(4, dtype=torch.float64))
        self.curvature = torch.rand(4, 3, dtype=torch.float64)

    def forward(self) -> Tensor:
        return 0.5 * (self.curvature * self.matrix**2).sum() + 0.5 * self.bias.square().sum()


def snapshots_of(center: dict[str, Tensor], number: int = 6, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: tensor
            + (number - 1 - t) / number * torch.randn(tensor.shape, generator=generator).to(tensor)
            for name, tensor in center.items()
        }
        for t in range(number)
    ]


def flat(weights: dict[str, Tensor] | object, names: tuple[str, ...] = ("matrix", "bias")) -> Tensor:
    return torch.cat([weights[name].flatten() if name in weights else torch.zeros(4) for name in names])  # type: ignore[index,operator]


@pytest.mark.parametrize("scaling", DIRECTION_SCALINGS)
@pytest.mark.parametrize("vectors", [False, True])
def test_the_surface_of_a_quadratic_loss_is_its_parabola(scaling: DirectionScaling, vectors: bool) -> None:
    model = Bowl()
    before = get_weights(model)
    plane = random_plane(before, scaling, seed=3, vectors=vectors)
    xs, ys = [-1.0, 0.0, 0.5], [-2.0, 0.0, 1.0, 3.0]
    ticks: list[int] = []
    found = surface(lambda: float(model().detach()), model, plane, xs, ys, lambda: ticks.append(1))
    w, d, e = flat(before), flat(plane.first), flat(plane.second)
    h = torch.cat([model.curvature.flatten(), torch.ones(4)])
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            exact = (
                0.5 * (h * w * w).sum() + x * (h * w * d).sum() + y * (h * w * e).sum()
                + 0.5 * x * x * (h * d * d).sum() + 0.5 * y * y * (h * e * e).sum()
                + x * y * (h * d * e).sum()
            )  # fmt: skip
            assert found[row, column] == pytest.approx(float(exact), rel=1e-12)
    assert len(ticks) == 12
    assert all(torch.equal(before[name], value) for name, value in get_weights(model).items())
    assert ("bias" in plane.first) is vectors


@pytest.mark.parametrize("scaling", DIRECTION_SCALINGS)
def test_directions_are_as_long_as_the_weights(scaling: DirectionScaling) -> None:
    center = get_weights(Bowl())
    plane = random_plane(center, scaling, seed=0)
    axis = tuple(range(int(scaling == "filter"), 2))
    assert torch.allclose(plane.first["matrix"].norm(dim=axis), center["matrix"].norm(dim=axis))
    assert abs(float((plane.first["matrix"] * plane.second["matrix"]).sum())) < 1e-12
    again = random_plane(center, scaling, seed=0)
    assert torch.equal(plane.second["matrix"], again.second["matrix"])
    assert not torch.equal(plane.second["matrix"], random_plane(center, scaling, seed=1).second["matrix"])


@pytest.mark.parametrize("scaling", DIRECTION_SCALINGS)
def test_points_of_a_plane_are_found_again(scaling: DirectionScaling) -> None:
    center = get_weights(Bowl())
    plane = path_plane(center, snapshots_of(center), scaling, vectors=True)
    for x, y in ((0.0, 0.0), (0.3, -2.0), (-1.0, 0.7)):
        projection = plane.project(plane.point(x, y))
        assert (projection.x, projection.y, projection.rest) == pytest.approx((x, y, 0), abs=1e-7)
    off = plane.point(0.5, 0.5)
    normal = torch.randn(16, dtype=torch.float64)
    for axis in (flat(plane.first), flat(plane.second)):
        normal -= normal @ axis / (axis @ axis) * axis
    off = {"matrix": off["matrix"] + normal[:12].view(4, 3), "bias": off["bias"] + normal[12:]}
    projection = plane.project(off)
    assert (projection.x, projection.y, projection.rest) == pytest.approx((0.5, 0.5, float(normal.norm())))
    assert projection.length == pytest.approx(float((flat(off) - flat(center)).norm()))


def test_the_path_plane_is_the_nearest_one() -> None:
    center = get_weights(Bowl())
    snapshots = snapshots_of(center)
    moves = np.stack([(flat(s) - flat(center)).numpy() for s in snapshots])
    singular, directions = np.linalg.svd(moves)[1:]
    plane = path_plane(center, snapshots, "network", vectors=True)
    projections = [plane.project(snapshot) for snapshot in snapshots]
    assert share_in_plane(projections) == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())
    length = float(flat(center).norm())
    for axis, direction, coordinate in (("first", directions[0], "x"), ("second", directions[1], "y")):
        unit = flat(getattr(plane, axis)).numpy() / length
        assert abs(unit @ direction) == pytest.approx(1)
        expected = moves @ direction / length
        found = np.array([getattr(projection, coordinate) for projection in projections])
        assert np.allclose(found, -np.sign(expected[0]) * expected)
    assert projections[0].x < 0
    bent = path_plane(center, snapshots, "filter", vectors=True)
    assert share_in_plane([bent.project(s) for s in snapshots]) < share_in_plane(projections)


def test_a_path_within_a_plane_is_held_whole() -> None:
    center = get_weights(Bowl())
    true = random_plane(center, "network", seed=9)
    corners = [(-1.0, 0.3), (-0.5, -0.2), (-0.1, 0.1)]
    snapshots = [true.point(x, y) for x, y in corners]
    plane = path_plane(center, snapshots, "network")
    projections = [plane.project(snapshot) for snapshot in snapshots]
    assert share_in_plane(projections) == pytest.approx(1)
    for snapshot, projection in zip(snapshots, projections, strict=True):
        assert torch.allclose(plane.point(projection.x, projection.y)["matrix"], snapshot["matrix"])
        assert torch.equal(snapshot["bias"], center["bias"])


def test_a_line_is_no_plane() -> None:
    center = get_weights(Bowl())
    line = random_plane(center, "network", seed=9)
    for snapshots in (
        [line.point(x, 0.0) for x in (-1.0, -0.5, 0.0)],
        [line.point(1.0, 0.0)],
        [center, center],
    ):
        with pytest.raises(ValueError, match="snapshots in two directions"):
            path_plane(center, snapshots, "network")
    with pytest.raises(ValueError, match="scaling='row' is not known; legal values: network, tensor, filter"):
        random_plane(center, "row", seed=0)  # type: ignore[arg-type]
    assert math.isnan(share_in_plane([Plane(center, line.first, line.second).project(center)]))


def test_a_failing_loss_leaves_the_weights_as_they_were() -> None:
    model = Bowl()
    before = get_weights(model)
    with (
        pytest.raises(ZeroDivisionError),
        at_weights(model, random_plane(before, "filter", 0).point(1.0, 1.0)),
    ):
        1 / 0  # noqa: B018
    assert all(torch.equal(before[name], value) for name, value in get_weights(model).items())


def test_shared_operators_move_once() -> None:
    model = kv.create_model("karat_micro_patch4_32", img_size=8, depth=2, num_classes=3, share="universal")
    center = get_weights(model)
    assert sum(tensor.numel() for tensor in center.values()) == sum(p.numel() for p in model.parameters())
    plane = random_plane(center, "filter", 0)
    assert {"cls_token", "norm.weight", "head.bias"} & set(plane.first) == set()
    with at_weights(model, plane.point(1.0, 0.0)):
        moved = get_weights(model)
    assert all(not torch.equal(moved[name], center[name]) or not moved[name].any() for name in plane.first)


def test_batch_norms_judge_a_batch_by_itself() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)).eval()
    model(torch.randn(8, 3))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(6, 3)
    inner = model[0](images)
    expected = (inner - inner.mean(0)) / (inner.var(0, correction=0) + 1e-5).sqrt()
    with batch_statistics(model):
        assert torch.allclose(model(images), expected, atol=1e-6)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert not torch.allclose(model(images), expected, atol=1e-3)
