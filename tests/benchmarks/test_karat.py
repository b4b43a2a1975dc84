"""What the benchmark of KArAt says of memory, at a small size."""

import argparse

import pytest
import torch
from benchmarks.conv import saved_bytes
from benchmarks.karat import compare, network

ARGUMENTS = argparse.Namespace(
    **{"size": "micro", "depth": 1, "img_size": 224, "share": "blockwise", "rank": 12, "device": "cpu"},
    **{"dtype": "float32", "skip_time": False, "warmup": 0, "repeats": 1},
)


@pytest.mark.parametrize("frequencies", [1, 3])
def test_recompute_keeps_what_softmax_keeps(frequencies):
    x = torch.randn(1, 3, 224, 224)
    kept = {
        kind: saved_bytes(network(kind, frequencies, ARGUMENTS), x)
        for kind in ("softmax", "naive", "gemm", "recompute")
    }
    assert kept["recompute"] <= 1.1 * kept["softmax"]
    assert kept["naive"] > kept["gemm"] > 1.5 * kept["softmax"]


def test_prints_a_line_for_each(capsys):
    compare(1, ["softmax", "recompute"], torch.randn(1, 3, 224, 224), ARGUMENTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "G1B, rank 12"
    assert [line.split()[0] for line in lines[3:]] == ["softmax", "recompute"]
    assert all(float(line.split()[3]) > 0 for line in lines[3:])
