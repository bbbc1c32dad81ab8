r"""Decide which names are the same text: image names of annotations and lists, and class names.

Programs write one name in many ways: `C:\set\a.jpg`, `./images/a.jpg`, `file:///set/a%20b.jpg`,
or with decomposed accents (NFD). All readers of names use the rule of this file:

1. Names that are equal as they are written are the same.
2. Names that are left are compared in looser spellings, one after the other: the same Unicode
   form, slashes and folders (`tidy_path`), the same without URL quoting, the same without letter
   case. A looser spelling is used only where no stricter one found a match.
3. Paths that are left are compared by their last parts, the longest common tail first.

A name that could be any of several is never matched. It is returned as ambiguous.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TypeVar
from unicodedata import normalize
from urllib.parse import unquote

Spelling = Callable[[str], str]
ValueT = TypeVar("ValueT", bound=Hashable)

_FILE_URI = re.compile(r"file:(?://(?:localhost(?=/))?)?(?=.)", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"/?[A-Za-z]:(?=/)")


# --- spellings


def tidy_text(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), without blanks at both ends."""
    return normalize("NFC", text).strip()


def tidy_path(path: str) -> str:
    """Return a path in one spelling: NFC, `/` between parts, no drive, no `.` and no inner `..`.

    `file:` addresses become paths, and the query of a web address is dropped.
    """
    text = normalize("NFC", path)
    if is_file_uri(text):
        text = file_uri_to_path(text)
    elif _ADDRESS.match(text):
        is_web = text[:4].casefold() == "http"
        text = text.partition("://")[2]
        text = re.split(r"[?#]", text)[0] if is_web else text

    text = _DRIVE.sub("", text.replace("\\", "/"), count=1)
    root = "/" if text.startswith("/") else ""
    parts: list[str] = []
    for part in text.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return root + "/".join(parts)


def unquote_path(path: str) -> str:
    """Return `tidy_path` of a path without its URL quoting: `a%20b.jpg` becomes `a b.jpg`."""
    return tidy_path(unquote(tidy_path(path)))


def is_file_uri(text: str) -> bool:
    """Return whether a text is an address such as `file:///data/a.jpg`."""
    return text[:6].casefold() == "file:/"


def file_uri_to_path(text: str, quoted: bool = True) -> str:
    """Return the path of an address such as `file:///data/a%20b.jpg`.

    Args:
        text: The address. The host `localhost` is dropped, as is the slash before a drive.
        quoted: Whether `%20` stands for a blank, as the standard says. Some programs do not quote.
    """
    path = _FILE_URI.sub("", text, count=1)
    path = unquote(path, errors="surrogateescape") if quoted else path
    return path[1:] if re.match(r"/[A-Za-z]:[/\\]", path) else path


def fold_text(text: str) -> str:
    """Return `tidy_text` without letter case."""
    return normalize("NFC", tidy_text(text).casefold())


def fold_path(path: str) -> str:
    """Return `unquote_path` without letter case."""
    return normalize("NFC", unquote_path(path).casefold())


TEXT_SPELLINGS: tuple[Spelling, ...] = (tidy_text, fold_text)
PATH_SPELLINGS: tuple[Spelling, ...] = (tidy_path, unquote_path, fold_path)


# --- matching


@dataclass(frozen=True)
class Matches:
    """Pairs of names to find and known names that are the same."""

    found: dict[int, int]  # number of a name -> number of the known name
    ambiguous: dict[int, tuple[int, ...]]  # number of a name -> numbers of what it could be


class KnownNames:
    """Known class names, in which one name at a time is looked up."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))

    def find(self, name: str) -> tuple[str, ...]:
        """Return the known names that are the same: none, one, or several if it is ambiguous."""
        if name in self._exact:
            return (name,)
        for spelling, spelled in zip(TEXT_SPELLINGS, self._spelled, strict=True):
            if found := spelled.get(spelling(name)):
                return found
        return ()

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _spelled(self) -> list[dict[str, tuple[str, ...]]]:
        tables: list[dict[str, tuple[str, ...]]] = []
        for spelling in TEXT_SPELLINGS:
            table: dict[str, tuple[str, ...]] = {}
            for name in self.names:
                table[spelling(name)] = (*table.get(spelling(name), ()), name)
            tables.append(table)
        return tables


def match_texts(names: Sequence[str], known: Sequence[str]) -> Matches:
    """Match class names one to one. The names of each side differ."""
    pairing = _Pairing(names, known)
    pairing.pair_equal(str)
    for spelling in TEXT_SPELLINGS:
        pairing.pair_equal(spelling)
    return Matches(pairing.found, pairing.list_ambiguous(fold_text))


def match_paths(names: Sequence[str], known: Sequence[str]) -> Matches:
    """Match names of images one to one. The names of each side differ.

    Args:
        names: Names to find, as a file of annotations has them.
        known: Paths of images, for example of a run's inputs.
    """
    pairing = _Pairing(names, known)
    pairing.pair_equal(str)
    for spelling in PATH_SPELLINGS:
        pairing.pair_equal(spelling)
    for spelling in PATH_SPELLINGS:
        pairing.pair_tails(spelling)
    return Matches(pairing.found, pairing.list_ambiguous(lambda name: split_path(name)[-1]))


def split_path(path: str) -> tuple[str, ...]:
    """Return the parts of `fold_path`, without the root and without leading `..`; never empty."""
    return _split(fold_path(path))


def list_tails(path: str) -> list[str]:
    """Return the last parts of a path that was tidied, the longest tail first: `a/b`, `b`."""
    parts = _split(path)
    return ["/".join(parts[at:]) for at in range(len(parts))]


def _split(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in PurePosixPath(path).parts if part not in ("/", "//", ".."))
    return parts or ("",)


class _Pairing:
    """Pairs of names found so far, and the names of both sides that are left."""

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        self.names, self.known = names, known
        self.found: dict[int, int] = {}
        self.left = list(range(len(names)))
        self.free = list(range(len(known)))

    def pair_equal(self, spelling: Spelling) -> None:
        """Pair names that are equal in a spelling, if no other name left has this spelling."""
        if self.left and self.free:
            left, free = (
                {i: spelling(side[i]) for i in numbers}
                for side, numbers in ((self.names, self.left), (self.known, self.free))
            )
            self._add(_pair_unique(left, free))

    def pair_tails(self, spelling: Spelling) -> None:
        """Pair paths by their last parts, the longest tail first.

        A tail makes a pair if no other path left has it. It must also be the whole of one path, or
        differ from the tails of all paths, paired ones included.
        """
        if not self.left or not self.free:
            return
        names, known = (
            [_split(spelling(name)) for name in side] for side in (self.names, self.known)
        )
        longest = min(max(map(len, names)), max(map(len, known)))
        for length in range(longest, 0, -1):
            left = {i: names[i][-length:] for i in self.left if len(names[i]) >= length}
            free = {i: known[i][-length:] for i in self.free if len(known[i]) >= length}
            pairs = _pair_unique(left, free)
            if not pairs:
                continue

            shared = _count_tails(names, length), _count_tails(known, length)
            self._add(
                {
                    i: k
                    for i, k in pairs.items()
                    if length in (len(names[i]), len(known[k]))
                    or all(counts[left[i]] == 1 for counts in shared)
                }
            )

    def list_ambiguous(self, spelling: Spelling) -> dict[int, tuple[int, ...]]:
        """Return the names left that share a spelling with known names left."""
        by_spelling: dict[str, list[int]] = {}
        for k in self.free:
            by_spelling.setdefault(spelling(self.known[k]), []).append(k)
        spelled = ((i, by_spelling.get(spelling(self.names[i]))) for i in self.left)
        return {i: tuple(candidates) for i, candidates in spelled if candidates}

    def _add(self, pairs: dict[int, int]) -> None:
        if pairs:
            taken = set(pairs.values())
            self.found |= pairs
            self.left = [i for i in self.left if i not in pairs]
            self.free = [k for k in self.free if k not in taken]


def _pair_unique(left: Mapping[int, ValueT], free: Mapping[int, ValueT]) -> dict[int, int]:
    """Return the pairs of numbers whose values are equal and occur once on each side."""
    counts_left, counts_free = Counter(left.values()), Counter(free.values())
    number_of = {value: k for k, value in free.items() if counts_free[value] == 1}
    return {
        i: number_of[value]
        for i, value in left.items()
        if value in number_of and counts_left[value] == 1
    }


def _count_tails(paths: Sequence[tuple[str, ...]], length: int) -> Counter[tuple[str, ...]]:
    return Counter(parts[-length:] for parts in paths if len(parts) >= length)
