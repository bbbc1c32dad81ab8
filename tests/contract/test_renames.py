"""One module for each backend renames files; everything that publishes goes through it."""

import ast

import pytest

from tests.helpers.imports import MODULES

MAY_RENAME = {
    "pipeline.runs.run_folder",
    "pipeline.storage.local_backend",
    "pipeline.storage.object_backend",
    "pipeline.storage.publish",
}


def renames_in(source: str) -> list[int]:
    """Return the lines that rename a file.

    They call os.replace, os.rename, shutil.move, Path.replace or Path.rename.
    """
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        by_module = (owner, node.func.attr) in {
            ("os", "replace"),
            ("os", "rename"),
            ("os", "renames"),
            ("shutil", "move"),
        }
        one_argument = len(node.args) == 1 and not node.keywords  # str.replace takes two
        by_path = (
            node.func.attr in ("replace", "rename")
            and one_argument
            and owner not in ("os", "dataclasses")
        )
        if by_module or by_path:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", []),
        ("text.replace('a', 'b')", []),
        ("dataclasses.replace(x, a=1)", []),
        ("os.replace(a, b)", [1]),
        ("x = 1\nos.rename(a, b)", [2]),
        ("path.replace(target)", [1]),
        ("(folder / 'a').rename(target)", [1]),
        ("shutil.move(a, b)", [1]),
    ],
)
def test_a_renaming_is_found(source: str, lines: list[int]) -> None:
    assert renames_in(source) == lines


@pytest.mark.parametrize("module", list(MODULES))
def test_only_the_publishing_modules_rename_files(module: str) -> None:
    assert (module in MAY_RENAME) is bool(renames_in(MODULES[module]))
