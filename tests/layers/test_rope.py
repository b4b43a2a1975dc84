"""Rotary positions: they are rotations, products depend on differences of cells only, on any grid."""

import math

import pytest
import torch

from kanvision.layers import KANSelfAttention2d, get_preset
from kanvision.layers.rope import RotaryPositions

SPACES = {1: (7,), 2: (5, 3), 3: (2, 4, 3)}


def rope(*args):
    torch.manual_seed(0)
    return RotaryPositions(*args).double()


@pytest.mark.parametrize("kind", ["axial", "mixed"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_products_depend_on_differences_of_cells(kind, ndim):
    layer = rope(12, 2, ndim, kind)
    space = SPACES[ndim]
    count = math.prod(space)
    # The same query and key at all cells, the first one included.
    q = torch.randn(1, 2, 1, 12, dtype=torch.float64).expand(-1, -1, count, -1)
    k = torch.randn(1, 2, 1, 12, dtype=torch.float64).expand(-1, -1, count, -1)
    products = layer(q, space) @ layer(k, space).transpose(2, 3)  # (1, 2, N, N)
    cells = torch.cartesian_prod(*(torch.arange(size) for size in space)).reshape(count, ndim)
    by_difference = {}
    for row in range(count):
        for column in range(count):
            difference = tuple((cells[row] - cells[column]).tolist())
            seen = by_difference.setdefault(difference, products[0, :, row, column])
            torch.testing.assert_close(products[0, :, row, column], seen)
    values = torch.stack(list(by_difference.values()))
    assert torch.unique(values[:, 0].round(decimals=6)).numel() > len(by_difference) // 2


def test_first_cell_stays_and_lengths_stay():
    layer = rope(8, 3, 2, "mixed")
    x = torch.randn(2, 3, 15, 8, dtype=torch.float64)
    y = layer(x, (5, 3))
    torch.testing.assert_close(y[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(y[:, :, 1:], x[:, :, 1:])


def test_axial_frequencies():
    frequency = rope(8, 1, 2, "axial").frequency[:, 0]
    expected = torch.tensor([[1.0, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(frequency, expected)
    assert not list(rope(8, 1, 2, "axial").parameters())


def test_mixed_frequencies_have_the_magnitudes_in_orthogonal_directions():
    frequency = rope(12, 4, 3, "mixed").frequency  # two magnitudes for each of three directions
    torch.testing.assert_close(
        frequency.norm(dim=0), torch.tensor([1.0, 10**-0.5] * 3, dtype=torch.float64).expand(4, 6)
    )
    axes = frequency[:, :, ::2].permute(1, 2, 0)
    torch.testing.assert_close(axes @ axes.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(4, 3, 3))


def test_attention_tells_places_apart():
    """Without positions a permutation of the pixels permutes the output; with them it does not."""
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))

    def permuted(maps):
        return maps.flatten(2)[:, :, order].reshape(maps.shape)

    for kind, same in ((None, True), ("axial", False), ("mixed", False)):
        torch.manual_seed(0)
        layer = KANSelfAttention2d(
            8, kernel_size=1, rope=kind, **get_preset("kagn", norm="batch"), dtype=torch.float64
        )
        with torch.no_grad():
            layer.gamma.fill_(1.0)
        layer.eval()
        assert torch.allclose(layer(permuted(x)), permuted(layer(x))) == same


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"rope": "2d"}, "rope='2d'.*None, axial, mixed"), ({"rope": "axial", "channels": 6}, "multiple of 4")],
)
def test_messages(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KANSelfAttention2d(**{"channels": 8, **kwargs})
