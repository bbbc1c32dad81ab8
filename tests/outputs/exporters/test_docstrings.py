"""The files that the docstrings of exporters show are the files that they write."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import REPOSITORY

Export = Callable[..., Path]
CONFIGS = sorted((REPOSITORY / "conf" / "exporter").glob("*.yaml"))
# "labels/desk/cat.txt, for images/desk/cat.jpg:" or "Write images.jsonl:", then an indented block.
FILE = re.compile(r"^(?:Write )?(\S+\.\w+)(?:,? [^\n]*)?:\n\n((?:    [^\n]*\n)+)", re.MULTILINE)


def read_docstring(config: Path) -> str:
    module, _, name = OmegaConf.load(config)._target_.rpartition(".")
    return inspect.getdoc(getattr(import_module(module), name)) or ""


def remove_blanks(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [Row("desk/cat.jpg", (480, 640), [box(1, 0.5, 64, 48, 320, 240)])]
    return made_run(tmp_path_factory.mktemp("run") / "run", rows, input=Path("/data/photos"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_docstring_shows_the_files(config: Path, run: Path, export: Export) -> None:
    folder = export(run, config.stem)
    shown = FILE.findall(read_docstring(config) + "\n")
    assert shown, "a docstring names a file, and shows its text as an indented block"
    for name, block in shown:
        content = remove_blanks((folder / name).read_text())
        for excerpt in re.split(r"(?m)^ *\.\.\.\n", block):
            assert remove_blanks(excerpt) in content, name
