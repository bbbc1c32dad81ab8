"""Decide which files and folders below an input are passed over: one rule for all that list files.

Passed over are companion files of operating systems, storage boxes, editors and notebooks, hidden
files, incomplete downloads, and what this program itself wrote. The rule is for what is found in a
listing. A folder or file that the user names is read, whatever its name is.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field

# A file of this name is in every folder that this program writes outside of a run's folder.
OWN_MARKER = ".visionbatch"
OWN_MARKER_TEXT = (
    "This folder was written by visionbatch. A run passes it over if it is below the run's input "
    "folder.\nTo annotate the pictures in it, name this folder itself as input=.\n"
)

# Names of folders, in lower case. Folders whose names begin with a dot are hidden anyway.
_COMPANION_FOLDERS = frozenset((
    # macOS: resource forks in archives, shared volumes
    "__macosx", "network trash folder", "temporary items",
    # Windows: the recycle bin, restore points
    "$recycle.bin", "system volume information",
    # Synology and QNAP: thumbnails, recycle bins, snapshots
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp",
    # Linux and Android: what a file system check recovered; NetApp: snapshots
    "lost+found", "lost.dir", "~snapshot",
    # programs: caches of Python, packages of JavaScript
    "__pycache__", "node_modules",
))  # fmt: skip
_COMPANION_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
# Endings of backups and of incomplete copies. They follow the suffix of the complete file.
_UNFINISHED = (
    "~", ".bak", ".orig", ".swp", ".swo", ".tmp", ".temp",
    ".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload", ".aria2",
)  # fmt: skip
# A file such as `.jpg` has lost its name, but is not hidden on purpose.
_BARE_SUFFIX = re.compile(r"\.[a-z0-9]{3,4}")

_ENVIRONMENT_FILE, _ENVIRONMENT_FOLDER = "pyvenv.cfg", "conda-meta"
_LEASE_PREFIX = ".lease-"  # of the locks of a run in an object store
_PLAN_FILE = ("plan", "plan.json")
_MAX_EXAMPLES = 3


def is_passed_over_name(name: str, is_folder: bool = False) -> bool:
    """Return whether a file or folder is passed over because of its own name."""
    lower = name.casefold()
    if is_folder:
        return name.startswith(".") or lower in _COMPANION_FOLDERS
    if name.startswith("."):
        return _BARE_SUFFIX.fullmatch(lower) is None
    is_lock = name.startswith("~$") or (name.startswith("#") and name.endswith("#"))
    return is_lock or lower in _COMPANION_FILES or lower.endswith(_UNFINISHED)


def is_passed_over(path: str) -> bool:
    """Return whether a file is passed over because of any part of its path.

    Args:
        path: Path of the file below the listed folder, with `/` between the parts.
    """
    *folders, name = [part for part in path.split("/") if part not in ("", ".", "..")] or [""]
    return is_passed_over_name(name) or any(is_passed_over_name(part, True) for part in folders)


def strip_unfinished_ending(name: str) -> str:
    """Return the name that an incomplete copy or a backup would have as a complete file."""
    lower = name.casefold()
    ending = next((ending for ending in _UNFINISHED if lower.endswith(ending)), "")
    return name[: len(name) - len(ending)]


def is_run_folder(path: str, folders: Collection[str]) -> bool:
    """Return whether a local folder, with these sub-folders, is that of a run, complete or not."""
    if "plan" not in folders:
        return "_committed" in folders and "images" in folders
    has_plan = os.path.isfile(os.path.join(path, *_PLAN_FILE))  # noqa: PTH113, PTH118
    return has_plan or "_committed" in folders


def is_generated_folder(path: str, folders: Collection[str], files: Collection[str]) -> bool:
    """Return whether this program or the maker of a Python environment made a local folder.

    Args:
        path: The folder.
        folders: Names of its sub-folders.
        files: Names of its files.
    """
    is_environment = _ENVIRONMENT_FILE in files or _ENVIRONMENT_FOLDER in folders
    return OWN_MARKER in files or is_environment or is_run_folder(path, folders)


def find_generated_folder(path: str) -> str | None:
    """Return the generated folder whose existence a file's path shows, for lists of paths.

    Args:
        path: Path of a file below an archive or an address, with `/` between the parts.

    Returns:
        The folder's path with `/` at its end, empty for the root of a run; None for other files.
    """
    *folders, name = path.split("/")
    if folders and name in (OWN_MARKER, _ENVIRONMENT_FILE):
        return "".join(f"{folder}/" for folder in folders)
    if name.startswith(_LEASE_PREFIX):
        return "".join(f"{folder}/" for folder in folders)
    is_marker = folders[-1:] == ["_committed"] and name[:5].isdigit()
    if is_marker or (*folders[-1:], name) == _PLAN_FILE:
        return "".join(f"{folder}/" for folder in folders[:-1])
    return None


@dataclass
class PassedOver:
    """Counts what one listing has passed over."""

    n_files: int = 0
    n_folders: int = 0
    examples: list[str] = field(default_factory=list)  # the first names, folders with `/`

    def clear(self) -> None:
        """Forget everything, for another listing."""
        self.n_files = self.n_folders = 0
        self.examples.clear()

    def add(self, key: str) -> None:
        """Count a file, or a folder whose key ends in `/`."""
        is_folder = key.endswith("/")
        self.n_folders += is_folder
        self.n_files += not is_folder
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(key)

    def describe(self) -> str:
        """Return the counts in words; empty if nothing was passed over."""
        counts = [(self.n_files, "file"), (self.n_folders, "folder")]
        words = [f"{n:,} {what}{'s' * (n != 1)}" for n, what in counts if n]
        if not words:
            return ""
        more = " ..." if self.n_files + self.n_folders > len(self.examples) else ""
        return f"{' and '.join(words)} ({', '.join(self.examples)}{more})"
