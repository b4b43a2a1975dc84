"""The way down of U-shaped networks."""

import pytest
import torch
from torch import nn

from kanvision.models.unet_blocks import refuse_drop_path, run_stages


class Plus(nn.Module):
    """Adds a number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.number


def test_each_stage_takes_what_the_one_before_has_made() -> None:
    maps = run_stages(torch.zeros(1, 1, 4, 4), nn.ModuleList([Plus(1), Plus(2), Plus(4)]))
    assert [float(found.mean()) for found in maps] == [1, 3, 7]
    assert all(found.shape == (1, 1, 4, 4) for found in maps)


def test_pooling_stands_between_stages_only() -> None:
    maps = run_stages(torch.zeros(1, 1, 4, 4), nn.ModuleList([Plus(1), Plus(2)]), nn.MaxPool2d(2))
    assert [found.shape[-1] for found in maps] == [4, 2]


def test_stochastic_depth_is_refused_by_the_name_of_the_network() -> None:
    refuse_drop_path(Plus(1), 0.0)
    with pytest.raises(ValueError, match=r"drop_path_rate=0\.1: Plus has no residual branches to drop"):
        refuse_drop_path(Plus(1), 0.1)
