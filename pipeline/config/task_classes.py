"""Find the classes of tasks by name, and the tasks that a model's outputs can serve."""

from collections.abc import Set
from functools import cache
from typing import cast

from pipeline.config.instantiate import find_class
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import Task


def find_task(name: str) -> type[Task]:
    """Return the class of the task with this name.

    Raises:
        ConfigError: There is no such task. The name may come from a run of another program.
    """
    return cast("type[Task]", find_class("task", name))


@cache
def list_tasks() -> dict[str, type[Task]]:
    """Return all tasks by name, in alphabetical order."""
    names = sorted(path.stem for path in (find_resource("conf") / "task").glob("*.yaml"))
    return {name: find_task(name) for name in names}


def list_served_tasks(outputs: Set[str], takes_clips: bool = False) -> list[str]:
    """Return the names of the tasks that a model with these outputs can serve.

    Args:
        outputs: Names of the model's outputs for each input, as `core.types.Model` lists them.
        takes_clips: Whether the model's inputs are clips of videos, not images.
    """
    return [
        name
        for name, task in list_tasks().items()
        if task.needs <= outputs and task.takes_clips == takes_clips
    ]
