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
    return {"preset": name, "basis": BASIS.get(name, "gram"), **kwargs}


GATE = "each mixture has a second gate and noise matrix, 2 x inner channels x experts, that nothing reads"

C10 = {"num_classes": 10}
C100 = {"num_classes": 100}
SIMPLE = [
    Row("convkan_4", {"plain": True, "groups": 4, **C10}, 101_642),
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
    Row("convkan_8", {"plain": True, "groups": 4, **C10}, 1_141_002),
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
    Row("convkan_12", layer("kagn", **C100), "61.00M"),
    Row("convkan_12", layer("kagn", basis_kwargs={"degree": 7}, width_scale=2, **C100), "438.90M"),
    Row("convkan_12_tuned", layer("kagn", width_scale=6, **C100), "389.39M"),
    Row("convkan_16_tuned", layer("kagn", width_scale=6, **C100), "478M"),
    Row("convkan_16", layer("kagn", width_scale=2, **C100), "53M"),
    Row("convkan_16", layer("kagn", width_scale=4, **C100), "212M"),
    Row("convkan_16", layer("kagn", width_scale=6, **C100), "478M"),
    Row("convkan_8", layer("kagn", form="moe_bottleneck", **C100), 17_127_085, 7_216, GATE),
]

# published defaults: instance norm without scale and shift; FastKAN's grid differs from that of its layer
BARE = {"norm": "instance", "norm_affine": False}
SMALL_GRID = {"basis_kwargs": {"num_centers": 5, "grid_range": (-1, 1)}}
WIDE = {"pool_size": 7, **BARE}
IMAGENET = {"width_scale": 2, "basis_kwargs": {"degree": 5}}
V4 = {"version": "v4", "form": "bottleneck", **IMAGENET}
C200 = {"num_classes": 200}
VGG = [
    Row("vgg_kan_11", layer("kan", **WIDE), 11_460_896),
    Row("vgg_kan_11", layer("fastkan", **WIDE, **SMALL_GRID), 9_731_592),
    Row("vgg_kan_11", layer("kaln", **WIDE), 9_155_160),
    Row("vgg_kan_11", layer("kacn", **WIDE), 8_578_728),
    Row("vgg_kan_11", layer("kagn", **WIDE), 9_155_192),
    Row("vgg_kan_11", layer("kagn", form="bottleneck", **WIDE), 6_934_069),
    Row("vgg_kan_11", layer("wavkan", **WIDE), 7_628_968),
    Row("vgg_kan_11", layer("kagn", version="v2", norm="instance", **IMAGENET), 24_652_420),
    Row("vgg_kan_11", layer("kagn", version="v4", norm="instance", **IMAGENET), 41_424_516),
    Row("vgg_kan_13", layer("kagn", version="v4", norm="instance", **IMAGENET), 41_747_280),
    Row("vgg_kan_16", layer("kagn", version="v4", norm="instance", **IMAGENET), 51_038_306),
    Row("vgg_kan_19", layer("kagn", version="v4", norm="instance", **IMAGENET), 60_329_332),
    Row("vgg_kan_11", layer("kagn", **{**V4, "version": "v2"}), 4_222_099),
    Row("vgg_kan_11", layer("kagn", **V4), 7_252_115),
    Row("vgg_kan_13", layer("kagn", **V4), 7_329_119),
    Row("vgg_kan_16", layer("kagn", **V4), 8_818_801),
    Row("vgg_kan_19", layer("kagn", **V4), 10_308_483),
    Row("vgg_kan_11", layer("kagn", last_attention=True, **V4), 12_547_232),
    Row("vgg_kan_11", layer("kagn", pool_attention=True, **V4), 11_225_273),
    Row("vgg_kan_11", layer("kagn", pool_attention=True, attention_reduction=8, **V4), 7_431_289),
    Row("vgg_kan_11", layer("kagn", **{**V4, "form": "moe_bottleneck"}), 12_197_389, 4_864, GATE),
    Row("vgg_kan_11", layer("kagn", form="bottleneck", **C200), 688_245),
    Row("vgg_kan_16", layer("kagn", form="bottleneck", **C200), 1_090_153),
    Row("vgg_kan_19", layer("kagn", form="bottleneck", version="v4", **C200), 2_474_237),
    Row("vgg_kan_11", layer("kagn", form="moe_bottleneck", **C200), 1_143_609, 1_792, GATE),
]

P32 = {"stem": "32p", "norm_affine": False, **C200}
P64 = {"stem": "64p", "norm_affine": False, **C200}
# their 1x1 convolutions are Legendre ones
MIXED = {"form": "moe_bottleneck", "pointwise_preset": "kaln", **P32}
RES = [
    Row("res_kan_18", layer("kan", **P32), 800_628),
    Row("res_kan_18", layer("fastkan", **P32, **SMALL_GRID), 538_072),
    Row("res_kan_18", layer("kaln", **P32), 450_560),
    Row("res_kan_18", layer("kacn", **P32), 363_048),
    Row("res_kan_18", layer("kagn", **P32), 450_640),
    Row("res_kan_34", layer("kagn", **P32), 889_104),
    Row("res_kan_18", layer("kagn", form="bottleneck", **P32), 179_157),
    Row("res_kan_34", layer("kagn", form="bottleneck", **P32), 355_733),
    Row("res_kan_18", layer("kagn", **MIXED), 590_521, 1_664, GATE),
    Row("res_kan_34", layer("kagn", **MIXED), 1_259_193, 3_584, GATE),
    Row("res_kan_50", layer("kaln", **P64), 1_884_160),
    Row("res_kan_18", layer("kaln", form="moe", **P64), 3_058_872),
    Row("res_kan_50", layer("kaln", form="moe", **P64), 8_083_512),
    Row("res_kan_18", layer("kagn", norm_affine=False, **C200), 455_440),
    Row("res_kan_50", layer("kagn", **C200), 1_895_812),
    Row("res_kan_50", layer("kagn", **IMAGENET, **C200), 10_390_070),
    Row("res_kan_101", layer("kagn", **C200), 3_382_224),
    Row("res_kan_152", layer("kagn", **C200), 4_606_748),
    Row("res_kan_50", layer("kagn", form="bottleneck", **C200), 943_017),
]

DENSE = [
    Row("dense_kan_tiny", layer("kan", **C200), 8_302_112),
    Row("dense_kan_tiny", layer("fastkan", **C200, **SMALL_GRID), 5_576_374),
    Row("dense_kan_tiny", layer("kaln", **C200), 4_662_400),
    Row("dense_kan_tiny", layer("kacn", **C200), 3_752_080),
    Row("dense_kan_tiny", layer("kagn", **C200), 4_662_528),
    Row("dense_kan_tiny", layer("kagn", form="bottleneck", **C200), 1_563_633),
    Row("dense_kan_tiny", layer("kagn", form="moe_bottleneck", **C200), 2_539_413, 3_840, GATE),
    Row("dense_kan_121", layer("kan", **C200), "56.55M"),
    Row("dense_kan_121", layer("fastkan", **C200, **SMALL_GRID), "38.07M"),
    Row("dense_kan_121", layer("kaln", **C200), "31.83M"),
    Row("dense_kan_121", layer("kacn", **C200), "25.64M"),
    Row("dense_kan_121", layer("kagn", **C200), 31_826_268),
    Row("dense_kan_161", layer("kagn", **C200), "120.5M"),
    Row("dense_kan_169", layer("kagn", **C200), "58.06M"),
    Row("dense_kan_201", layer("kagn", **C200), "82.66M"),
    Row("dense_kan_121", layer("kagn", form="bottleneck", **C200), 19_508_876),
    Row("dense_kan_161", layer("kagn", form="bottleneck", **C200), "97.69M"),
    Row("dense_kan_169", layer("kagn", form="bottleneck", **C200), "48.98M"),
    Row("dense_kan_201", layer("kagn", form="bottleneck", **C200), "84.82M"),
    Row("dense_kan_121", layer("kagn", form="moe_bottleneck", **C200), 23_281_892, 14_848, GATE),
]

RD = [
    Row("rd_kan_tiny", layer("kagn", form="bottleneck"), 23_688_689),
    # the published stem is a bottleneck even where nothing else is
    Row("rd_kan_tiny", layer("kagn", stem_form="bottleneck"), 29_088_517),
    Row("rd_kan_small", layer("kagn", form="bottleneck"), "204.8M"),
    Row("rd_kan_base", layer("kagn", form="bottleneck"), "356.1M"),
    Row("rd_kan_large", layer("kagn", form="bottleneck"), "770.3M"),
]

ROWS = [*SIMPLE, *VGG, *RES, *DENSE, *RD]


def count_of(row: Row) -> int:
    with torch.device("meta"):
        model = kv.create_model(row.name, **row.kwargs)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row.name}-{row.kwargs.get('preset', '')}-{row.count}"
)
def test_parameter_count_is_the_published_one(row: Row):
    count = count_of(row)
    if isinstance(row.count, str):
        digits = len(row.count.rstrip("M").partition(".")[2])
        assert f"{count / 1e6:.{digits}f}M" == row.count
    else:
        assert count == row.count - row.dead
    assert bool(row.dead) == bool(row.why)


@pytest.mark.parametrize("degree", [0, 1])
def test_low_degrees_of_gram_have_no_dead_parameters(degree):
    # published layers keep degree + 1 factors, of which below degree 2 none is read
    row = Row("convkan_4", layer("kagn", basis_kwargs={"degree": degree}, **C10), 0)
    legendre = Row("convkan_4", layer("kaln", basis_kwargs={"degree": degree}, **C10), 0)
    assert count_of(row) == count_of(legendre)
