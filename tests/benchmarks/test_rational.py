"""The tables of the group rational's benchmark, on a CPU: those of a GPU are made by the same code."""

import pytest
import torch
from benchmarks.conv import saved_bytes
from benchmarks.rational import PlainRational, lap_times, main

from kanvision.layers import GroupRational

QUICK = ["--threads=1", "--warmup=1", "--repeats=2"]
SMALL = [*QUICK, "--device=cpu", "--backend=eager", "--shape", "2", "5", "16"]
NETWORKS = ["--size=micro", "--depth=1", "--img-size=32", "--batch=2", "--dtypes=float32"]


def rows(text: str, width: int) -> dict[str, list[float]]:
    """The lines that begin with a name of that width and go on with numbers alone."""
    found = {}
    for line in text.splitlines():
        try:
            cells = line[width:].replace("[", " ").replace("]", " ").replace(",", " ").split()
            numbers = [float(cell) for cell in cells]
        except ValueError:
            continue
        if numbers:
            found[line[:width].strip()] = numbers
    return found


def test_the_plain_formula_is_the_same_function() -> None:
    x = torch.randn(2, 5, 16)
    for form in ("kernel", "paper"):
        ours, plain = (kind(16, init="swish", form=form) for kind in (GroupRational, PlainRational))
        torch.testing.assert_close(ours(x), plain(x))


def test_ours_keeps_its_input_alone() -> None:
    x = torch.randn(64, 16, requires_grad=True)
    unit = x.numel() * x.element_size()
    assert saved_bytes(GroupRational(16, init="swish"), x) == unit
    assert saved_bytes(PlainRational(16, init="swish"), x) > 10 * unit


def test_tables_of_layers(capsys: pytest.CaptureFixture[str]) -> None:
    torch._dynamo.reset()
    main([*SMALL, "--tables", "time", "bandwidth"])
    time, bandwidth = capsys.readouterr().out.split("GB/s:")
    layers = {"ours", "plain formula", "gelu", "ours, compiled", "plain, compiled"}
    times = rows(time, 16)
    assert set(times) == layers
    assert times["plain formula"][-2] == 1  # as fast as itself
    assert times["ours"][-1] == 1  # keeps x
    rates = rows(bandwidth, 27)
    for dtype in ("bfloat16", "float32"):
        assert rates[f"{dtype:10} copy"][2] == 100
        for name in layers - {"plain formula"}:
            forward, backward = (rates[f"{dtype:10} {name}"][k : k + 3] for k in (0, 3))
            size = 2 * 5 * 16 * (2 if dtype == "bfloat16" else 4) / 1e6  # 1 GB/s in milliseconds
            assert forward[1] == pytest.approx(2 * size / forward[0], abs=0.06, rel=0.1)
            assert backward[1] == pytest.approx(3 * size / backward[0], abs=0.06, rel=0.1)


def test_table_of_networks(capsys: pytest.CaptureFixture[str]) -> None:
    torch._dynamo.reset()
    main([*SMALL, *NETWORKS, "--tables", "training"])
    table = rows(capsys.readouterr().out, 28)
    assert set(table) == {
        "ViT",
        "KAT",
        "KAT, plain formula compiled",
        "ViT, all compiled",
        "KAT, all compiled",
    }
    assert table["ViT"][1] == 1
    assert all(rate > 0 and ratio > 0 for rate, ratio in table.values())


def test_laps_are_timed_one_by_one() -> None:
    first, second = lap_times(torch.device("cpu"), [lambda: None, lambda: sum(range(10**5))])
    assert 0 <= first < second


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    main([*QUICK, "--no-compile", "--shape", "2", "3", "8"])
    text = capsys.readouterr().out
    assert "(2, 3, 8) float32" in text
    assert "No GPU: tables of bandwidth and training left out" in text
