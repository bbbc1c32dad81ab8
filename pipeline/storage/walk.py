"""Walk the files below a folder, without those that `pipeline.core.passed_over` excludes."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.passed_over import PassedOver, is_generated_folder, is_passed_over_name


def walk_files(root: Path, passed_over: PassedOver | None = None) -> Iterator[str]:
    """Yield the paths of the files below a folder, relative to it, with `/` between the parts.

    The files of a folder come sorted, before its sub-folders. A symbolic link to a folder is
    followed unless the folder was visited. A folder that a program made is passed over, except
    `root` itself.

    Args:
        root: The folder, which the user named.
        passed_over: Counts what is passed over.
    """
    counter = PassedOver() if passed_over is None else passed_over
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        prefix = "".join(f"{part}/" for part in Path(folder).relative_to(root).parts)
        status = os.stat(folder)
        is_visited = (status.st_dev, status.st_ino) in visited
        visited.add((status.st_dev, status.st_ino))

        is_generated = bool(prefix) and is_generated_folder(folder, folders, files)
        if is_visited or is_generated:
            folders.clear()
            if is_generated:
                counter.add(prefix)
            continue

        kept = []
        for name in sorted(folders):
            if is_passed_over_name(name, is_folder=True):
                counter.add(f"{prefix}{name}/")
            else:
                kept.append(name)
        folders[:] = kept

        for name in sorted(files):
            if is_passed_over_name(name):
                counter.add(f"{prefix}{name}")
            else:
                yield f"{prefix}{name}"
