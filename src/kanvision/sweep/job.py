"""One job of a sweep: announced, and when it fails, recorded without taking the other jobs along."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from kanvision.config import (
    ConfigError,
    DisplayedError,
    FolderInUseError,
    TrainConfig,
    is_distributed_worker,
    is_global_rank_zero,
    job_name,
    lock_folder,
    release_folder,
    shell_word,
    sweep_job_folder,
)
from kanvision.console import build_console

from .report import report
from .runs import FAILURE, read_run, write_failure

__all__ = ["finished_score", "lock_job_folder", "sweep_job"]


@contextmanager
def sweep_job() -> Iterator[None]:
    """Run the block as a job of a sweep; outside of sweeps this does nothing.

    A failure is printed, recorded in the job's folder, and swallowed, so that the other jobs run: the sweep's
    table has the reason, and its exit status says that there was one. Processes that work on one job together
    cannot go on after one of them has failed, so there the failure passes. So do Ctrl-C and signals.
    """
    folder = sweep_job_folder()
    if folder is None:
        yield
        return
    failure = folder / FAILURE
    if is_global_rank_zero():
        failure.unlink(missing_ok=True)
        words = " ".join(HydraConfig.get().overrides.task)
        build_console().print(f"\nJob {folder.name}: {words}", style="bold")
    try:
        yield
    except (Exception, DisplayedError) as error:
        cause = error.error if isinstance(error, DisplayedError) else error
        if is_global_rank_zero():
            if not isinstance(error, DisplayedError):
                traceback.print_exc()
            if not isinstance(cause, FolderInUseError):  # then the folder is another run's
                trace = "".join(traceback.format_exception(cause))
                write_failure(folder, _reason(cause), trace)
                print(f"Job {folder.name} failed; recorded in {failure}", file=sys.stderr)
        if is_distributed_worker():
            raise
    except BaseException:
        # The sweep ends here, and Hydra calls nobody; what has been done so far is still worth a table.
        if is_global_rank_zero() and HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
            release_folder(folder)  # the table tells live runs
            sweep = Path(HydraConfig.get().sweep.dir)
            report(sweep)
            rest = f"{shell_word('hydra.sweep.dir', str(sweep))} resume=auto"
            print(f"The same command with {rest} does what is left", flush=True)
        raise
    finally:
        release_folder(folder)
        # Trainer, task and model know each other; the next job needs their memory.
        gc.collect()


def lock_job_folder() -> None:
    """Lock the folder of this job for as long as it runs; outside of sweeps this does nothing.

    Raises:
        FolderInUseError: Another live run writes into it.
    """
    folder = sweep_job_folder()
    if folder is not None and is_global_rank_zero():
        lock_folder(folder, job_name(), "hydra.sweep.dir")


def _reason(error: BaseException) -> str:
    """The message, with the kind of exception unless it is one that our own code explains in full."""
    if isinstance(error, ConfigError):
        return "; ".join(": ".join(problem.lines()) for problem in error.problems)
    kind, text = type(error), str(error).strip()
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return text
    return f"{kind.__name__}: {text}" if text else kind.__name__


def finished_score(config: TrainConfig) -> float | None:
    """Score of a job that is done already, in a sweep that goes on (`resume=auto`); None if it is to run.

    Args:
        config: The job's configuration.
    """
    folder = sweep_job_folder()
    if folder is None or config.resume != "auto":
        return None
    run = read_run(folder)
    score = run.record.get(f"best_{config.monitor}")
    if run.failure is not None or score is None or run.record.get("epochs", 0) < config.trainer.max_epochs:
        return None
    if is_global_rank_zero():
        build_console().print(f"done already: best {config.monitor} {score:.4f}")
    return float(score)
