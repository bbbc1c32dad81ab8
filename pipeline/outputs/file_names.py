"""File names that other programs accept."""

import re
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from pipeline.core.keys import is_valid_name_length, key_to_path, resolve_below

_NOT_IN_XML = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
)  # characters that XML 1.0 has no way to write


_NOT_IN_A_NAME = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]"
)  # or that would end a line of a list of names


def replace_invalid_xml(text: str) -> str:
    """`text` with what XML cannot hold replaced by U+FFFD; escaping is the writer's."""
    return _NOT_IN_XML.sub("\ufffd", text)


def make_safe_name(key: str) -> str:
    """The key, or where it holds control characters, which lists and XML cannot, a name made of a hash of it."""
    return _hashed(key) + PurePosixPath(key).suffix if _NOT_IN_A_NAME.search(key) else key


def reserve_label_file(folder: Path, key: str, suffix: str) -> tuple[str, Path]:
    """(name, file) for the image `key` in a format that knows an image's file by the image's name without its extension:
    the image is to be called name + its own extension, and `file`, now empty, is folder/name + suffix. Where another image
    has that name, this one keeps its extension in it (a.png.txt beside a.txt); where that cannot be, a hash is its name."""
    stem = key.removesuffix(PurePosixPath(key).suffix)
    for name in (stem, key, _hashed(key)):
        file = folder / key_to_path(name + suffix)
        if not _fits(name + suffix):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("x").close()
        except (FileExistsError, NotADirectoryError):  # taken, or a folder's place is
            continue
        return name, file
    raise FileExistsError(f"{folder}: there is no name left for {key}")


def _fits(name: str) -> bool:
    """Whether it stays below the folder that it is put in, and is one that file systems and lists can hold."""
    short = all(is_valid_name_length(part) for part in name.split("/"))
    return resolve_below(Path(), name) is not None and short and not _NOT_IN_A_NAME.search(name)


def _hashed(key: str) -> str:
    return "image-" + blake2b(key.encode(), digest_size=8).hexdigest()
