"""Packages that import what they offer when somebody asks for it."""

import importlib
from typing import get_args

import pytest

from kanvision.app import EVALUATIONS
from kanvision.config import EvalConfig
from kanvision.lazy import import_optional, load_on_demand

PACKAGES = ("checkpoints", "config", "data", "data.readers", "export", "losses", "metrics", "tasks")


@pytest.mark.parametrize("name", PACKAGES)
def test_all_that_a_package_offers_is_there(name: str) -> None:
    package = importlib.import_module(f"kanvision.{name}")
    assert [offer for offer in package.__all__ if not hasattr(package, offer)] == []
    with pytest.raises(AttributeError, match=f"module 'kanvision.{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_name_of_a_module_gives_the_module() -> None:
    get = load_on_demand("kanvision")
    assert get("models") is importlib.import_module("kanvision.models")
    assert get("kanify") is importlib.import_module("kanvision.models").kanify


def test_an_absent_module_is_none() -> None:
    """Catches a lock that fails on a system without fcntl instead of doing without it."""
    assert import_optional("json") is importlib.import_module("json")
    assert import_optional("no_such_module") is None


def test_each_mode_of_evaluation_has_a_function() -> None:
    assert set(EVALUATIONS) == set(get_args(EvalConfig.model_fields["mode"].annotation))
