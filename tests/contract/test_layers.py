"""Rooms import downward only. See the table of rooms in docs/contributing.md."""

import sys

import pytest

from tests.helpers.imports import (
    COMPONENT_FOLDERS,
    IMPORTS,
    MODULES,
    importers_of,
    imports_of,
    own_imports,
    reachable_from,
    room_of,
    without_types,
)

LAYERS = [
    {"core"},
    {"config", "storage", "ops"},
    {"inputs", "models", "tasks", "outputs"},
    {"inference", "annotations"},
    {"runs"},
    {"results"},
    {"training"},
    {"run", "api"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
COMPONENTS = tuple(f"pipeline.{folder.replace('/', '.')}." for folder in COMPONENT_FOLDERS.values())
NAMED = [module for module in MODULES if module != "pipeline"]


def forbidden(module: str, imported: set[str]) -> list[str]:
    """Return the imported modules that lie in a room above or beside the module's own."""
    room = room_of(module)
    others = [name for name in imported if name != "pipeline" and room_of(name) != room]
    return sorted(name for name in others if LEVEL[room_of(name)] >= LEVEL[room])


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
        ("if TYPE_CHECKING:\n    from pipeline.runs.plan import Plan", {"pipeline.runs.plan"}),
    ],
)
def test_an_import_is_found_wherever_it_stands(source: str, expected: set[str]) -> None:
    assert own_imports(source) == expected


@pytest.mark.parametrize(
    ("module", "imported", "expected"),
    [
        ("pipeline.core.keys", {"pipeline.core.errors", "pipeline"}, []),
        ("pipeline.runs.plan", {"pipeline.inference.loader", "pipeline.core.keys"}, []),
        ("pipeline.core.keys", {"pipeline.storage.listing"}, ["pipeline.storage.listing"]),
        ("pipeline.inputs.video_source", {"pipeline.models.weights"}, ["pipeline.models.weights"]),
    ],
)
def test_an_import_upward_or_sideways_is_found(
    module: str, imported: set[str], expected: list[str]
) -> None:
    assert forbidden(module, imported) == expected


def test_every_module_is_in_a_room() -> None:
    assert {room_of(module) for module in NAMED} - set(LEVEL) == set()
    assert len(
        [module for module in NAMED if (module.count(".") == 1 and importers_of(module)) or True]
    ) == len(NAMED)


@pytest.mark.parametrize("module", NAMED)
def test_a_module_imports_from_its_own_room_and_from_rooms_below_it(module: str) -> None:
    assert forbidden(module, IMPORTS[module]) == []


@pytest.mark.parametrize("module", [module for module in NAMED if module.startswith(COMPONENTS)])
def test_a_component_imports_no_component(module: str) -> None:
    packages = {prefix.removesuffix(".") for prefix in COMPONENTS}
    imported = {name for name in IMPORTS[module] if name.startswith(COMPONENTS) or name in packages}
    assert imported == set()


@pytest.mark.parametrize(
    "module", [module for module in NAMED if not module.startswith(COMPONENTS)]
)
def test_nothing_imports_a_component_by_name(module: str) -> None:
    assert [name for name in IMPORTS[module] if name.startswith(COMPONENTS)] == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert [module for module in NAMED if module in reachable_from(module)] == []


def test_the_supervisor_imports_the_standard_library_only() -> None:
    supervisor = "pipeline.runs.isolation.supervisor"
    for module in {supervisor} | reachable_from(supervisor):
        imported = {
            name.partition(".")[0] for name in imports_of(without_types(MODULES[module]), module)
        }
        assert imported - set(sys.stdlib_module_names) <= {"pipeline"}, module


def test_only_the_entry_point_imports_the_command_line() -> None:
    assert importers_of("pipeline.cli") == {"pipeline.__main__"}
    assert importers_of("pipeline.__main__") == set()


def test_only_the_command_line_starts_a_run_or_a_benchmark() -> None:
    assert importers_of("pipeline.runs.bench.benchmark") == {"pipeline.cli"}
    assert importers_of("pipeline.run") == {"pipeline.cli"}


VERBS = [module for module in NAMED if module.startswith("pipeline.results.commands.")]


@pytest.mark.parametrize("verb", VERBS)
def test_what_reads_finished_runs_reaches_no_model(verb: str) -> None:
    beyond = (
        "pipeline.models.",
        "pipeline.inference.",
        "pipeline.inputs.sources.",
        "pipeline.runs.executors.",
    )
    assert [
        name for name in reachable_from(verb) if name.startswith(beyond) or name == "pipeline.run"
    ] == []


def test_only_the_command_line_imports_the_verbs() -> None:
    assert {importer for verb in VERBS for importer in importers_of(verb)} <= {"pipeline.cli"}
