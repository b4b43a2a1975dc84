"""Composing, checking and explaining configurations; nothing here imports torch."""

from .batches import batch_problems, share_batch
from .check_schema import CheckConfig
from .choices import Choices
from .command_line import check_command_line
from .composition import compose
from .folder_locks import FolderLocks
from .keys import in_yaml
from .launchers import is_first_of_machine, is_one_of_several
from .problems import (
    ConfigError,
    Problem,
    ShownError,
    blaming,
    disk_error,
    is_first_process,
    shown_as_text,
)
from .remarks import notes
from .resolvers import job_name, register_resolvers, sweep_job_folder
from .run_folder import checkpoints_of
from .run_lock import FolderInUseError, live_owner, lock_folder, release_folder
from .schema import EvalConfig, TrainConfig
from .texts import shell_word
from .validate import parse_eval, parse_train, to_primitive, train_config

__all__ = [
    "CheckConfig",
    "Choices",
    "ConfigError",
    "EvalConfig",
    "FolderInUseError",
    "FolderLocks",
    "Problem",
    "ShownError",
    "TrainConfig",
    "batch_problems",
    "blaming",
    "check_command_line",
    "checkpoints_of",
    "compose",
    "disk_error",
    "in_yaml",
    "is_first_of_machine",
    "is_first_process",
    "is_one_of_several",
    "job_name",
    "live_owner",
    "lock_folder",
    "notes",
    "parse_eval",
    "parse_train",
    "register_resolvers",
    "release_folder",
    "share_batch",
    "shell_word",
    "shown_as_text",
    "sweep_job_folder",
    "to_primitive",
    "train_config",
]
