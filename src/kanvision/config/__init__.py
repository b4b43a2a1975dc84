"""Composition, validation and help of configurations; nothing here imports torch.

Members are imported on first use, so that a stored configuration can be read without Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kanvision.lazy import load_on_demand

from .program import key_reference, program  # a function with the name of its module

if TYPE_CHECKING:
    from .checks.batch_size import batch_problems, share_batch
    from .checks.unused_settings import notes
    from .cli.command_line import check_command_line
    from .cli.compose import compose
    from .cli.launch import launch
    from .cli.quoting import shell_word
    from .conf_folder import CONF
    from .errors import (
        ConfigError,
        DisplayedError,
        Problem,
        as_config_error,
        disk_error,
        exit_with_message,
        is_global_rank_zero,
    )
    from .extension import register_section
    from .groups import ConfigGroups
    from .plugins import load_plugins
    from .runtime.folder_locks import FolderLocks
    from .runtime.launchers import is_distributed_worker, is_local_rank_zero
    from .runtime.resolvers import experiment_choice, job_name, register_resolvers, sweep_job_folder
    from .runtime.run_folder import list_checkpoints
    from .runtime.run_lock import FolderInUseError, live_owner, lock_folder, release_folder
    from .schema.keys import format_yaml
    from .schema.root import EvalConfig, TrainConfig
    from .schema.standalone import BenchmarkConfig, CheckConfig, ReportConfig
    from .stored_config import to_primitive, train_config
    from .validate import parse_eval, parse_train

__all__ = [
    "CONF",
    "BenchmarkConfig",
    "CheckConfig",
    "ConfigError",
    "ConfigGroups",
    "DisplayedError",
    "EvalConfig",
    "FolderInUseError",
    "FolderLocks",
    "Problem",
    "ReportConfig",
    "TrainConfig",
    "as_config_error",
    "batch_problems",
    "check_command_line",
    "compose",
    "disk_error",
    "exit_with_message",
    "experiment_choice",
    "format_yaml",
    "is_distributed_worker",
    "is_global_rank_zero",
    "is_local_rank_zero",
    "job_name",
    "key_reference",
    "launch",
    "list_checkpoints",
    "live_owner",
    "load_plugins",
    "lock_folder",
    "notes",
    "parse_eval",
    "parse_train",
    "program",
    "register_resolvers",
    "register_section",
    "release_folder",
    "share_batch",
    "shell_word",
    "sweep_job_folder",
    "to_primitive",
    "train_config",
]

__getattr__ = load_on_demand(__name__)
