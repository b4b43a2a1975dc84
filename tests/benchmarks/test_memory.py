"""What is counted as kept for the backward pass, checked against known layers and against the allocator."""

import pytest
import torch
from benchmarks.conv import saved_bytes
from benchmarks.memory import kept, layer, main, plain
from torch import nn
from torch.profiler import ProfilerActivity, profile

from kanvision.bases import BASES
from kanvision.layers import PRESETS

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
        (nn.Conv2d(8, 24, 3, padding=1), 1),
        (nn.ReLU(), 1),
        (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU()), 2),
    ],
)
def test_each_storage_counts_once(module: nn.Module, expected: float) -> None:
    assert kept(module, image()) == expected


def test_conv_norm_and_activation_keep_three_inputs() -> None:
    assert kept(plain(8), image()) == pytest.approx(3, abs=0.01)  # and the statistics of the norm


def test_nothing_is_kept_without_gradients() -> None:
    with torch.no_grad():
        assert saved_bytes(plain(8), image()) == 0


def allocated(module: nn.Module, x: torch.Tensor) -> int:
    """Bytes that are there after a forward pass and were not before, by the allocator."""
    module(x)  # what is made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        y = module(x)
    del y
    return sum(event.self_cpu_memory_usage for event in profiler.key_averages())


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("name", ["bspline", "gram", "kagn", "wavkan", "kan"])
def test_the_allocator_agrees(name: str, checkpoint: bool) -> None:
    x, module = image(), layer(name, 8, checkpoint).train()
    # The input was there before; the output, which is as large, is not among what is kept.
    assert allocated(module, x) == pytest.approx(saved_bytes(module, x), rel=0.05)


@pytest.mark.parametrize("name", [*BASES, *PRESETS])
def test_functions_keep_their_input_only(name: str) -> None:
    lean, full = (kept(layer(name, 8, checkpoint), image()) for checkpoint in (True, False))
    # A norm after the convolution keeps its input too, and statistics. The norm of kaln has more steps.
    assert lean <= (4.1 if name == "kaln" else 2.1)
    assert full <= lean + 1.1  # and the activation


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["--batch=1", "--channels=4", "--size=8", "--repeats=2", "--warmup=1", "--threads=1"]
    monkeypatch.setattr("sys.argv", ["memory", "gram", "kagn", *small])
    main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith(("gram", "kagn"))]
    assert [row[:2] for row in rows] == [["gram", "4"], ["kagn", "4"]]
    assert all(float(row[2]) <= float(row[3]) for row in rows)


def test_a_name_that_is_neither_basis_nor_preset_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["memory", "grm"])
    with pytest.raises(SystemExit):
        main()
    assert "unknown: grm; legal: bspline" in capsys.readouterr().err
