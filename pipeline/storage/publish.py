"""Publish a folder or a file atomically: the target is complete, or stays as it was."""

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from pipeline.core.errors import ConfigError, is_disk_full
from pipeline.core.locations import Location, Uri
from pipeline.storage.local_backend import fsync_path
from pipeline.storage.object_backend import publish_object, publish_objects


@contextmanager
def translate_write_errors(path: Location) -> Iterator[None]:
    """Nothing is written yet: a place that cannot be written to is a setting to be changed."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise ConfigError(
            f"output: cannot write to {path}: {error.strerror}. Choose another output=."
        ) from None


@contextmanager
def publish_folder(target: Location, replace: bool) -> Iterator[Path]:
    """An empty folder to write in, which becomes `target` when all went well; else `target` stays as it was. Raises
    ConfigError where there is something that is not to be replaced, or nothing can be written."""
    if isinstance(target, Uri):
        with publish_objects(target, replace) as stage:
            yield stage
        return
    with translate_write_errors(target):
        if not replace and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(
                f"output={target}: there is something already. Name a folder that does not exist, or is empty."
            )
        stage = target.with_name(f".{target.name}-{os.getpid()}")
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
    try:
        yield stage
        _flush_all(path for path in chain((stage,), stage.rglob("*")) if not path.is_symlink())
        before = target.with_name(f".{target.name}-{os.getpid()}-before")
        if target.exists():
            target.replace(before)
        stage.replace(target)
        fsync_path(target.parent)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def publish_file(target: Location, replace: bool) -> Iterator[Path]:
    """A path to write to, which becomes the file `target` when all went well; else `target` stays as it was. Raises
    ConfigError where there is something that is not to be replaced, or nothing can be written."""
    if isinstance(target, Uri):
        with publish_object(target, replace) as stage:
            yield stage
        return
    with translate_write_errors(target):
        if target.is_dir() or (target.exists() and not replace):
            raise ConfigError(
                f"output={target}: there is something already. Name a file that does not exist."
            )
        stage = target.with_name(f".{target.name}-{os.getpid()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.touch()
    try:
        yield stage
        fsync_path(stage)
        stage.replace(target)
        fsync_path(target.parent)
    finally:
        stage.unlink(missing_ok=True)


def _flush_all(paths: Iterable[Path]) -> None:
    """Of a folder that may have a file for each of a million images: several at once, because a file system writes its
    journal for all of them together (measured on ext4: 0.1 ms a file, one by one 3.6)."""
    waiting = iter(paths)
    with ThreadPoolExecutor(16) as pool:
        while some := list(islice(waiting, 1000)):
            list(pool.map(fsync_path, some))
