"""Make file names and texts that other programs accept."""

import logging
import os
import re
import sqlite3
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from pipeline.core.keys import is_valid_name_length, key_to_path, resolve_below

log = logging.getLogger(__name__)

# Characters that XML 1.0 cannot write.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Control characters, and characters that end a line in a list of names.
_NOT_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


def replace_invalid_xml(text: str) -> str:
    """Replace characters that XML cannot hold by U+FFFD; the XML writer escapes the others."""
    return _NOT_IN_XML.sub("\ufffd", text)


def make_safe_name(key: str) -> str:
    """Return the key, or a hash with the key's suffix if the key has control characters.

    Control characters cannot be written in XML or in a list of names.
    """
    return _hash_key(key) + PurePosixPath(key).suffix if _NOT_IN_NAMES.search(key) else key


class ImageNames:
    """Names of images for programs that tell images apart by their names without suffix.

    Of `a.jpg` and `a.png`, the second is called `a.png.png`. Names are kept in a temporary
    database, so that memory does not grow with the run.
    """

    def __init__(self) -> None:
        self._taken = sqlite3.connect("")  # a temporary file, which SQLite removes
        self._taken.execute("CREATE TABLE taken (stem TEXT PRIMARY KEY) WITHOUT ROWID")

    def reserve(self, key: str) -> str:
        """Return the name of an image: its key, if no other image has this name without suffix.

        Raises:
            FileExistsError: Every name is taken.
        """
        suffix = os.path.splitext(key)[1]  # noqa: PTH122 - the programs cut a suffix as this does
        for name in (key, key + suffix, _hash_key(key) + suffix):
            if not is_valid_name_length(name.rpartition("/")[2]):
                continue
            stem = name.removesuffix(suffix)
            if self._taken.execute("INSERT OR IGNORE INTO taken VALUES (?)", (stem,)).rowcount:
                return name
        raise FileExistsError(f"there is no name left for {key}")

    def close(self) -> None:
        self._taken.close()


def warn_of_new_names(n_renamed: int, program: str) -> None:
    """Warn that some images have other names in the export than in the run."""
    if n_renamed:
        log.warning(
            "%s images are called otherwise there, because %s could not tell them apart; "
            "images=link or images=copy puts them under these names.",
            f"{n_renamed:,}",
            program,
        )


def reserve_label_file(folder: Path, key: str, suffix: str) -> tuple[str, Path]:
    """Create an empty label file for an image, under a name that no other image has.

    Some formats find the labels of an image by the image's name without its suffix. So the name is
    the key without its suffix. If that name is taken, it is the whole key (`a.png.txt` beside
    `a.txt`). If that is not possible either, it is a hash.

    Args:
        folder: Folder of the label files.
        key: The image's key.
        suffix: Suffix of label files.

    Returns:
        The name, and the path `folder/<name><suffix>`. The image must have this name plus its own
        suffix.

    Raises:
        FileExistsError: All three names are taken.
    """
    stem = key.removesuffix(PurePosixPath(key).suffix)
    for name in (stem, key, _hash_key(key)):
        file = folder / key_to_path(name + suffix)
        if not _is_valid_name(name + suffix):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("x").close()
        except (FileExistsError, NotADirectoryError):  # a file or a folder has this name
            continue
        return name, file
    raise FileExistsError(f"{folder}: there is no name left for {key}")


def _is_valid_name(name: str) -> bool:
    """Return whether a relative path stays below its folder and has no invalid names."""
    is_short = all(is_valid_name_length(part) for part in name.split("/"))
    is_below = resolve_below(Path(), name) is not None
    return is_short and is_below and not _NOT_IN_NAMES.search(name)


def _hash_key(key: str) -> str:
    return "image-" + blake2b(key.encode(), digest_size=8).hexdigest()
