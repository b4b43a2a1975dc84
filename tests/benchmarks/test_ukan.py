"""The networks that are compared compute the same, and the table says what each keeps."""

import pytest
import torch
from benchmarks.ukan import competitors, main


def test_all_but_the_twin_compute_the_same() -> None:
    torch.manual_seed(0)
    networks = {name: net.double() for name, net in competitors("tiny").items()}
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    close = {"rtol": 1e-3, "atol": 1e-5}  # knots are rounded to 32 bits, and read in two ways
    wanted = networks["ours"](x)
    wanted.square().sum().backward()
    first = next(networks["ours"].parameters()).grad
    y = networks["recursion"](x)
    torch.testing.assert_close(y, wanted, **close)
    y.square().sum().backward()
    torch.testing.assert_close(next(networks["recursion"].parameters()).grad, first, **close)
    assert not torch.allclose(networks["MLP twin"](x), wanted)


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ukan", "--size=tiny", "--img-size=64", "--batch=2", "--repeats=2"])
    main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:18].strip(): [float(word) for word in line[18:].split()] for line in lines[-3:]}
    assert rows.keys() == {"ours", "recursion", "MLP twin"}
    assert rows["ours"][1] == 1
    assert rows["MLP twin"][2] <= rows["ours"][2] < rows["recursion"][2]
