"""Python programs as a user calls them, each in a process of its own that has its imports behind it.

Importing torch and Lightning takes longer than most commands of the tests. A server process imports them
once, and forks for each program: same words, same folder, same environment and output as in a fresh process.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
# not albumentations itself, which asks the network unless kanvision has told it not to
IMPORTS = ("kanvision.app", "kanvision.data.augment", "matplotlib.pyplot", "segmentation_models_pytorch")
FORKS.set_forkserver_preload(list(IMPORTS))


def run_program(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `<script> <arguments>` or `-m <module> <arguments>`, as `python <words>` would.

    Raises:
        subprocess.TimeoutExpired: If it takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / "stdout", Path(folder) / "stderr"]
        process = FORKS.Process(target=_become, args=(list(words), cwd, dict(environment), outputs))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, *(path.read_bytes() for path in outputs))
        assert process.exitcode is not None
        return subprocess.CompletedProcess(
            words, process.exitcode, *(path.read_text("utf-8") for path in outputs)
        )


def _become(words: list[str], cwd: Path, environment: dict[str, str], outputs: list[Path]) -> None:
    for descriptor, path in zip((1, 2), outputs, strict=True):
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
    # those of the server are whatever they were when it was started
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    try:
        if words[0] == "-m":
            sys.argv, sys.path[:0] = words[1:], [str(cwd)]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            script = Path(words[0]) if Path(words[0]).is_absolute() else cwd / words[0]
            sys.argv, sys.path[:0] = words, [str(script.parent)]
            runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a forked process does not call them by itself
