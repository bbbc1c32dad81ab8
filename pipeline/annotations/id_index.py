"""Look up ids that are numbers in one place of a file and texts in another."""

from collections.abc import Iterable
from typing import TypeAlias

Id: TypeAlias = int | str


class IdIndex:
    """Positions of the ids of images or categories.

    Ids are compared as text, so 7 and "7" are one id. An id that is not found as it is written is
    compared as a number: 7 is "007", if no other id has this number.
    """

    def __init__(self, ids: Iterable[object], what: str) -> None:
        """Index the ids.

        Args:
            ids: Numbers or texts.
            what: Plural noun for what they identify, for messages.

        Raises:
            ValueError: An id is neither a whole number nor text, or two are the same.
        """
        self.ids: list[Id] = [read_id(given) for given in ids]
        self.by_text: dict[str, int] = {}
        self.by_number: dict[int, int | None] = {}  # None: several ids have this number
        for position, one in enumerate(self.ids):
            if str(one) in self.by_text:
                raise ValueError(f"two {what} have one id, {one!r}")
            self.by_text[str(one)] = position
            number = read_number(one)
            if number is not None:
                self.by_number[number] = None if number in self.by_number else position

    def find(self, given: object) -> int | None:
        """Return the position of an id, or None if it is not indexed."""
        try:
            one = read_id(given)
        except ValueError:
            return None
        number = read_number(one)
        position = self.by_text.get(str(one))
        if position is None and number is not None:
            position = self.by_number.get(number)
        return position

    def order(self) -> list[int]:
        """Return the positions in the order of the ids: by number, or as given if one is none."""
        numbers = [read_number(one) for one in self.ids]
        if any(number is None for number in numbers):
            return list(range(len(self.ids)))
        return sorted(range(len(self.ids)), key=lambda i: (numbers[i], str(self.ids[i])))


def read_id(given: object) -> Id:
    """Return an id as a whole number or as text. Raises ValueError for anything else."""
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, float) and given.is_integer():
        return int(given)
    raise ValueError(f"the id {given!r} is neither a whole number nor text")


def read_number(one: Id) -> int | None:
    """Return the number that an id is or spells, or None."""
    if isinstance(one, int):
        return one
    digits = one.removeprefix("-")
    return int(one) if digits.isascii() and digits.isdecimal() and len(digits) < 40 else None
