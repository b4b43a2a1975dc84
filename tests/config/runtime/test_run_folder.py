"""Whether anything can be written where a run is to be, before it starts."""

import os
from pathlib import Path

import pytest

from kanvision.config.runtime.run_folder import unwritable


def test_a_folder_that_has_to_be_made_is_as_good_as_the_one_around_it(tmp_path: Path):
    assert unwritable(tmp_path) == unwritable(tmp_path / "runs" / "deep" / "below") == ""
    (tmp_path / "file").write_text("")
    assert unwritable(tmp_path / "file" / "run") == f"{tmp_path / 'file'} is a file, not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path):
    tmp_path.chmod(0o500)
    assert unwritable(tmp_path / "run") == f"{tmp_path} may not be written to"
    tmp_path.chmod(0o700)


def test_the_command_line_names_the_key(judge, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for key in ("run.dir", "run.root"):
        (problem,) = judge(f"{key}={tmp_path}/file/x")
        assert problem.keys == (key,)
        assert problem.why == f"nothing can be written there: {tmp_path / 'file'} is a file, not a folder"
        assert problem.fix == f"choose another {key}"
    assert judge(f"run.dir={tmp_path}/file/x", "debug=fdr") == []
