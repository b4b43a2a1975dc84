"""`python -m benchmarks`: its contenders do what they are said to do, and its table has all of them."""

import csv

import pytest
import torch
from benchmarks.__main__ import main, select
from benchmarks.cases import list_cases, rational_case
from benchmarks.contenders import PlainRational, RecursiveKANLinear, free_expansions, plain_layer, replace
from benchmarks.gpu import list_gpu_cases
from benchmarks.gpu import main as measure_gpu
from benchmarks.measure import count_kept_bytes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kanvision.layers import GroupRational, KANConv2d, KANLinear
from kanvision.models import create_model

CASES = {case.label: case for case in list_cases()}


def count_flops(module: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("basis", ["gram", "bspline"])
def test_a_contraction_has_the_products_of_the_layer(basis, monkeypatch):
    """It would catch missing maps, a constant function that has one, and gradients that are not computed."""
    monkeypatch.setenv("KANVISION_KERNELS", "off")
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    layer = KANConv2d(8, 16, 3, stride=2, padding=1, basis=basis, norm="batch", act="silu", bias=True)
    contraction = free_expansions(layer)
    assert contraction(x).shape == layer(x).shape
    wanted = count_flops(layer, x)
    assert count_flops(contraction, x) <= wanted <= 1.03 * count_flops(contraction, x)  # the constant map
    assert x.grad.abs().sum() > 0
    plain = plain_layer(layer)
    assert count_flops(plain, x) < wanted / layer.basis.num_basis


def test_free_expansions_of_a_network():
    network = create_model("ukan_tiny", num_classes=1)
    free = free_expansions(network)
    assert not any(isinstance(module, KANLinear) for module in free.modules())
    assert any(isinstance(module, KANLinear) for module in network.modules())  # a copy has changed
    x = torch.randn(1, 3, 64, 64)
    assert free(x).shape == network(x).shape


def test_the_recursion_is_the_same_network():
    torch.manual_seed(0)
    ours = create_model("ukan_tiny", num_classes=1).double().train()
    theirs = replace(ours, KANLinear, RecursiveKANLinear)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    close = {"rtol": 1e-3, "atol": 1e-5}  # knots are rounded to 32 bits, and read in two ways
    torch.testing.assert_close(theirs(x), ours(x), **close)
    assert count_kept_bytes(theirs, x) > count_kept_bytes(ours, x)


@pytest.mark.parametrize("form", ["kernel", "paper"])
def test_the_plain_rational_is_the_same_function(form):
    x = torch.randn(2, 5, 16, requires_grad=True)
    ours = GroupRational(16, init="swish", form=form)
    torch.testing.assert_close(ours(x), PlainRational(ours)(x))
    unit = x.numel() * x.element_size()
    assert count_kept_bytes(ours, x) == unit
    assert count_kept_bytes(PlainRational(ours), x) > 10 * unit


def test_twins_of_equal_cost():
    found = CASES["convkan_4 2x3x16x16"].build()
    sizes = {name: sum(p.numel() for p in each.module.parameters()) for name, each in found.items()}
    assert sizes["plain twin"] < sizes["kanvision"] / 2
    assert sizes["plain twin, equal parameters"] == pytest.approx(sizes["kanvision"], rel=0.1)


def test_karat_has_its_implementations():
    found = CASES["karat_tiny_patch16_224 2x3x224x224"].build()
    assert {"kanvision", "plain formula", "gemm", "naive", "plain twin"} <= set(found)


def test_the_table(tmp_path, capsys):
    path = tmp_path / "speed"
    words = ["--quick", "--only", "KANConv2d gram 1x*", "rational", "--repeats=2", f"--output={path}"]
    main([*words, "--variants", "bfloat16", "fused"])
    text = path.with_suffix(".csv").read_text()
    facts = dict(line[2:].split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    assert {"commit", "machine", "versions", "threads", "date", "command"} <= set(facts)
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("# ")))
    conv = {row["contender"]: row for row in rows if row["case"] == "KANConv2d gram"}
    usual = {"kanvision", "plain formula", "contraction", "plain twin", "grad checkpointing"}
    assert set(conv) == usual | {"kanvision, bfloat16", "kanvision, fused"}
    assert int(conv["kanvision, fused"]["parameters"]) < int(conv["kanvision"]["parameters"])
    assert float(conv["kanvision"]["kanvision / this, step"]) == 1
    for row in rows:
        assert row["shape"] in ("1x4x8x8", "2x17x64")
        assert float(row["step cpu q1"]) <= float(row["step cpu ms"]) <= float(row["step cpu q3"])
        assert float(row["peak MiB"]) > 0
    table = [line for line in path.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1
    assert f"Wrote {path}.csv" in capsys.readouterr().out


def test_cases_have_labels_of_their_own():
    assert len(CASES) == len(list_cases())
    assert [case.label for case in select(list_cases(), ["GROUP*2x17*"])] == ["GroupRational 2x17x64"]
    with pytest.raises(
        ValueError, match=r"--only 'gramm' fits no case; cases: KANConv2d bspline 8x64x32x32, "
    ):
        select(list_cases(), ["gramm"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told_what_to_run(capsys):
    with pytest.raises(SystemExit, match=r"needs a CUDA device, .* On a CPU: python -m benchmarks"):
        measure_gpu([])
    measure_gpu(["--list", "--only", "kat_base"])
    assert capsys.readouterr().out == "kat_base_patch16_224 128x3x224x224\n"


def test_cases_for_a_gpu_are_built():
    fused = list_gpu_cases()[0].build()["fused"]
    assert fused.environment == {"KANVISION_FUSED_CONV": "on"}
    half = rational_case((4, 8), dtype="bfloat16")
    assert (half.label, half.dtype) == ("GroupRational bfloat16 4x8", "bfloat16")
