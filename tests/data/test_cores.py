"""The number of cores, on systems that say which ones and on those that do not."""

import os

import pytest

from kanvision.data.cores import num_cores


def test_the_cores_that_the_process_may_use() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)


def test_a_system_without_affinity_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert num_cores() == os.cpu_count()
