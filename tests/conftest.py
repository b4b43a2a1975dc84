"""Settings of the whole suite."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread_each():
    """Several test processes share the cores; threads that wait for each other would slow all of them."""
    torch.set_num_threads(1)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Work in an empty folder: a run is refused where nothing can be written."""
    monkeypatch.chdir(tmp_path)
