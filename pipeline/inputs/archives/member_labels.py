"""Names of members as ends of keys.

A member's name is only a label: it is never a path that is opened.
"""

import os
import re
from hashlib import blake2b

from pipeline.core.keys import fit_name, path_to_key, read_suffix
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

_MAX_NAME_BYTES = 4096  # of a name that are kept: what systems take for a path
# bytes; a run's pictures have longer names than their inputs, and those must fit a file system
_MAX_PART_BYTES, _MAX_LABEL_BYTES = 200, 1000
_DRIVE = re.compile(rb"[A-Za-z]:[/\\]")


class MemberLabels:
    """Gives each member of an archive a label of its own.

    A name that repeats gets a number: a~2.jpg.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # label -> how many members asked for it

    def add(self, name: bytes) -> str:
        """Return the label of the next member, and remember it."""
        label = wanted = make_label(name)
        stem, dot, suffix = wanted.rpartition(".")
        while label in self._counts:
            self._counts[wanted] += 1
            label = f"{stem}~{self._counts[wanted]}{dot}{suffix}"
        self._counts[label] = 1
        return label


def make_label(name: bytes) -> str:
    """Return a member's name as the end of a key: a path that stays below the archive's own.

    The name is escaped as file names are (see `keys.py`), `..` and NUL as in addresses, and long
    parts are cut. A folder that is named like an image gets a `~`, so that a file and a folder
    never need one place among a run's pictures.
    """
    *folders, last = [_escape_part(part) for part in _split(name[-_MAX_NAME_BYTES:])] or ["%"]
    marked = [folder + "~" * (read_suffix(folder) in IMAGE_SUFFIXES) for folder in folders]
    label = "/".join((*marked, last))
    if len(label.encode()) <= _MAX_LABEL_BYTES:
        return label
    return f"{blake2b(name, digest_size=8).hexdigest()}/{last}"


def decode_name(name: bytes) -> str:
    """Return a member's name as text, escaped as file names are (see `keys.py`)."""
    return path_to_key(os.fsdecode(name[-_MAX_NAME_BYTES:]))


def is_image(name: bytes) -> bool:
    """Return whether the name ends as an image's does. A folder's may, too."""
    parts = _split(name)
    return bool(parts) and read_suffix(os.fsdecode(parts[-1])) in IMAGE_SUFFIXES


def leads_outside(name: bytes) -> bool:
    """Return whether extracting the member could write outside of its folder, on any system."""
    parts = name.replace(b"\\", b"/").split(b"/")
    return b".." in parts or parts[0] == b"" or _DRIVE.match(name) is not None


def _split(name: bytes) -> list[bytes]:
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def _escape_part(name: bytes) -> str:
    """Return one part of a name as one part of a key."""
    text = "%2E%2E" if name == b".." else decode_name(name).replace("\0", "%00")
    suffix = read_suffix(text)
    ending = text[len(text) - len(suffix) :] if suffix in IMAGE_SUFFIXES else ""
    return fit_name(text.removesuffix(ending), ending, _MAX_PART_BYTES)
