"""Trainable parameters as measured on the published code, arXiv 2407.01092, on the meta device.

Where the published number contains parameters that no output depends on, ours is smaller by just these.
"""

from typing import Any, NamedTuple

import pytest
import torch

import kanvision as kv


class Row(NamedTuple):
    """One published number."""

    name: str
    kwargs: dict[str, Any]
    count: int | str
    """Exact, or rounded as it was published ("56.55M")."""
    dead: int = 0
    """Parameters in it that do nothing."""
    why: str = ""


BASIS = {layer: options["basis"] for layer, options in kv.layers.PRESETS.items()}


def layer(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"layer": name, "basis": BASIS.get(name, "gram"), **kwargs}


C10 = {"num_classes": 10}
C100 = {"num_classes": 100}
SIMPLE = [
    Row("convkan_4", layer("conv", groups=4, **C10), 101_642),
    Row("convkan_4", layer("kan", **C10), 3_494_958),
    Row("convkan_4", layer("fastkan", **C10), 3_494_448),
    Row("convkan_4", layer("kaln", **C10), 1_943_210),
    Row("convkan_4", layer("kacn", groups=4, **C10), 394_058),
    Row("convkan_4", layer("kacn", groups=4, basis_kwargs={"degree": 6}, **C10), 686_954),
    Row("convkan_4", layer("kacn", basis_kwargs={"degree": 5}, **C10), "2.33M"),
    Row("convkan_4", layer("kacn", groups=4, norm="instance", norm_affine=False, in_chans=1, **C10), 390_794),
    Row("convkan_4", layer("kagn", groups=4, **C10), 491_706),
    Row("convkan_4", layer("kagn", **C10), 1_943_226),
    Row("convkan_4", layer("wavkan", **C10), 952_650),
    Row("convkan_8", layer("conv", groups=4, **C10), 1_141_002),
    Row("convkan_8", layer("kan", **C10), 40_696_610),
    Row("convkan_8", layer("fastkan", **C10), 40_695_584),
    Row("convkan_8", layer("kaln", **C10), 22_613_082),
    Row("convkan_8", layer("kacn", **C10), 18_092_202),
    Row("convkan_8", layer("kacn", basis_kwargs={"degree": 5}, **C10), "27.1M"),
    Row("convkan_8", layer("kagn", **C10), 22_613_114),
    Row("convkan_8", layer("wavkan", **C10), 10_732_202),
    Row("convkan_8", layer("kagn", **C100), 22_659_284),
    Row("convkan_8", layer("kagn", width_scale=2, **C100), 90_522_916),
    Row("convkan_8", layer("kagn", width_scale=2, basis_kwargs={"degree": 5}, **C100), "126.7M"),
    Row("convkan_8", layer("kagn", width_scale=2, basis_kwargs={"degree": 7}, **C100), "162.9M"),
    Row("convkan_8_tuned", layer("kagn", width_scale=6, **C100), 203_591_028),
    # published as width x1 and x2, for this table begins at half the width of the others
    Row("convkan_16", layer("kagn", width_scale=2, **C100), "53M"),
    Row("convkan_16", layer("kagn", width_scale=4, **C100), "212M"),
    Row("convkan_16", layer("kagn", width_scale=6, **C100), "478M"),
]

ROWS = [*SIMPLE]


def count_of(row: Row) -> int:
    with torch.device("meta"):
        model = kv.create_model(row.name, **row.kwargs)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.kwargs.get('layer', '')}-{row.count}")
def test_parameter_count_is_the_published_one(row: Row):
    count = count_of(row)
    if isinstance(row.count, str):
        digits = len(row.count.rstrip("M").partition(".")[2])
        assert f"{count / 1e6:.{digits}f}M" == row.count
    else:
        assert count == row.count - row.dead
    assert bool(row.dead) == bool(row.why)
