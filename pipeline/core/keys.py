r"""File names as keys. A key is the path below the input folder with `/`, as text.

File names are bytes, text is not: a byte that is no UTF-8 becomes `\xNN`, and so that every key leads back to its file,
a name's own backslash before an `x` becomes `\x5c`. Every other name is its own key.

Paths that a user lists may lead anywhere: `/data/a.jpg`, `../a.jpg`, `s3://bucket/a.jpg`. What would lead out of a folder,
or what a file system would drop, is written `%2F`, `%2E` or `%00` in their keys: `%2Fdata/a.jpg`, `%2E./a.jpg`,
`s3:/%2Fbucket/a.jpg`. So every key is a name below a folder, never that of two paths, and leads back to its path.
"""

import os
import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# what browsers show and Pillow writes well
OVERLAY_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_OVERLAY_SUFFIX = ".overlay.jpg"
_NOWHERE = "__"
_WILD = (
    "",
    ".",
    "..",
    _NOWHERE,
)  # parts of a name that lead elsewhere, or are what such are replaced by
_LONGEST = 255  # bytes a file system takes for a name
_SEGMENT_OF_DOTS = (r"(\A|/)\.(\.?)(/|\z)", r"\1%2E\2\3")
_LISTED = (  # (RE2, replacement), one after the other: a listed path -> its key
    (r"%(2E|2F|25|00)", r"%25\1"),
    (r"\\x", r"\\x5cx"),
    ("\0", "%00"),
    (r"\A/", "%2F"),
    ("//", "/%2F"),
    (r"/\z", "%2F"),
    _SEGMENT_OF_DOTS,
    _SEGMENT_OF_DOTS,  # once more: a match takes the slash that the next one would begin with
)
_WRITTEN = re.compile("%(2E|2F|25|00)")


def path_to_key(path: str) -> str:
    """`path` as the operating system gives it (with surrogate escapes) -> key, always valid UTF-8."""
    data = os.fsencode(path).replace(b"\\x", b"\\x5cx")
    return data.decode("utf-8", errors="backslashreplace")


def key_to_path(key: str) -> str:
    """The inverse of `key_of`."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), key.encode()))


def listed_paths_to_keys(paths: pa.Array) -> pa.Array:
    """Paths as a user lists them, valid UTF-8 -> keys."""
    for pattern, replacement in _LISTED:
        paths = pc.replace_substring_regex(paths, pattern, replacement)
    return paths


def key_to_listed_path(key: str) -> str:
    """The inverse of `keys_of_listed`."""
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), key_to_path(key))


def resolve_below(folder: Path, key: str) -> Path | None:
    """The file that a key names; None where it would lead out of the folder, as a made-up run's might. What counts is what
    the key becomes: `\\x2e\\x2e/a.jpg` leads out too."""
    name = PurePosixPath(key_to_path(key))
    return None if name.is_absolute() or ".." in name.parts or "\0" in str(name) else folder / name


def make_safe_key(key: str) -> str:
    """A key that names one file below any folder, where this one does not: names of objects, and of members of archives,
    may have `..` or nothing between two slashes. Never the same for two keys."""
    parts = key_to_path(key).split("/")
    if not any(part in _WILD for part in parts) and "\0" not in key:
        return key
    *folders, name = [_NOWHERE if part in _WILD else part.replace("\0", "_") for part in parts]
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    return "/".join(
        [_NOWHERE, *map(path_to_key, folders), fit_name(f"{digest}-{path_to_key(name)}")]
    )


def make_overlay_key(key: str) -> str:
    """Key -> key of its overlay. Never the same for two keys: only names that already end in the appended suffix, or in
    no format of ours, get one more; a name too long for that keeps its beginning and a hash of all of it."""
    key = make_safe_key(key)
    path = PurePosixPath(key)
    if (
        path.suffix.casefold() in OVERLAY_FORMATS
        and not key.endswith(_OVERLAY_SUFFIX)
        and is_valid_name_length(path.name)
    ):
        return key
    return str(path.with_name(fit_name(path.name, _OVERLAY_SUFFIX)))


def fit_name(name: str, ending: str = "", longest: int = _LONGEST) -> str:
    """`name` + `ending`; where that is longer, as a file's name in bytes, the beginning of `name`, a hash of all of it,
    `ending`."""
    if not is_valid_name_length(name + ending, longest):
        ending = f"-{blake2b(name.encode(), digest_size=8).hexdigest()}{ending}"
        name = name[: 4 * longest]  # a byte is at most four letters
        while not is_valid_name_length(name + ending, longest):
            name = name[:-1]
    return name + ending


def is_valid_name_length(name: str, longest: int = _LONGEST) -> bool:
    """Whether file systems take a name as long, as a file's or folder's own."""
    return len(key_to_path(name).encode("utf-8", "surrogateescape")) <= longest
