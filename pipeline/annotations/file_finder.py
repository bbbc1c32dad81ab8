"""List the files of a data set, and find the files that belong to an image by its name."""

from collections.abc import Collection
from pathlib import Path

from pipeline.core.keys import read_suffix
from pipeline.core.name_matching import KnownNames
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.storage.walk import walk_files


def list_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """List the files of these suffixes below a folder: those of a folder before its sub-folders.

    Linked sub-folders are followed once. What `pipeline.core.passed_over` excludes is left out.
    """
    return [folder / name for name in walk_files(folder) if read_suffix(name) in suffixes]


def drop_suffix(name: str) -> str:
    """Return a name without its suffix: `sub/a` of `sub/a.JPG`."""
    return name[: len(name) - len(read_suffix(name))]


class StemFinder:
    """Finds files by their names without suffix, such as the annotations of an image.

    A name as it is written comes first, then the same text in another Unicode form, then one that
    differs only by letter case. Each folder is listed once.
    """

    def __init__(self, suffixes: Collection[str]) -> None:
        self.suffixes = suffixes
        self._listings: dict[Path, tuple[KnownNames, dict[str, list[str]]]] = {}

    def find(self, folder: Path, stem: str) -> list[Path]:
        """List the files of a stem, such as `sub/a`: none, one, or all that it could be."""
        place, last = (folder / stem).parent, (folder / stem).name
        stems, files = self._list_folder(place)
        return [place / name for found in stems.find(last) for name in files[found]]

    def _list_folder(self, folder: Path) -> tuple[KnownNames, dict[str, list[str]]]:
        if folder not in self._listings:
            files: dict[str, list[str]] = {}
            for name in _list_names(folder):
                if read_suffix(name) in self.suffixes:
                    files.setdefault(drop_suffix(name), []).append(name)
            self._listings[folder] = KnownNames(files), files
        return self._listings[folder]


def _list_names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
