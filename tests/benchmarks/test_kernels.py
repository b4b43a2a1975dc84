"""Triton kernels compiled for a GPU on a machine without one: registers, spills, and that nothing runs."""

import pytest
import torch
from benchmarks.kernels import compile_step, main

from kanvision.layers import GroupRational, KANLinear

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_a_basis_compiles_without_spills():
    values, gradients = compile_step(KANLinear(256, 16, "gram", base_act=None), (64, 256), torch.bfloat16, 90)
    assert (values.name, gradients.name) == ("values", "gradients")
    for kernel in (values, gradients):
        assert 16 <= kernel.registers <= 255
        assert kernel.spills == 0
        assert kernel.wide_accesses > 0


def test_a_spill_is_seen():
    """It would catch a log that is not read: this kernel is known to spill."""
    _, gradients = compile_step(GroupRational(192, init="swish"), (64, 192), torch.float32, 90)
    assert gradients.spills > 0


def test_layers_run_as_before_afterwards():
    layer, x = KANLinear(256, 16, "gram", base_act=None), torch.randn(64, 256)
    before = layer(x)
    compile_step(layer, (64, 256), torch.float32, 90)
    assert torch.equal(layer(x), before)


def test_the_command(capsys):
    main(["--only", "KANLinear gram"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| KANLinear gram")]
    assert [line.split(" | ")[1:3] for line in lines] == [
        [dtype, kernel] for dtype in ("bfloat16", "float32") for kernel in ("values", "gradients")
    ]
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
