"""Build of generated code: no compiler, one that fails, full caches, processes at once, forks."""

import os
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kanvision.expansion import build, execute
from tests.programs import Program

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="there is no C compiler")

STEP = """
import torch
from kanvision.layers import KANConv2d
from kanvision.expansion import execute
torch.manual_seed(0)
layer = KANConv2d(2, 2, 3, padding=1, basis="gram", basis_act="silu")
x = torch.randn(2, 2, 5, 5, requires_grad=True)
layer(x).square().sum().backward()
print(execute.find_kernel_obstacle())
print(sum(p.grad.abs().sum().item() for p in layer.parameters()) + x.grad.abs().sum().item())
"""


def start(code, folder, **environment):
    """Start a program in a folder of its own."""
    folder.mkdir()
    script = folder / "program.py"
    script.write_text(textwrap.dedent(code), "utf-8")
    return Program([str(script)], folder, {**os.environ, **environment}, folder)


def finish(program, timeout=300):
    done = program.finish(timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_compiler
def test_a_step_without_a_compiler_is_the_same_step(tmp_path):
    """No compiler, one that fails, the switch, and two processes that build in one empty cache."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    broken.chmod(0o755)
    empty = tmp_path / "empty"
    empty.mkdir()
    cache = str(tmp_path / "cache")
    processes = {
        "one": start(STEP, tmp_path / "1", XDG_CACHE_HOME=cache),
        "another": start(STEP, tmp_path / "2", XDG_CACHE_HOME=cache),
        "none": start(STEP, tmp_path / "3", PATH=str(empty), CC=""),
        "broken": start(STEP, tmp_path / "4", CC=str(broken), XDG_CACHE_HOME=str(tmp_path / "other")),
        "off": start(STEP, tmp_path / "5", KANVISION_KERNELS="off"),
    }
    found = {name: finish(process) for name, process in processes.items()}
    assert found["one"][0] == found["another"][0] == ""
    assert "no C compiler" in found["none"][0]
    assert "no space left" in found["broken"][0]
    assert found["off"][0] == "KANVISION_KERNELS is off"
    values = [float(lines[1]) for lines in found.values()]
    assert values == pytest.approx([values[0]] * len(values), rel=1e-5)
    assert not list((tmp_path / "other").rglob("*.so"))


@needs_compiler
def test_a_library_is_built_once_and_never_read_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_cache_folder", lambda: tmp_path)
    calls = []
    compile_ = build._compile
    monkeypatch.setattr(build, "_compile", lambda *a: calls.append(a) or compile_(*a))
    source = "int run(void) { return 7; }"
    assert build.load_library(source).run() == 7
    assert build.load_library(source).run() == 7
    assert len(calls) == 1
    assert len(list(tmp_path.iterdir())) == 1  # no temporary file stays
    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(build.load_library, "int run(void) { return 8; }") for _ in range(4)]
    assert [library.result().run() for library in results] == [8] * 4


def test_the_key_has_compiler_and_processor(monkeypatch):
    """A cache that machines share must not hand one of them the instructions of another."""
    compiler = build.find_compiler() or sys.executable
    one = build._identify(compiler)
    monkeypatch.setattr(build, "_describe_processor", lambda: "another")
    build._identify.cache_clear()
    assert build._identify(compiler) != one
    build._identify.cache_clear()


def test_a_read_only_cache_is_replaced(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    folder = build._cache_folder.__wrapped__()
    assert os.access(folder, os.W_OK)
    assert blocked not in folder.parents


@needs_compiler
def test_denormal_numbers_survive():
    """A library linked with -ffast-math flushes those of all code in the thread to zero."""
    assert execute.find_failure(execute_definition()) == ""
    assert (torch.tensor([1e-40]) * 1.0).item() > 0


def execute_definition():
    from kanvision.expansion.elementary import TANH

    return TANH


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_child_of_a_process_with_threads_does_not_hang(tmp_path):
    """OpenMP hangs in the child of a process that has run a parallel loop: workers of a data loader."""
    code = """
    import os, torch
    from kanvision.expansion.elementary import TANH
    from kanvision.expansion.expand import expand
    torch.set_num_threads(2)
    x = torch.randn(4, 40_000)
    expand(TANH, (), x, 0)
    child = os.fork()
    if child == 0:
        expand(TANH, (), x, 0)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    """
    assert finish(start(code, tmp_path / "program"), timeout=120) == ["0"]


def test_the_environment_is_read_again_on_request(monkeypatch):
    """A cached answer that no switch can reach; an answer that is not cached costs a lookup in each call."""
    monkeypatch.setenv(build.SWITCH, "off")
    try:
        build.read_environment()
        assert build.get_obstacle() == f"{build.SWITCH} is off"
        assert build.is_switched_off()
        monkeypatch.delenv(build.SWITCH)
        assert build.is_switched_off()
    finally:
        monkeypatch.undo()
        build.read_environment()
