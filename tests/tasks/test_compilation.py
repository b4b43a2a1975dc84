"""Compilation in place, and the way back where it fails."""

import copy
import warnings

import pytest
import torch
from torch import nn

from kanvision.tasks.compilation import compile_network


class FailingBackend:
    """Backend of torch.compile that cannot compile, as one without its compiler."""

    calls = 0

    def __call__(self, graph, inputs):
        self.calls += 1
        raise RuntimeError("no compiler\nand a long explanation")


@pytest.fixture
def backend(monkeypatch):
    """Let `nn.Module.compile` use a failing backend."""
    failing = FailingBackend()
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: setattr(self, "_compiled_call_impl", torch.compile(self._call_impl, backend=failing)),
    )
    torch._dynamo.reset()
    return failing


def test_a_failed_compilation_costs_one_line(backend):
    network, x = nn.Linear(3, 2), torch.randn(4, 3)
    wanted = network(x)
    compile_network(network, falls_back=True)
    with pytest.warns(UserWarning, match="torch.compile failed, the network runs without it: ") as caught:
        assert torch.equal(network(x), wanted)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(x)
    assert backend.calls == 1
    assert copy.deepcopy(network)._compiled_call_impl is None


def test_without_a_way_back_the_error_stays(backend):
    network = nn.Linear(3, 2)
    compile_network(network, falls_back=False)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="no compiler"):
        network(torch.randn(4, 3))


def test_errors_of_the_network_are_not_caught():
    network = nn.Linear(3, 2)
    compile_network(network, falls_back=True)
    network._compiled_call_impl = None
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.randn(4, 5))
