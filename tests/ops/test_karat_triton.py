"""The fused kernels in triton's interpreter: the same code as on a GPU, run by numpy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kanvision.ops.karat import Series
from kanvision.ops.karat_triton import why_not_fused

pytest.importorskip("triton")
ROOT = Path(__file__).resolve().parents[2]
# the interpreter has no bfloat16; 70 tokens: a ragged last tile of queries and of keys; q, k and v are views of one map, as in a block
CASES = """
import torch
from kanvision.layers import KArAtOperator
from kanvision.ops.karat import Series, fourier_attention
from kanvision.ops.karat_triton import fused_fourier_attention

def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()

for frequencies, constant, bias, dtype in ((1, False, 0, torch.float32), (3, True, 1, torch.float32),
                                           (3, False, 0, torch.float16)):
    torch.manual_seed(0)
    series, rank, tokens = Series(frequencies, constant), 5, 70
    qkv = torch.randn(2, tokens, 3, 1, 12).to(dtype).requires_grad_()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    c = torch.randn(1, rank, tokens, series.num_functions, requires_grad=True)
    w = torch.randn(1, tokens, rank + bias, requires_grad=True)
    found = fused_fourier_attention(q, k, v, c, w, series, 0.3)
    expected = fourier_attention(q, k, v, c, w, series, 0.3)
    g = torch.randn(found.shape).to(dtype)
    pairs = [(found, expected)]
    pairs += zip(*(torch.autograd.grad(out, (qkv, c, w), g) for out in (found, expected)))
    assert found.dtype == dtype and found.transpose(1, 2).is_contiguous()
    worst = max(relative(a.float(), b.float()) for a, b in pairs)
    print("CASE", frequencies, dtype, worst)
    assert worst < (3e-6 if dtype == torch.float32 else 4e-3), worst

operator = KArAtOperator(1, 20, 3, implementation="triton")
x = torch.randn(1, 1, 20, 8)
out = operator(x, x, x)
operator.implementation = "naive"
assert relative(out, operator(x, x, x)) < 3e-6
print("DONE")
"""


def test_kernels_agree_with_the_closed_form():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CASES], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("CASE") == 3
    assert "DONE" in done.stdout


@pytest.mark.parametrize(
    ("series", "rank", "dtype", "words"),
    [
        (Series(1, base_act="silu"), 12, torch.float32, "no base activation"),
        (Series(1), None, torch.float32, "ends at rank=64"),
        (Series(1), 12, torch.float64, "compute in float32"),
        (Series(1), 12, torch.float32, "on cpu"),
    ],
)
def test_says_why_not(series, rank, dtype, words, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert words in why_not_fused(torch.zeros(1, 1, 3, 4, dtype=dtype), series, rank)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_on_a_gpu(dtype):
    from kanvision.layers import KArAtOperator

    torch.manual_seed(0)
    operator = KArAtOperator(3, 197, 12, implementation="triton").cuda()
    q, k, v = (torch.randn(4, 3, 197, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    found = operator(q, k, v)
    wanted = (q, k, v, *operator.parameters())
    grads = torch.autograd.grad(found.float().square().sum(), wanted)
    operator.implementation = "recompute"
    expected = operator(q, k, v)
    plain = torch.autograd.grad(expected.float().square().sum(), wanted)
    for one, other in zip((found, *grads), (expected, *plain), strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error < (1e-4 if dtype == torch.float32 else 0.05)
