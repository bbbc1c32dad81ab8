"""Labels of archive members: their names, made safe as the last part of a key.

A member's name is used only as a label. It is never opened as a path.
"""

import os
import re
from hashlib import blake2b

from pipeline.core.keys import fit_name, path_to_key, read_suffix
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES

_MAX_NAME_BYTES = 4096  # longer names are cut; usual systems have no longer paths
# Limits of one part and of the whole label, in bytes. The pictures of a run have longer names than
# the inputs, and a file system must accept these names.
_MAX_PART_BYTES, _MAX_LABEL_BYTES = 200, 1000
_DRIVE = re.compile(rb"[A-Za-z]:[/\\]")


class MemberLabels:
    """Gives each member of one archive a unique label.

    If several members have the same name, the later ones get a number: `a~2.jpg`.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # label -> number of members whose name gives this label

    def add(self, name: bytes) -> str:
        """Return a label for the next member that no earlier member has."""
        label = wanted = make_label(name)
        stem, dot, suffix = wanted.rpartition(".")
        while label in self._counts:
            self._counts[wanted] += 1
            label = f"{stem}~{self._counts[wanted]}{dot}{suffix}"
        self._counts[label] = 1
        return label


def make_label(name: bytes) -> str:
    """Convert a member's name to the last part of a key, which never leads out of the archive.

    Invalid UTF-8 is escaped as in file names, and `..` and NUL as in paths that a user lists (see
    `keys.py`). Long parts are cut. A `~` is appended to a folder that is named like an image, so
    that the pictures of a run never need a file and a folder of the same name.
    """
    *folders, last = [_escape_part(part) for part in _split(name[-_MAX_NAME_BYTES:])] or ["%"]
    marked = [folder + "~" * (read_suffix(folder) in IMAGE_SUFFIXES) for folder in folders]
    label = "/".join((*marked, last))
    if len(label.encode()) <= _MAX_LABEL_BYTES:
        return label
    return f"{blake2b(name, digest_size=8).hexdigest()}/{last}"


def decode_name(name: bytes) -> str:
    """Return a member's name as text. Invalid UTF-8 is escaped as in keys (see `keys.py`)."""
    return path_to_key(os.fsdecode(name[-_MAX_NAME_BYTES:]))


def is_image(name: bytes) -> bool:
    """Return whether the name has the suffix of an image. The name of a folder may have it, too."""
    parts = _split(name)
    return bool(parts) and read_suffix(os.fsdecode(parts[-1])) in IMAGE_SUFFIXES


def leads_outside(name: bytes) -> bool:
    """Return whether extracting the member could write outside the target folder on any system."""
    parts = name.replace(b"\\", b"/").split(b"/")
    return b".." in parts or parts[0] == b"" or _DRIVE.match(name) is not None


def _split(name: bytes) -> list[bytes]:
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def _escape_part(name: bytes) -> str:
    """Convert one part of a member's name to one part of a key."""
    text = "%2E%2E" if name == b".." else decode_name(name).replace("\0", "%00")
    suffix = read_suffix(text)
    ending = text[len(text) - len(suffix) :] if suffix in IMAGE_SUFFIXES else ""
    return fit_name(text.removesuffix(ending), ending, _MAX_PART_BYTES)
