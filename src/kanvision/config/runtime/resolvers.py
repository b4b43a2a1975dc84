"""Where a run writes: one folder for all its processes, found again after a restart.

`${run_id:}` names a run, `${run_dir:root,name,resume}` is its folder; `${main_metric:task,protocol}` is the
metric that chooses the best checkpoint unless something else is set, `${started:launcher,what}` the size of
the job (`kanvision.config.runtime.launchers`). Processes of one run agree on name and folder without talking
to each
other: those that Lightning starts inherit them through the environment, those that torchrun or Slurm start
take the name of their job, which also stays the same when the job is restarted.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from kanvision.config.checks.resume import why_other_training
from kanvision.config.validate import settings_in
from kanvision.spec.tasks import DEFAULT_PROTOCOLS, PROTOCOL_SUFFIXES

from .launchers import started
from .run_folder import CHOSEN_LATER, find_run_folder, is_finished, is_resumable, newest_unfinished
from .run_lock import RETRY, live_owner, process_start

__all__ = [
    "forget_run_dirs",
    "is_made_up",
    "job_name",
    "main_metric",
    "register_resolvers",
    "rename_run",
    "run_dir",
    "run_id",
    "sweep_job_folder",
]

RUN_ID = "KANVISION_RUN_ID"
RUN_DIR = "KANVISION_RUN_DIR"

_run_dirs: dict[tuple[str, str, str | None], str] = {}
"""Answers so far: the folder that a run has made must not look like another run's later on."""
_made_up: set[str] = set()
"""Names and folders that this process has made from the time of day, which another one may have made too."""


def register_resolvers() -> None:
    """Make the resolvers of this file known to OmegaConf; a new call forgets earlier answers."""
    forget_run_dirs()
    OmegaConf.register_new_resolver("main_metric", main_metric, replace=True)
    OmegaConf.register_new_resolver("run_id", run_id, replace=True)
    OmegaConf.register_new_resolver("run_dir", _remembered_run_dir, replace=True)
    OmegaConf.register_new_resolver("started", started, replace=True)


def forget_run_dirs() -> None:
    """Let folders of runs be looked for anew."""
    _run_dirs.clear()


def _remembered_run_dir(root: str, name: str, resume: str | None, *, _root_: DictConfig) -> str:
    question = (str(root), str(name), resume)
    if question not in _run_dirs or sweep_job_folder() is not None:
        _run_dirs[question] = run_dir(*question, config=_root_)
    return _run_dirs[question]


def main_metric(task: str, protocol: str | Sequence[str]) -> str:
    """Name of the validation metric by which runs of a task are compared.

    Args:
        task: What the data are for.
        protocol: How masks are scored; the first one decides.
    """
    if task != "segmentation":
        return "val/acc1"
    first = protocol if isinstance(protocol, str) else next(iter(protocol), DEFAULT_PROTOCOLS[0])
    suffixes: dict[str, str] = dict(PROTOCOL_SUFFIXES.items())
    return f"val/iou{suffixes.get(first, '')}"


def run_id() -> str:
    """Name of this run: given by KANVISION_RUN_ID, else by the job, else the time of day.

    The name is exported, so that processes started by this one share it.

    Raises:
        ValueError: torchrun runs on several machines and was not told the name of its job.
    """
    name = os.environ.get(RUN_ID) or job_name()
    if name is None:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        _made_up.add(name)
    os.environ[RUN_ID] = name
    return name


def rename_run(name: str) -> None:
    """Give this run another name made from the time of day."""
    _made_up.add(name)
    os.environ[RUN_ID] = name


def is_made_up(name: str | Path) -> bool:
    """Whether this process has made the name, or the folder, from the time of day."""
    return str(name) in _made_up


def job_name() -> str | None:
    """Name of the torchrun or Slurm job that this process belongs to; the same after a restart of the job."""
    environment = os.environ
    torchrun = environment.get("TORCHELASTIC_RUN_ID")
    if torchrun == "none":  # torchrun was given no --rdzv-id
        if environment.get("WORLD_SIZE") != environment.get("LOCAL_WORLD_SIZE"):
            raise ValueError("torchrun on several machines needs --rdzv-id=<name>, the same on each of them.")
        # the same for all its children
        parent = os.getppid()
        torchrun = "_".join(filter(None, (str(parent), process_start(parent))))
    if torchrun:
        return f"torchrun_{torchrun}"
    # In an interactive allocation many runs share one job.
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_PROCID" in environment and not interactive:
        words = ("slurm", environment["SLURM_JOB_ID"], environment.get("SLURM_STEP_ID"))
        return "_".join(word for word in words if word)
    return None


def run_dir(root: str, name: str, resume: str | None, config: DictConfig | None = None) -> str:
    """Folder of this run: `<root>/<name>/<id>`, or the folder of the run that is resumed.

    A folder with metrics.json holds a finished run; it is written again only when it is resumed by its path.

    Args:
        root: Folder of all runs.
        name: Folder of this kind of run.
        resume: None; `auto`, an unfinished run of this name that has a checkpoint, if there is one: that of
            this job before it was restarted, else the newest of the same training that no live process
            writes into; or a run folder or a checkpoint in one.
        config: The whole configuration, which tells the training; None: any will do.
    """
    job_folder = sweep_job_folder()
    if job_folder is not None:
        return _exported(str(job_folder))
    if int(os.environ.get("LOCAL_RANK", "0")) > 0 and RUN_DIR in os.environ:
        return os.environ[RUN_DIR]  # started by rank 0, which has decided
    home = Path(root, name)
    if resume == "auto":
        own = home / run_id() if _is_named() else None
        resumed = (
            own if own is not None and is_resumable(own) else newest_unfinished(home, _passes_over(config))
        )
    else:
        resumed = find_run_folder(resume) if resume else None
    return _exported(str(resumed or _new_folder(home)))


def _exported(folder: str) -> str:
    os.environ[RUN_DIR] = folder
    return folder


def sweep_job_folder() -> Path | None:
    """Folder of the running job of a sweep; None outside of sweeps.

    Each process that Lightning starts goes through the whole sweep too, in step with rank 0.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    if OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return None
    return Path(HydraConfig.get().runtime.output_dir)


def _is_named() -> bool:
    """Whether this run has a name that is the same when it comes again."""
    return not is_made_up(run_id())


def _passes_over(config: DictConfig | None) -> Callable[[Path], bool]:
    """Return what tells a run that a new one must not go on with: one of other settings, or a live one."""
    if config is None:
        return _is_taken
    task = copy.deepcopy(config)
    with open_dict(task):
        task.pop("hydra", None)
        task.run.dir = CHOSEN_LATER
    settings = settings_in(task)  # None: the run is about to be refused
    return lambda folder: settings is None or bool(why_other_training(folder, settings)) or _is_taken(folder)


def _is_taken(folder: Path) -> bool:
    """Whether a live process that is none of this job's writes into a folder."""
    job, owner = job_name(), live_owner(folder)
    if owner is not None and job is not None and owner.job != job:
        time.sleep(RETRY)  # the first process of this job may be about to write its name
        owner = live_owner(folder)
    return owner is not None and (job is None or owner.job != job)


def _new_folder(home: Path) -> Path:
    """`<home>/<id>`, with a number behind it if that holds another run.

    A name from the environment or from the job means the same run when it comes again, until that run has
    finished; a name made from the time of day is taken as soon as somebody uses it.
    """
    stem = run_id()
    for number in count(1):
        folder = home / (stem if number == 1 else f"{stem}_{number}")
        if not folder.exists() or (_is_named() and not is_finished(folder)):
            if not _is_named():
                _made_up.add(str(folder))
            return folder
    raise AssertionError("count never ends")
