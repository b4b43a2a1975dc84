"""Triton kernels compiled for a GPU on a machine without one: registers, spills, and that nothing runs."""

from pathlib import Path

import pytest
import torch
from benchmarks.kernels import Kernel, compile_step, list_layers

from benchmarks import kernels
from kanvision.expansion import triton_kernels
from kanvision.layers import GroupRational, KANLinear
from kanvision.ops.karat import Series
from kanvision.ops.karat_fused import bound_shared_bytes

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_a_basis_compiles_without_spills():
    layer, x = KANLinear(256, 16, "gram", base_act=None), torch.randn(64, 256)
    before = layer(x)
    values, gradients = compile_step(layer, (64, 256), torch.float32, 90)
    assert torch.equal(layer(x), before)  # the step is compiled, not run, and loops are back
    assert (values.name, gradients.name) == ("values", "gradients")
    for kernel in (values, gradients):
        assert 16 <= kernel.registers <= 255
        assert kernel.spills == 0
        assert kernel.wide_accesses > 0


def test_a_spill_is_read(monkeypatch):
    """It would catch a log that is not read: registers do not hold these sums of a large tile."""
    monkeypatch.setattr(triton_kernels, "_MANY_SUMS", 1000)
    _, gradients = compile_step(KANLinear(256, 16, "relu", base_act=None), (64, 256), torch.float32, 90)
    assert gradients.spills > 0
    monkeypatch.undo()
    _, gradients = compile_step(KANLinear(256, 16, "relu", base_act=None), (64, 256), torch.float32, 90)
    assert gradients.spills == 0


def test_rationals_of_narrow_groups_do_not_spill():
    _, gradients = compile_step(GroupRational(192, init="swish"), (64, 192), torch.float32, 90)
    assert gradients.spills == 0


def test_shared_memory_of_karat_is_bounded():
    """It would let `auto` choose kernels that a device cannot start."""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("| KArAttention"):
            label, dtype, *_, shared, _, _ = [cell.strip() for cell in line.strip("| ").split("|")]
            q = torch.empty(1, 3, 65, 64, dtype=getattr(torch, dtype))
            assert int(shared) <= bound_shared_bytes(q, Series(3, False, "zero"), int(label.split()[-1]))


def test_the_page_has_all_layers():
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = dict.fromkeys(tuple(line[2:].split(" | ")[:2]) for line in lines[1:])
    spilled = {line[2:].split(" | ")[0] for line in lines[1:] if line.split(" | ")[4] != "0"}
    assert not [label for label in spilled if label.startswith(("KANLinear", "GroupRational"))]
    assert list(rows) == [(label, dtype) for label, *_ in list_layers() for dtype in ("bfloat16", "float32")]


def test_the_command(capsys, monkeypatch):
    kernel = Kernel("values", 40, 0, 16, 5, 387)
    monkeypatch.setattr(kernels, "compile_step", lambda *_: [kernel])
    kernels.main(["--only", "KANLinear gram"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| KANLinear")]
    assert lines == [
        f"| KANLinear gram | {dtype} | values | 40 | 0 | 16 | 5 | 387 |" for dtype in ("bfloat16", "float32")
    ]
    with pytest.raises(SystemExit):
        kernels.main(["--only", "nothing"])
