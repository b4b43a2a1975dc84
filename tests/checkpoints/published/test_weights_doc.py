"""docs/weights.md: its code runs, and its table of options is that of the code."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kanvision.checkpoints import SOURCES
from kanvision.checkpoints.published.efficient_kan import OPTIONS
from kanvision.checkpoints.published.kat import OPTIONS as KAT_OPTIONS
from kanvision.checkpoints.published.torch_conv_kan.bottleneck import BOTTLENECK_OPTIONS
from kanvision.checkpoints.published.torch_conv_kan.conv import CONV_OPTIONS, GEOMETRY
from kanvision.checkpoints.published.torch_conv_kan.linear import LINEAR_OPTIONS
from kanvision.checkpoints.published.torch_conv_kan.network_reader import PublishedNetwork
from kanvision.checkpoints.published.torch_conv_kan.networks import NETWORKS

from .reference_kat import random_kat
from .reference_layers import random_conv, random_linear
from .reference_nets import Head, Net, res_net, simple_net, vgg_net
from .reference_ukan import random_ukan
from .test_efficient_kan import random_layer

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "weights.md").read_text("utf-8")


def single(state):
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def files(folder):
    """Small stand-ins for the files that the document names."""
    net = Net("bottleneck_kagn", degree=5)
    vgg_net(net, [2, "M", 4, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M", 32, 32], 1)
    head = {f"classifier.{name}": value for name, value in Head("linear", "kagn", 32).state.items()}
    (folder / "vgg_kagn_bn11_v4").mkdir()
    save_file(single(net.state | head), folder / "vgg_kagn_bn11_v4" / "model.safetensors")
    net = Net("kagn")
    simple_net(net, (2, 2, 2, 2), (1, 2, 2, 1))
    states = {"simple": net.state | {f"output.{k}": v for k, v in Head("linear", "kagn", 2).state.items()}}
    net = Net("kagn")
    _, channels = res_net(net, (1, 1, 1, 1), 2)
    head = Head("bare", "kagn", channels)
    states["reskagnet_18x32p"] = net.state | {f"fc.{name}": value for name, value in head.state.items()}
    states |= {"kagn_conv": random_conv("kagn", 2), "kajn_conv": random_conv("kajn", 2)}
    states["mlp_kagn"] = {f"layers.0.{name}": value for name, value in random_linear("kagn").items()}
    states["efficient_kan"] = {f"layers.0.{name}": value for name, value in random_layer().items()}
    (folder / "busi_UKAN").mkdir()
    states["busi_UKAN/model"] = random_ukan()
    states["kat_tiny_patch16_224"] = random_kat(width=64, depth=1)
    for name, state in states.items():
        torch.save(single(state), folder / f"{name}.pth")


def test_the_code_runs(tmp_path, monkeypatch):
    torch.manual_seed(0)
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(block, names)
    model, twin = names["model"], names["twin"].eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model(x))
    assert model(x).shape == (1, 10)
    assert names["layer"].basis.name == "jacobi"
    assert names["transformer"](x[..., :32, :32]).shape == (1, 7)
    assert names["segmenter"](x[..., :50]).shape == (1, 1, 64, 50)


def options_of_the_table():
    rows = re.findall(r"^\| (`[^|]*`) \|[^|]*\|[^|]*\|[^|]*\|$", TEXT, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_the_table_has_every_option():
    tables = [
        *CONV_OPTIONS.values(),
        *BOTTLENECK_OPTIONS.values(),
        *LINEAR_OPTIONS.values(),
        OPTIONS,
        KAT_OPTIONS,
        GEOMETRY,
    ]
    tables += [network.options for network in NETWORKS]
    legal = {name for table in tables for name in table} | {"layer", "norm", "head_act"}
    told = options_of_the_table()
    assert sorted(told) == sorted(legal)
    assert all(issubclass(network, PublishedNetwork) for network in NETWORKS)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_a_row_and_a_section(source):
    assert f"| `{source}` |" in TEXT
    assert f"\n## {source}\n" in TEXT
