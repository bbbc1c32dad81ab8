"""Who may know whom. Reads the imports and the calls of the source, runs nothing."""

import ast
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).resolve().parent
PLUG_INS = ("source", "task", "engine", "executor", "sink", "format", "exporter", "examples")
LEAVES = ("boxes", "duplicates", "keys", "errors", "sniff", "jpeg")
# Moves files by name; everything else that publishes goes through it.
MAY_RENAME = {"pipeline.commit", "pipeline.disk", "pipeline.objects"}


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source, module="pipeline.x"):
    """Names of modules of this project that the source imports anywhere in it; `from pipeline import x` is pipeline.x."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            known = names & set(MODULES)
            found |= known or {base}
    return {name for name in found if name == "pipeline" or name.startswith("pipeline.")}


def renames_in(source):
    """Lines that rename a file: os.replace, os.rename, shutil.move, Path.replace and Path.rename (one argument)."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        by_module = (owner, node.func.attr) in {("os", "replace"), ("os", "rename"), ("os", "renames"), ("shutil", "move")}
        one_argument = len(node.args) == 1 and not node.keywords  # a text's replace has two
        by_path = node.func.attr in ("replace", "rename") and one_argument and owner not in ("os", "dataclasses")
        if by_module or by_path:
            lines.append(node.lineno)
    return lines


IMPORTS = {module: imports_of(source, module) for module, source in MODULES.items()}


def without_types(source):
    """The source without what stands below `if TYPE_CHECKING:`."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.unparse(tree)


RUNTIME_IMPORTS = {module: imports_of(without_types(source), module) for module, source in MODULES.items()}


def importers_of(module):
    return {name for name, imported in IMPORTS.items() if module in imported}


# --- the reader of imports itself


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", set()),
        ("import os, numpy.linalg", set()),
        ("import pipelines", set()),
        ("import pipeline.cli", {"pipeline.cli"}),
        ("import os, pipeline.run as r", {"pipeline.run"}),
        ("from pipeline.run import run", {"pipeline.run"}),
        ("from pipeline import run", {"pipeline.run"}),
        ("from pipeline import __version__", {"pipeline"}),
        ("from . import cli", {"pipeline.cli"}),
        ("from .run import run", {"pipeline.run"}),
        ("def f():\n    from pipeline.run import run", {"pipeline.run"}),
        ("if TYPE_CHECKING:\n    from pipeline.shard import ShardRunner", {"pipeline.shard"}),
    ],
)
def test_an_import_is_found_wherever_it_stands(source, expected):
    assert imports_of(source) == expected


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
def test_a_renaming_is_found(source, lines):
    assert renames_in(source) == lines


def test_the_modules_are_found():
    assert {"pipeline", "pipeline.run", "pipeline.cli", "pipeline.__main__", "pipeline.sink.parquet"} <= set(MODULES)
    assert IMPORTS["pipeline.run"] and all({f"pipeline.{leaf}"} <= set(MODULES) for leaf in LEAVES)
    assert all(any(module.startswith(f"pipeline.{kind}.") for module in MODULES) for kind in PLUG_INS)


# --- the rules

PLUGGED = [module for module in MODULES if module.split(".")[1:2] and module.split(".")[1] in PLUG_INS]


@pytest.mark.parametrize("module", PLUGGED)
def test_a_plug_in_does_not_know_a_plug_in_of_another_kind(module):
    kind = module.split(".")[1]
    others = tuple(f"pipeline.{other}." for other in PLUG_INS if other != kind)
    assert [name for name in IMPORTS[module] if f"{name}.".startswith(others)] == []


@pytest.mark.parametrize("module", [module for module in MODULES if module not in PLUGGED])
def test_the_core_knows_no_plug_in(module):
    kinds = tuple(f"pipeline.{kind}." for kind in PLUG_INS)
    assert [name for name in IMPORTS[module] if f"{name}.".startswith(kinds)] == []


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_knows_other_leaves_at_most(leaf):
    assert IMPORTS[f"pipeline.{leaf}"] <= {f"pipeline.{other}" for other in LEAVES}


def test_only_the_entry_point_knows_the_command_line():
    assert importers_of("pipeline.cli") <= {"pipeline.cli", "pipeline.__main__"}
    assert "pipeline.__main__" in importers_of("pipeline.cli")


def test_only_the_command_line_starts_a_run_or_a_benchmark():
    assert importers_of("pipeline.bench.measure") == {"pipeline.cli"}
    assert importers_of("pipeline.run") == {"pipeline.cli"}


def reached_from(module):
    """Every module that it imports, directly or through others; not what is imported for type checkers alone."""
    reached, waiting = set(), [module]
    while waiting:
        new = RUNTIME_IMPORTS.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("pipeline.review.")])
def test_what_reads_finished_runs_reaches_no_model(module):
    models = ["models", "assemble", "predict", "run", "engine", "format", "source", "executor"]
    beyond = tuple(f"pipeline.{one}." for one in models)
    assert [name for name in reached_from(module) if f"{name}.".startswith(beyond)] == []


def test_only_the_command_line_knows_the_verbs():
    verbs = {module for module in MODULES if module.startswith("pipeline.review.")}
    assert {importer for verb in verbs for importer in importers_of(verb)} <= {"pipeline.cli"}


def test_nothing_imports_the_entry_point():
    assert importers_of("pipeline.__main__") == set()


@pytest.mark.parametrize("module", list(MODULES))
def test_only_the_commit_module_renames_files(module):
    assert (module in MAY_RENAME) is bool(renames_in(MODULES[module]))
