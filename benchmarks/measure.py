"""Time and memory of modules that are measured in turns, in one process."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kanvision.expansion.build import get_obstacle, read_environment

__all__ = ["Clocks", "Contender", "Measured", "count_kept_bytes", "count_peak_bytes", "measure", "spread"]


class Contender(NamedTuple):
    """Module under some environment variables; several contenders may share one module."""

    module: nn.Module
    environment: Mapping[str, str] = {}
    autocast: torch.dtype | None = None
    """Type of linear maps; None is that of the measurement."""


class Clocks(NamedTuple):
    """Milliseconds of each repetition."""

    cpu: list[float]
    """Processor time of all threads of the process."""
    wall: list[float]


class Measured(NamedTuple):
    """Measurements of a contender."""

    step: Clocks
    forward: Clocks
    kept_bytes: int
    peak_bytes: int
    first_step: float
    """Wall time of the first training step in milliseconds."""
    parameters: int


def measure(
    contenders: Mapping[str, Contender],
    shape: Sequence[int],
    *,
    repeats: int,
    warmup: int = 1,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
) -> dict[str, Measured]:
    """Measure all contenders on the same input, in turns, so that the load of the machine affects all.

    A step is forward and backward with fixed gradients; the input requires one, as inside of a network,
    unless it is an image.
    """
    x = torch.randn(*shape, device=device, dtype=dtype).requires_grad_(not _is_image(shape))
    runs = {name: _Run(contender, x, autocast) for name, contender in contenders.items()}
    first = {name: run.time(run.step).wall[0] for name, run in runs.items()}
    steps, forwards = ({name: Clocks([], []) for name in runs} for _ in range(2))
    for repetition in range(warmup + repeats):
        for name, run in runs.items():
            for record, function in ((steps[name], run.step), (forwards[name], run.forward)):
                clocks = run.time(function)
                if repetition >= warmup:
                    record.cpu.extend(clocks.cpu)
                    record.wall.extend(clocks.wall)
    return {
        name: Measured(steps[name], forwards[name], *run.count_memory(), first[name], run.count_parameters())
        for name, run in runs.items()
    }


def _is_image(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3)


class _Run:
    """Training step and forward pass of a contender on an input."""

    def __init__(self, contender: Contender, x: Tensor, autocast: torch.dtype | None) -> None:
        self.module, self.environment = contender.module, contender.environment
        self.x, self.autocast = x, contender.autocast or autocast
        self.grads: list[Tensor] | None = None

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = self.autocast
        return nullcontext() if dtype is None else torch.autocast(self.x.device.type, dtype=dtype)

    def step(self) -> None:
        """Run a forward and a backward pass."""
        with self._autocast():
            outputs = _list_tensors(self.module(self.x))
        if self.grads is None:
            self.grads = [torch.randn_like(output) for output in outputs]
        torch.autograd.backward(outputs, self.grads)

    def forward(self) -> None:
        """Run a forward pass as in evaluation."""
        with torch.no_grad(), self._autocast():
            self.module(self.x)

    def time(self, function: Callable[[], None]) -> Clocks:
        """Return the milliseconds of one call."""
        self.module.train(function == self.step)
        with _set_environment(self.environment):
            self._clear()
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            if self.x.is_cuda:
                torch.cuda.synchronize()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Clocks([1e3 * cpu], [1e3 * wall])

    def _clear(self) -> None:
        self.x.grad = None
        self.module.zero_grad(set_to_none=True)

    def count_memory(self) -> tuple[int, int]:
        """Return the bytes that a training step keeps between its passes, and the most that it has."""
        self.module.train()
        with _set_environment(self.environment), self._autocast():
            kept = count_kept_bytes(self.module, self.x)
        with _set_environment(self.environment):
            self._clear()
            peak = count_peak_bytes(self.step, is_cuda=self.x.is_cuda)
        self._clear()
        return kept, peak

    def count_parameters(self) -> int:
        """Return the number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def _list_tensors(output: Any) -> list[Tensor]:
    """Return an output, or the outputs of a nested head or of deep supervision."""
    return [output] if isinstance(output, Tensor) else list(output)


@contextmanager
def _set_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        if values:
            read_environment()
            get_obstacle()  # looks for the compiler now, not while a clock runs
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if values:
            read_environment()
            get_obstacle()


def count_kept_bytes(module: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps between forward and backward, each storage once.

    Parameters and buffers are not counted.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(storages.values())


def count_peak_bytes(step: Callable[[], None], *, is_cuda: bool = False) -> int:
    """Return the most bytes of tensors during a step, beyond those before it."""
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler writes two lines for each use otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    results: Any = profiler.profiler
    level = peak = 0
    for event in sorted(results.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


def spread(times: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    if len(times) == 1:
        return times[0], times[0], times[0]
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, middle, high
