"""Composing, checking and explaining configurations; nothing here imports torch."""

from .choices import Choices
from .command_line import check_command_line
from .composition import compose
from .problems import ConfigError, Problem, blaming, shown_as_text
from .remarks import notes
from .resolvers import register_resolvers
from .schema import EvalConfig, TrainConfig
from .validate import parse_eval, parse_train, to_primitive, train_config

__all__ = [
    "Choices",
    "ConfigError",
    "EvalConfig",
    "Problem",
    "TrainConfig",
    "blaming",
    "check_command_line",
    "compose",
    "notes",
    "parse_eval",
    "parse_train",
    "register_resolvers",
    "shown_as_text",
    "to_primitive",
    "train_config",
]
