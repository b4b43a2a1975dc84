"""Python programs as a user calls them, each in a process of its own that has its imports behind it.

Importing torch and Lightning takes longer than most commands of the tests. A server process imports them
once, and forks for each program: same words, same folder, same environment and output as in a fresh process.
The server also forks the further processes of a run, which Lightning and torchrun would start by themselves.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

FORKS = multiprocessing.get_context("forkserver")
# not albumentations itself, which asks the network unless kanvision has told it not to
IMPORTS = (
    *("kanvision.app.train", "kanvision.app.evaluate", "kanvision.app.analyze.run"),
    *("kanvision.app.explain.run", "kanvision.app.predict.run", "kanvision.app.check_data"),
    *("kanvision.tasks.classification", "kanvision.tasks.segmentation"),
    *("kanvision.data.datamodules.segmentation", "kanvision.data.transforms.segmentation"),
    *("matplotlib.pyplot", "segmentation_models_pytorch", "tests.composed"),
    "torch.distributed.run",
)
FORKS.set_forkserver_preload(list(IMPORTS))


def run_program(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `<script> <arguments>` or `-m <module> <arguments>`, as `python <words>` would.

    Raises:
        subprocess.TimeoutExpired: If it takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Program(words, cwd, environment, Path(folder)).finish(timeout)


class Program:
    """A program that runs beside the test.

    Args:
        words: As for `run_program`.
        cwd: The folder that it runs in.
        environment: Its environment.
        outputs: Folder for the files `stdout` and `stderr`.
        leads_group: Whether signals to the group of this process do not reach the program.
    """

    def __init__(
        self,
        words: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        outputs: Path,
        leads_group: bool = False,
    ) -> None:
        self.words = words
        self.stdout, self.stderr = outputs / "stdout", outputs / "stderr"
        arguments = (list(words), cwd, dict(environment), [self.stdout, self.stderr], leads_group)
        self.process = FORKS.Process(target=_become, args=arguments)
        self.process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def finish(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It took longer and was killed.
        """
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            said = (path.read_bytes() for path in (self.stdout, self.stderr))
            raise subprocess.TimeoutExpired(self.words, timeout, *said)
        assert self.process.exitcode is not None
        said = (path.read_text("utf-8") for path in (self.stdout, self.stderr))
        return subprocess.CompletedProcess(self.words, self.process.exitcode, *said)

    def kill(self) -> None:
        """End it by SIGKILL, if it still runs."""
        self.process.kill()
        self.process.join()


class _Rank(Program):
    """A further process of a run, with the methods of `subprocess.Popen` that Lightning and torchrun use."""

    def __init__(
        self,
        outputs: Path,
        args: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None = None,
        start_new_session: bool = False,
        **_: object,
    ) -> None:
        words = [word for word in args[1:] if word != "-u"]
        super().__init__(words, Path(cwd or os.getcwd()), env, outputs, start_new_session)

    @property
    def returncode(self) -> int | None:
        """Its exit status, once it has ended."""
        return self.process.exitcode

    def poll(self) -> int | None:
        """The exit status, once it has ended."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.words, timeout or 0)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM, if it still runs."""
        self.process.terminate()


def _fork_ranks(outputs: Path) -> None:
    from pytorch_lightning.strategies.launchers import subprocess_script
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_script.subprocess = SimpleNamespace(Popen=partial(_Rank, outputs))
    subprocess_handler.Popen = partial(_Rank, outputs)
    # a process of the server would start a server of its own
    forkserver._forkserver.ensure_running = lambda: None


def _become(
    words: list[str], cwd: Path, environment: dict[str, str], outputs: list[Path], leads_group: bool
) -> None:
    if leads_group:
        os.setsid()
    for descriptor, path in zip((1, 2), outputs, strict=True):
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
    # those of the server are whatever they were when it was started
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    _fork_ranks(outputs[0].parent)
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
