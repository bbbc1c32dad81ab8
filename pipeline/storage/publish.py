"""Publish a folder or a file atomically: the target is complete, or stays as it was."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path

from pipeline.core.errors import ConfigError, is_disk_full
from pipeline.core.locations import Location, Uri
from pipeline.core.passed_over import OWN_MARKER, OWN_MARKER_TEXT
from pipeline.storage.durable_files import fsync_path, fsync_paths
from pipeline.storage.object_publish import publish_object, publish_objects


def publish_folder(target: Location, replace: bool) -> AbstractContextManager[Path]:
    """Yield a folder that becomes `target` when the context ends. It has only the own marker.

    After an exception `target` stays as it was.

    Args:
        target: A path, or an address in an object store.
        replace: Whether to replace an existing folder.

    Raises:
        ConfigError: `target` exists and is not to be replaced, or cannot be written.
    """
    if isinstance(target, Uri):
        return publish_objects(target, replace)
    return _publish_path(
        target, create_output_folder, lambda: _refuse_existing_folder(target, replace)
    )


def publish_file(target: Location, replace: bool) -> AbstractContextManager[Path]:
    """Yield the path of an empty file that becomes `target`; otherwise like `publish_folder`."""
    if isinstance(target, Uri):
        return publish_object(target, replace)
    return _publish_path(target, Path.touch, lambda: _refuse_existing_file(target, replace))


def create_output_folder(path: Path) -> None:
    """Create a folder, if it does not exist, and the marker by which listings pass it over."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / OWN_MARKER).exists():
        (path / OWN_MARKER).write_text(OWN_MARKER_TEXT)


@contextmanager
def translate_write_errors(path: Location) -> Iterator[None]:
    """Turn an OSError into ConfigError, for the steps before anything is written.

    A full disk still raises OSError, because another setting would not help.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ConfigError(
            f"output: cannot write to {path}: {error.strerror}. Choose another output=."
        ) from None


@contextmanager
def _publish_path(
    target: Path, create: Callable[[Path], None], refuse_existing: Callable[[], None]
) -> Iterator[Path]:
    """Create a staging path beside `target`; move it to `target` when the context ends."""
    with translate_write_errors(target):
        refuse_existing()
        stage = target.with_name(f".{target.name}-{os.getpid()}")
        _remove(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        create(stage)
    try:
        yield stage
        _flush(stage)
        _move(stage, target)
    finally:
        _remove(stage)


def _refuse_existing_folder(target: Path, replace: bool) -> None:
    if not replace and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"output={target}: there is something already. "
            "Name a folder that does not exist, or is empty."
        )


def _refuse_existing_file(target: Path, replace: bool) -> None:
    if target.is_dir() or (target.exists() and not replace):
        raise ConfigError(
            f"output={target}: there is something already. Name a file that does not exist."
        )


def _flush(stage: Path) -> None:
    if stage.is_dir():
        paths = chain((stage,), stage.rglob("*"))
        fsync_paths(path for path in paths if not path.is_symlink())
    else:
        fsync_path(stage)


def _move(stage: Path, target: Path) -> None:
    """Move the staging path to the target. An existing folder is moved away first and removed."""
    old = target.with_name(f"{stage.name}-before")
    if stage.is_dir() and target.exists():
        target.replace(old)
    stage.replace(target)
    fsync_path(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
