r"""Keys: the names of inputs as text.

The key of a file is its path below the input folder, with `/` between the parts.

File names are bytes and keys are text. A byte that is not valid UTF-8 becomes `\xNN`. A backslash
before an `x` in a name becomes `\x5c`, so that every key leads back to its file. Every other name
is its own key.

A path that a user lists may lead anywhere: `/data/a.jpg`, `../a.jpg`, `s3://bucket/a.jpg`. In its
key, a part that would lead out of a folder or that a file system would drop is written with `%2F`,
`%2E` or `%00`: `%2Fdata/a.jpg`, `%2E./a.jpg`, `s3:/%2Fbucket/a.jpg`. So every key names a file
below a folder, two paths never share a key, and every key leads back to its path.
"""

import os
import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

# Formats that browsers show and that Pillow writes well.
OVERLAY_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_OVERLAY_SUFFIX = ".overlay.jpg"
_MAX_NAME_BYTES = 255  # of one file name, on common file systems

_ESCAPED_BYTE = re.compile(rb"\\x([0-9a-f]{2})")
_ESCAPED_CHARACTER = re.compile("%(2E|2F|25|00)")
_DOT_SEGMENT = (r"(\A|/)\.(\.?)(/|\z)", r"\1%2E\2\3")
_LISTED_PATH_ESCAPES = (  # (RE2 pattern, replacement), applied in this order
    (r"%(2E|2F|25|00)", r"%25\1"),
    (r"\\x", r"\\x5cx"),
    ("\0", "%00"),
    (r"\A/", "%2F"),
    ("//", "/%2F"),
    (r"/\z", "%2F"),
    _DOT_SEGMENT,
    _DOT_SEGMENT,  # again, because a match consumes the slash that the next match begins with
)

_PLACEHOLDER = "__"  # replaces a part of a name that leads elsewhere
_UNSAFE_PARTS = ("", ".", "..", _PLACEHOLDER)


def path_to_key(path: str) -> str:
    """Return the key of a path, which is always valid UTF-8.

    Args:
        path: As the operating system gives it, with surrogate escapes for invalid bytes.
    """
    data = os.fsencode(path).replace(b"\\x", b"\\x5cx")
    return data.decode("utf-8", errors="backslashreplace")


def key_to_path(key: str) -> str:
    """Return the path of a key: the inverse of `path_to_key`."""
    return os.fsdecode(_ESCAPED_BYTE.sub(lambda found: bytes([int(found[1], 16)]), key.encode()))


def listed_paths_to_keys(paths: pa.Array) -> pa.Array:
    """Return the keys of paths that a user listed, as an array of strings."""
    for pattern, replacement in _LISTED_PATH_ESCAPES:
        paths = pc.replace_substring_regex(paths, pattern, replacement)
    return paths


def key_to_listed_path(key: str) -> str:
    """Return the path that a user listed: the inverse of `listed_paths_to_keys`."""
    return _ESCAPED_CHARACTER.sub(lambda found: chr(int(found[1], 16)), key_to_path(key))


def read_suffix(name: str) -> str:
    """Return the suffix of a path's last part in lower case; empty without a dot.

    Unlike `PurePath.suffix`, this also finds the suffix of a file that is named `.jpg`.
    """
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return dot + suffix.casefold() if dot else ""


def resolve_below(folder: Path, key: str) -> Path | None:
    r"""Return the file that a key names below a folder, or None if it would lead out of it.

    The decoded key is checked, because `\x2e\x2e/a.jpg` leads out of the folder too.
    """
    name = PurePosixPath(key_to_path(key))
    if name.is_absolute() or ".." in name.parts or "\0" in str(name):
        return None
    return folder / name


def make_safe_key(key: str) -> str:
    """Return a key that names one file below any folder. No two keys share a result.

    Names of objects and of archive members may have `..` or nothing between two slashes. Such a
    key is rewritten with a hash; any other key is returned as it is.
    """
    parts = key_to_path(key).split("/")
    if not any(part in _UNSAFE_PARTS for part in parts) and "\0" not in key:
        return key

    *folders, name = [
        _PLACEHOLDER if part in _UNSAFE_PARTS else part.replace("\0", "_") for part in parts
    ]
    digest = blake2b(key.encode(), digest_size=8).hexdigest()
    safe_name = fit_name(f"{digest}-{path_to_key(name)}")
    return "/".join([_PLACEHOLDER, *map(path_to_key, folders), safe_name])


def make_overlay_key(key: str) -> str:
    """Return the key of an input's overlay. No two keys share a result.

    The overlay has the key of the input where that is possible. `.overlay.jpg` is appended to a
    name that already ends in it, or whose format is not written. A name that is too long is cut and
    a hash of the whole name is appended.
    """
    key = make_safe_key(key)
    path = PurePosixPath(key)
    is_usable = (
        path.suffix.casefold() in OVERLAY_FORMATS
        and not key.endswith(_OVERLAY_SUFFIX)
        and is_valid_name_length(path.name)
    )
    return key if is_usable else str(path.with_name(fit_name(path.name, _OVERLAY_SUFFIX)))


def fit_name(name: str, ending: str = "", longest: int = _MAX_NAME_BYTES) -> str:
    """Return `name + ending`, shortened to `longest` bytes of a file name.

    A name that is too long is cut, and a hash of the whole name is put before the ending.
    """
    if not is_valid_name_length(name + ending, longest):
        ending = f"-{blake2b(name.encode(), digest_size=8).hexdigest()}{ending}"
        name = name[: 4 * longest]  # an escaped byte takes four characters
        while not is_valid_name_length(name + ending, longest):
            name = name[:-1]
    return name + ending


def is_valid_name_length(name: str, longest: int = _MAX_NAME_BYTES) -> bool:
    """Return whether one part of a key has at most `longest` bytes as a file name."""
    return len(key_to_path(name).encode("utf-8", "surrogateescape")) <= longest
