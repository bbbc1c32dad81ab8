"""Publish folders and files outside of runs to an object store, and the pointer `latest`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri
from pipeline.core.passed_over import OWN_MARKER, OWN_MARKER_TEXT
from pipeline.storage.object_backend import ObjectBackend


@contextmanager
def publish_objects(target: Uri, replace: bool) -> Iterator[Path]:
    """Yield a local folder whose files become objects below `target` when the context ends.

    The objects appear one after the other. Then other objects below `target` are removed. After an
    exception nothing is changed.

    Raises:
        ConfigError: There are objects already, and `replace` is false.
    """
    store = ObjectBackend(target)
    old_names = set(_list_below(store))
    if old_names and not replace:
        raise ConfigError(
            f"output={target}: there is something already. Name a place where nothing is."
        )

    stage = store.staging / "folder"
    stage.mkdir(parents=True)
    yield stage

    files = [path for path in sorted(stage.rglob("*")) if path.is_file() and not path.is_symlink()]
    new_names = {str(path.relative_to(stage)) for path in files}
    store.write(OWN_MARKER, OWN_MARKER_TEXT.encode())
    store.publish(files, stage)
    for name in old_names - new_names - {OWN_MARKER}:
        store.remove(name)


@contextmanager
def publish_object(target: Uri, replace: bool) -> Iterator[Path]:
    """Yield a local path whose file becomes the object `target` when the context ends.

    After an exception nothing is changed.

    Raises:
        ConfigError: The object exists, and `replace` is false.
    """
    store = ObjectBackend(target.parent)
    if not replace and store.find_existing([target.name]):
        raise ConfigError(
            f"output={target}: there is something already. Name a file that does not exist."
        )

    stage = store.staging / target.name
    stage.parent.mkdir(parents=True)
    yield stage
    store.publish([stage], store.staging)


def write_latest(run: Uri) -> None:
    """Write the object `latest` beside a run, which names the run."""
    ObjectBackend(run.parent).write("latest", run.name.encode())


def resolve_latest(run: Uri) -> Uri:
    """Return the run that `latest` names. Any other address is returned as it is."""
    if run.name != "latest":
        return run
    store = ObjectBackend(run.parent)  # the variable keeps the fetched copy alive
    path = store.fetch("latest")
    return run.parent / path.read_text().strip() if path.is_file() else run


def _list_below(store: ObjectBackend, folder: str = "") -> Iterator[str]:
    """Yield the names of all objects below a folder."""
    for entry in store.list_objects(folder):
        name = folder + str(entry["name"]).rstrip("/").rpartition("/")[2]
        if entry["type"] == "directory":
            yield from _list_below(store, f"{name}/")
        else:
            yield name
