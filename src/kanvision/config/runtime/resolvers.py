"""Resolvers of the configuration: name and folder of a run, its main metric, the size of its job.

`${run_id:}` is the name of a run, `${run_dir:root,name,resume}` its folder, `${run_key:dir}` a name for that
folder, `${main_metric:task,protocol}` the default metric that selects the best checkpoint,
`${started:launcher,what}` the size of the job (`kanvision.config.runtime.launchers`). All processes of a run
have the same name and folder without communication: processes of Lightning inherit them through the
environment, those of torchrun or Slurm use the name of their job, which stays the same when the job is
restarted.
"""

from __future__ import annotations

import copy
import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from kanvision.config.checks.resume import why_other_training
from kanvision.config.validate import parse_settings
from kanvision.spec.tasks import DEFAULT_PROTOCOLS, PROTOCOL_SUFFIXES

from .launchers import started
from .run_folder import CHOSEN_LATER, find_run_folder, is_finished, is_resumable, newest_unfinished
from .run_lock import RETRY, live_owner, process_start

__all__ = [
    "experiment_choice",
    "forget_run_dirs",
    "forget_run_id",
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
"""Folders by arguments: once made, the folder of this run would look like that of another run."""
_made_up: set[str] = set()
"""Names and folders from the time of day; another process may have made the same ones."""


def register_resolvers() -> None:
    """Register the resolvers of this module with OmegaConf; a new call clears the cached folders."""
    forget_run_dirs()
    OmegaConf.register_new_resolver("main_metric", main_metric, replace=True)
    OmegaConf.register_new_resolver("run_id", run_id, replace=True)
    OmegaConf.register_new_resolver("run_dir", _remembered_run_dir, replace=True)
    OmegaConf.register_new_resolver("run_key", run_key, replace=True)
    OmegaConf.register_new_resolver("started", started, replace=True)


def experiment_choice() -> str | None:
    """Return the experiment that the command line of this run chooses; None if there is none."""
    if not HydraConfig.initialized():
        return None
    name = HydraConfig.get().runtime.choices.get("experiment")
    return None if name is None else str(name)


def forget_run_id() -> None:
    """Forget the name of the last run of this process, unless the environment or a job gave it."""
    if is_made_up(os.environ.get(RUN_ID, "")):
        del os.environ[RUN_ID]
        os.environ.pop(RUN_DIR, None)


def forget_run_dirs() -> None:
    """Clear the cached folders of runs."""
    _run_dirs.clear()


def _remembered_run_dir(root: str, name: str, resume: str | None, *, _root_: DictConfig) -> str:
    arguments = (str(root), str(name), resume)
    if arguments not in _run_dirs or sweep_job_folder() is not None:
        _run_dirs[arguments] = run_dir(*arguments, config=_root_)
    return _run_dirs[arguments]


def run_key(folder: str) -> str:
    """Return a name for the folder of a run without the characters that services refuse."""
    return re.sub(r"[^\w.-]+", "_", folder.strip("/"))


def main_metric(task: str, protocol: str | Sequence[str]) -> str:
    """Return the validation metric that compares runs of a task, under the first of several protocols."""
    if task != "segmentation":
        return "val/acc1"
    first = protocol if isinstance(protocol, str) else next(iter(protocol), DEFAULT_PROTOCOLS[0])
    suffixes: dict[str, str] = dict(PROTOCOL_SUFFIXES.items())
    return f"val/iou{suffixes.get(first, '')}"


def run_id() -> str:
    """Return the name of this run: KANVISION_RUN_ID, else the name of the job, else the time of day.

    The name is exported, so that child processes share it.

    Raises:
        ValueError: torchrun runs on several machines without a name of its job.
    """
    name = os.environ.get(RUN_ID) or job_name()
    if name is None:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        _made_up.add(name)
    os.environ[RUN_ID] = name
    return name


def rename_run(name: str) -> None:
    """Give this run another name from the time of day."""
    _made_up.add(name)
    os.environ[RUN_ID] = name


def is_made_up(name: str | Path) -> bool:
    """Return True if this process made the name, or the folder, from the time of day."""
    return str(name) in _made_up


def job_name() -> str | None:
    """Return the name of the torchrun or Slurm job of this process; the same after a restart of the job."""
    environment = os.environ
    torchrun = environment.get("TORCHELASTIC_RUN_ID")
    if torchrun == "none":  # torchrun has no --rdzv-id
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
    """Return the folder of this run: `<root>/<name>/<id>`, or the folder of the resumed run.

    A folder with metrics.json holds a finished run, which is resumed only by its path.

    Args:
        root: Folder of all runs.
        name: Folder of this kind of run.
        resume: None; `auto`, an unfinished run of this name with a checkpoint, if there is one: the run of
            this job before its restart, else the newest run of the same training that no live process
            writes; or a run folder or a checkpoint in one.
        config: The whole configuration, to compare the training; None accepts every training.
    """
    job_folder = sweep_job_folder()
    if job_folder is not None:
        return _exported(str(job_folder))
    if int(os.environ.get("LOCAL_RANK", "0")) > 0 and RUN_DIR in os.environ:
        return os.environ[RUN_DIR]  # started by rank 0, which has chosen the folder
    home = Path(root, name)
    if resume == "auto":
        own = home / run_id() if _is_named() else None
        resumed = (
            own if own is not None and is_resumable(own) else newest_unfinished(home, _exclusion(config))
        )
    else:
        resumed = find_run_folder(resume) if resume else None
    return _exported(str(resumed or _new_folder(home)))


def _exported(folder: str) -> str:
    os.environ[RUN_DIR] = folder
    return folder


def sweep_job_folder() -> Path | None:
    """Return the folder of the running job of a sweep; None outside of sweeps.

    Each process that Lightning starts runs the whole sweep too, in step with rank 0.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    if OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return None
    return Path(HydraConfig.get().runtime.output_dir)


def _is_named() -> bool:
    """Return True if the name of this run stays the same after a restart."""
    return not is_made_up(run_id())


def _exclusion(config: DictConfig | None) -> Callable[[Path], bool]:
    """Return a function that is True for runs that cannot be resumed: another training, or a live run."""
    if config is None:
        return _is_taken
    task = copy.deepcopy(config)
    with open_dict(task):
        task.pop("hydra", None)
        task.run.dir = CHOSEN_LATER
    settings = parse_settings(task)  # None: validation will refuse the configuration
    return lambda folder: settings is None or bool(why_other_training(folder, settings)) or _is_taken(folder)


def _is_taken(folder: Path) -> bool:
    """Return True if a live process of another job writes into a folder."""
    job, owner = job_name(), live_owner(folder)
    if owner is not None and job is not None and owner.job != job:
        time.sleep(RETRY)  # the first process of this job may be about to write its name
        owner = live_owner(folder)
    return owner is not None and (job is None or owner.job != job)


def _new_folder(home: Path) -> Path:
    """Return `<home>/<id>`, with a number at its end if that folder holds another run.

    A name from the environment or the job stands for the same run after a restart, until that run has
    finished. A name from the time of day stands for one process.
    """
    stem = run_id()
    for number in count(1):
        folder = home / (stem if number == 1 else f"{stem}_{number}")
        if not folder.exists() or (_is_named() and not is_finished(folder)):
            if not _is_named():
                _made_up.add(str(folder))
            return folder
    raise AssertionError("count never ends")
