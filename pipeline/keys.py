r"""File names as keys. A key is the path below the input folder with `/`, as text.

File names are bytes, text is not: a byte that is no UTF-8 becomes `\xNN`, and so that every key leads back to its file,
a name's own backslash before an `x` becomes `\x5c`. Every other name is its own key.
"""

import os
import re
from hashlib import blake2b
from pathlib import PurePosixPath

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# what browsers show and Pillow writes well
OVERLAY_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_OVERLAY_SUFFIX = ".overlay.jpg"
_LONGEST = 255  # bytes a file system takes for a name


def key_of(path: str) -> str:
    """`path` as the operating system gives it (with surrogate escapes) -> key, always valid UTF-8."""
    data = os.fsencode(path).replace(b"\\x", b"\\x5cx")
    return data.decode("utf-8", errors="backslashreplace")


def path_of(key: str) -> str:
    """The inverse of `key_of`."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), key.encode()))


def overlay_name(key: str) -> str:
    """Key -> key of its overlay. Never the same for two keys: only names that already end in the appended suffix, or in
    no format of ours, get one more; a name too long for that keeps its beginning and a hash of all of it."""
    path = PurePosixPath(key)
    if path.suffix.casefold() in OVERLAY_FORMATS and not key.endswith(_OVERLAY_SUFFIX):
        return key
    name = path.name + _OVERLAY_SUFFIX
    if len(_path_bytes(name)) > _LONGEST:
        digest = blake2b(path.name.encode(), digest_size=8).hexdigest()
        beginning = path.name
        while len(_path_bytes(beginning)) + len(digest) + len(_OVERLAY_SUFFIX) + 1 > _LONGEST:
            beginning = beginning[:-1]
        name = f"{beginning}-{digest}{_OVERLAY_SUFFIX}"
    return str(path.with_name(name))


def _path_bytes(name: str) -> bytes:
    return path_of(name).encode("utf-8", "surrogateescape")
