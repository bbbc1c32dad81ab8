"""A copy of the program with further components in it, called through its command line."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.paths import REPOSITORY


@dataclass(frozen=True)
class ProgramCopy:
    """The program in a folder of its own, which is also the working directory of its calls."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "ProgramCopy":
        """Copy the package and its configuration."""
        for name in ("pipeline", "conf"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
        (folder / "data").symlink_to(REPOSITORY / "data")
        return cls(folder)

    def call(self, *words: str, code: int = 0) -> str:
        """Run a verb, check its exit code, and return all that it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words],
            check=False,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr
