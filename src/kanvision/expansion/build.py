"""Build of generated C code: search for a compiler, cache of libraries, and why there are none."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache, lru_cache
from pathlib import Path

__all__ = [
    "SWITCH",
    "KernelBuildError",
    "find_compiler",
    "get_obstacle",
    "is_switched_off",
    "load_library",
    "read_environment",
]

SWITCH = "KANVISION_KERNELS"
"""Environment variable; `off` switches generated code off."""

# -ffast-math is left out: a library with it flushes denormals of the whole thread to zero and loses NaN.
_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# The first set that the compiler accepts is taken.
_MACHINE_FLAGS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-mcpu=native", "-fopenmp-simd"),
    (),
)
_SECONDS = 120


class KernelBuildError(RuntimeError):
    """Code could not be compiled or loaded."""


def read_environment() -> None:
    """Read the environment again, which is read once in a process otherwise."""
    get_obstacle.cache_clear()
    is_switched_off.cache_clear()
    find_compiler.cache_clear()


@cache
def get_obstacle() -> str:
    """Return why no code is generated, or an empty string."""
    if is_switched_off():
        return f"{SWITCH} is {os.environ[SWITCH]}"
    return "" if find_compiler() else "there is no C compiler (CC, cc, gcc or clang)"


@cache
def is_switched_off() -> bool:
    """Return True if the environment switches generated code off."""
    return os.environ.get(SWITCH, "").lower() in ("off", "0", "false", "no")


@cache
def find_compiler() -> str | None:
    """Return the path of the C compiler, or None."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def load_library(source: str) -> ctypes.CDLL:
    """Compile C code, unless the cache has it, and load it.

    Processes may build one library at the same time: each writes a file of its own and renames it. The key of
    a library has its code, the flags, the compiler and the processor, for caches that machines share.

    Raises:
        KernelBuildError: No compiler, or it fails, or the library cannot be loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise KernelBuildError(get_obstacle())
    problems = []
    for flags in _MACHINE_FLAGS:
        key = hashlib.sha256("\0".join((source, *flags, *_FLAGS, _identify(compiler))).encode()).hexdigest()
        path = _cache_folder() / f"{key[:32]}.so"
        try:
            if not path.exists():
                _compile(compiler, [*_FLAGS, *flags], source, path)
            return ctypes.CDLL(str(path))
        except subprocess.CalledProcessError as error:
            problems.append(error.stderr.decode(errors="replace").strip())
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(str(error))
    raise KernelBuildError(f"{compiler} failed: {problems[-1]}")


def _compile(compiler: str, flags: list[str], source: str, path: Path) -> None:
    descriptor, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(descriptor)
    try:
        command = [compiler, *flags, "-x", "c", "-", "-o", name, "-lm"]
        subprocess.run(command, input=source.encode(), check=True, capture_output=True, timeout=_SECONDS)
        os.replace(name, path)  # atomic: no process loads half a file
    finally:
        Path(name).unlink(missing_ok=True)


@lru_cache(maxsize=8)
def _identify(compiler: str) -> str:
    """Return what a library depends on besides its code: compiler, operating system and processor."""
    binary = Path(compiler).resolve()
    status = binary.stat()
    return "\n".join(
        (
            str(binary),
            str(status.st_size),
            str(status.st_mtime_ns),
            platform.platform(),
            _describe_processor(),
        )
    )


def _describe_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(names)))


@lru_cache(maxsize=1)
def _cache_folder() -> Path:
    """Return the folder of built libraries: that of the user's caches, or a temporary one of this user."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "kanvision" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    temporary = tempfile.mkdtemp(prefix="kanvision-kernels-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)
