"""Compilation of a network in place."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

__all__ = ["compile_network"]


def compile_network(network: nn.Module, *, falls_back: bool) -> None:
    """Compile a network at its first use; names in its checkpoints stay the same.

    Args:
        network: The network.
        falls_back: Run the network without compilation, with a warning, where compilation fails.
    """
    # torch.compile(network) would prefix every name in the checkpoint with _orig_mod.
    network.compile()
    if not falls_back:
        return
    compiled: Any = network._compiled_call_impl

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except _get_errors() as error:
            network._compiled_call_impl = None
            first = str(error).strip().splitlines()[0]
            warnings.warn(f"torch.compile failed, the network runs without it: {first}", stacklevel=2)
            return network(*args, **kwargs)

    network._compiled_call_impl = run


def _get_errors() -> tuple[type[Exception], ...]:
    """Return what torch raises where it cannot compile."""
    from torch._dynamo.exc import TorchDynamoException  # imports take a second
    from torch._inductor.exc import InductorError

    return TorchDynamoException, InductorError
