"""Find the files that annotations and lists name, however the names are spelled."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.name_matching import (
    PATH_SPELLINGS,
    KnownNames,
    file_uri_to_path,
    is_file_uri,
    list_tails,
    tidy_path,
    unquote_path,
)


class NamedFiles:
    """Finds files by name in a list of folders, by the rule of `core/name_matching.py`.

    Folders are listed only for names that no file has as they are written.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._listings: dict[Path, KnownNames] = {}
        self._names: dict[Path, str] = {}  # file -> the name for which `find_own` returned it

    def find(self, name: str, tails: bool = True) -> Path | None:
        """Return the file that a name means; None if there is none, or if it could be several.

        The path as it is written comes first, in each folder, then other spellings of it. Last
        come its tails, the longest first: `a.jpg` of `/elsewhere/a.jpg`.

        Args:
            name: The name of a file.
            tails: Whether the tails of a path are searched too.
        """
        return next(self._list_files(name, tails), None)

    def find_own(self, name: str, tails: bool = True) -> Path | None:
        """Return the file that a name means, if no other name means it.

        Raises:
            ConfigError: Another name was given for the same file, and the two differ in more than
                their spelling.
        """
        found = self.find(name, tails)
        if found is not None:
            other = self._names.setdefault(found, name)
            if unquote_path(other) != unquote_path(name):
                raise ConfigError(
                    f"{name!r} and {other!r} both lead to {found}. Expected one name for each "
                    "file, relative to the folder of the images."
                )
        return found

    def _list_files(self, name: str, with_tails: bool) -> Iterator[Path]:
        if not name or "\0" in name:
            return
        for path in _list_spellings(name):
            yield from (folder / path for folder in self.folders if _is_file(folder / path))

        tails = [list_tails(spell(name)) for spell in (tidy_path, unquote_path)]
        searched = [tail for listed in tails for tail in (listed if with_tails else listed[:1])]
        for tail in dict.fromkeys(searched):
            yield from filter(None, (self._find_spelled(folder, tail) for folder in self.folders))

    def _find_spelled(self, folder: Path, tail: str) -> Path | None:
        """Walk down a path. A name that a folder lacks may be there in another spelling."""
        path = folder
        for part in tail.split("/"):
            entries = self._list_folder(path).find(part)
            if len(entries) != 1:
                return None
            path /= entries[0]
        return path if _is_file(path) else None

    def _list_folder(self, folder: Path) -> KnownNames:
        if folder not in self._listings:
            try:
                entries = [path.name for path in folder.iterdir()]
            except OSError:  # it is a file, or it is not there
                entries = []
            self._listings[folder] = KnownNames(entries)
        return self._listings[folder]


def _list_spellings(name: str) -> Iterator[str]:
    """Yield a name as it is written, then the paths that other systems mean by it."""
    yield name
    if is_file_uri(name):
        yield file_uri_to_path(name)
        yield file_uri_to_path(name, quoted=False)
    else:
        yield from (spell(name) for spell in PATH_SPELLINGS[:2])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has surrogates
        return False
