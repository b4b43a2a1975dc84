"""A test for each name that the tested plugins register."""

from __future__ import annotations

import pytest

from kanvision import plugins
from kanvision.config import ConfigError, load_plugins


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each name of the kind that its argument asks for."""
    try:
        load_plugins([f"plugins=[{name}]" for name in metafunc.config.getoption("plugin")])
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    if not plugins.LOADED:
        raise pytest.UsageError("no plugin is installed; name one: --plugin my_package")
    from .registered import KINDS  # reads the registries that plugins extend

    for argument, find in KINDS.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, find())
