"""Find the classes of tasks by name, and the tasks that a model's outputs are enough for."""

from collections.abc import Set
from functools import cache
from typing import cast

from pipeline.config.instantiate import find_class
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import Task


def find_task(name: str) -> type[Task]:
    """Return the class of the task of this name, which declares what its rows hold.

    Raises:
        ConfigError: there is no such task. Its name may come from another program's run.
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
        outputs: names of what the model returns for each input, as `core.types.Model` lists them.
        takes_clips: whether the model's inputs are clips of videos, not images.
    """
    return [
        name
        for name, task in list_tasks().items()
        if task.needs <= outputs and task.takes_clips == takes_clips
    ]
