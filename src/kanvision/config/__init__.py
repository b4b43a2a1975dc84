"""Composing, checking and explaining configurations; nothing here imports torch."""

from .checks.batch_size import batch_problems, share_batch
from .checks.unused_settings import notes
from .cli.command_line import check_command_line
from .cli.compose import compose
from .cli.quoting import shell_word
from .errors import (
    ConfigError,
    Problem,
    ShownError,
    blaming,
    disk_error,
    is_first_process,
    shown_as_text,
)
from .groups import Choices
from .keys import in_yaml
from .runtime.folder_locks import FolderLocks
from .runtime.launchers import is_first_of_machine, is_one_of_several
from .runtime.resolvers import job_name, register_resolvers, sweep_job_folder
from .runtime.run_folder import checkpoints_of
from .runtime.run_lock import FolderInUseError, live_owner, lock_folder, release_folder
from .schema.evaluation import CheckConfig
from .schema.root import EvalConfig, TrainConfig
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
