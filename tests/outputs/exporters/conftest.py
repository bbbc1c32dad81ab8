"""Export runs as a user does, with the command `export`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.command_options import read_options
from pipeline.results.commands.export import Options, run_command


@pytest.fixture
def export() -> Callable[..., Path]:
    """export(run, "coco", "images=link") returns the folder."""

    def call(run: Path, to: str, *words: str) -> Path:
        said = run_command(read_options("export", [f"run={run}", f"to={to}", *words], Options))
        return Path(said.partition(": ")[0])

    return call
