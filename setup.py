"""Build steps that pyproject.toml cannot state: conf/ as package data, and the commit of the code."""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
COMMIT = "commit.txt"


def read_commit() -> str:
    """Return the commit of this checkout, +dirty if files differ from it, or that of an unpacked sdist."""
    written = ROOT / "src" / "kanvision" / COMMIT
    if written.is_file():
        return written.read_text("utf-8")

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return ""  # the checkout of something else around this folder
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


class BuildWithConf(build_py):
    """Build of the package with conf/ and the commit in it; an editable install reads both in place."""

    def run(self) -> None:
        """Copy the modules, conf/ and the commit."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "kanvision"
            shutil.rmtree(package / "conf", ignore_errors=True)  # files that a former build left there
            shutil.copytree(ROOT / "conf", package / "conf")
            (package / COMMIT).write_text(read_commit(), "utf-8")


class SdistWithCommit(sdist):
    """Source archive that knows the commit it was made from."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files, and write the commit beside them."""
        super().make_release_tree(base_dir, files)
        (Path(base_dir) / "src" / "kanvision" / COMMIT).write_text(read_commit(), "utf-8")


setup(cmdclass={"build_py": BuildWithConf, "sdist": SdistWithCommit})
