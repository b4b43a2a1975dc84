"""Time and memory by `benchmarks.measure`, checked against known layers and against the allocator."""

import os

import pytest
import torch
from benchmarks.measure import Contender, count_kept_bytes, count_peak_bytes, measure, spread
from torch import nn
from torch.profiler import ProfilerActivity, profile

from kanvision.bases import BASES
from kanvision.expansion.build import SWITCH, get_obstacle
from kanvision.layers import PRESETS, KANConv2d, get_preset

SHAPE = (2, 8, 16, 16)


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(SHAPE, requires_grad=True)


def kept(module: nn.Module, x: torch.Tensor) -> float:
    """Return the kept bytes over those of the input."""
    return count_kept_bytes(module.train(), x) / (x.numel() * x.element_size())


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU())


def layer(name: str, checkpoint: bool) -> KANConv2d:
    options = get_preset(name) if name in PRESETS else {"basis": name}
    return KANConv2d(8, 8, 3, padding=1, checkpoint=checkpoint, **options)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Identity(), 0),
        (Lambda(lambda x: x + 1), 0),
        (Lambda(torch.sin), 1),  # its input
        (Lambda(torch.exp), 1),  # its output
        (Lambda(lambda x: x.sin().exp()), 2),
        (Lambda(lambda x: x.sin() + x.cos()), 1),  # one tensor, kept twice
        (Lambda(lambda x: x.flatten(1).sin().sum() + x.cos().sum()), 1),  # two shapes of one storage
        (Lambda(lambda x: x[:, :1].sin()), 1),  # a part keeps the whole alive
        (nn.Conv2d(8, 8, 3, padding=1), 1),  # and its weight, which lives anyway
        (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU()), 2),
        (plain(), 3),
    ],
)
def test_each_storage_counts_once(module, expected):
    assert kept(module, image()) == pytest.approx(expected, abs=0.01)  # and the statistics of a norm


def allocated(module: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that are there after a forward pass and were not before, by the allocator."""
    module(x)  # what is made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        y = module(x)
    del y
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("name", ["bspline", "gram", "kagn", "wavkan", "kan"])
def test_the_allocator_agrees(name, checkpoint):
    x, module = image(), layer(name, checkpoint).train()
    # The input was there before; the output, which is as large, is not among what is kept.
    assert allocated(module, x) == pytest.approx(count_kept_bytes(module, x), rel=0.05)


@pytest.mark.parametrize("name", [*BASES, *PRESETS])
def test_functions_keep_their_input_only(name):
    lean, full = (kept(layer(name, checkpoint), image()) for checkpoint in (True, False))
    # A norm after the convolution keeps its input too, and statistics. The norm of kaln has more steps.
    assert lean <= (4.1 if name == "kaln" else 2.1)
    assert full <= lean + 1.1  # and the activation


def test_peak_counts_what_is_alive_at_once():
    x = torch.ones(1 << 18)  # 1 MiB

    def step() -> None:
        for _ in range(3):
            y = x + 1  # one at a time
            del y
        a = x + 1
        b = a + 1
        del a, b

    assert count_peak_bytes(step) == pytest.approx(2 << 20, rel=0.01)


def test_contenders_have_their_environment_and_their_mode():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append((self.training, os.environ.get(SWITCH), bool(get_obstacle())))
            return super().forward(x)

    spy = Spy(4, 4)
    given = {"kanvision": Contender(spy), "off": Contender(spy, {SWITCH: "off"})}
    found = measure(given, (3, 4), repeats=2, warmup=0)
    off = [(mode, "off", True) for mode in (True, False)]
    assert [each for each in seen if each[1] == "off"] == [off[0], *2 * off, off[0], off[0]]
    assert os.environ.get(SWITCH) != "off"
    assert found["off"].parameters == 20
    assert [len(times) for times in (*found["off"].step, *found["off"].forward)] == [2] * 4
    assert all(time > 0 for time in (*found["off"].step.wall, found["off"].first_step))


def test_outputs_of_deep_supervision_and_images():
    class Two(nn.Linear):
        def forward(self, x):
            assert not x.requires_grad  # an image
            return super().forward(x), super().forward(x)

    found = measure({"kanvision": Contender(Two(4, 4))}, (2, 3, 4, 4), repeats=1)
    assert found["kanvision"].kept_bytes == 2 * 3 * 4 * 4 * 4


def test_spread():
    assert spread([3.0, 1.0, 2.0]) == (1.5, 2.0, 2.5)
    assert spread([1.0]) == (1.0, 1.0, 1.0)
