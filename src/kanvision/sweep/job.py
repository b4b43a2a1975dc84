"""Jobs of a sweep: title, lock, record of a failure, after which other jobs still run; table at the end."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

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

__all__ = ["SweepReport", "finished_score", "lock_job_folder", "sweep_job"]


@contextmanager
def sweep_job() -> Iterator[None]:
    """Run the block as a job of a sweep; no effect outside of sweeps.

    A failure is printed, recorded in the folder of the job, and not raised, so that the other jobs run: the
    table of the sweep has the reason, and the exit status of the sweep is not 0. With several processes for
    one job the failure is raised, because the others cannot continue. So are Ctrl-C and signals.
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
            if not isinstance(cause, FolderInUseError):  # then the folder belongs to another run
                trace = "".join(traceback.format_exception(cause))
                write_failure(folder, _reason(cause), trace)
                print(f"Job {folder.name} failed; recorded in {failure}", file=sys.stderr)
        if is_distributed_worker():
            raise
    except BaseException:
        # The sweep ends here without a callback of Hydra: report its finished jobs.
        if is_global_rank_zero() and HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
            release_folder(folder)  # the table marks live runs
            sweep = Path(HydraConfig.get().sweep.dir)
            report(sweep)
            rest = f"{shell_word('hydra.sweep.dir', str(sweep))} resume=auto"
            print(f"The same command with {rest} runs the remaining jobs", flush=True)
        raise
    finally:
        release_folder(folder)
        # Trainer, task and model refer to each other; the next job needs their memory.
        gc.collect()


def lock_job_folder() -> None:
    """Lock the folder of this job of a sweep, if it is one; FolderInUseError if a live run writes there."""
    folder = sweep_job_folder()
    if folder is not None and is_global_rank_zero():
        lock_folder(folder, job_name(), "hydra.sweep.dir")


def _reason(error: BaseException) -> str:
    """Return the message of an error, with its type unless the error is one of kanvision."""
    if isinstance(error, ConfigError):
        return "; ".join(": ".join(problem.lines()) for problem in error.problems)
    kind, text = type(error), str(error).strip()
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return text
    return f"{kind.__name__}: {text}" if text else kind.__name__


def finished_score(config: TrainConfig) -> float | None:
    """Return the score of a finished job of a resumed sweep (`resume=auto`); None if the job must run."""
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


class SweepReport(Callback):
    """Callback that reports a sweep after its last job; the exit status is 1 if a job has failed.

    It works with every launcher and sweeper, because it reads only the folders of the jobs.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table."""
        if not is_global_rank_zero():
            return
        if any(table.failures for table in report(Path(config.hydra.sweep.dir))):
            # Hydra turns any other exception of a callback into a warning.
            raise SystemExit(1)
