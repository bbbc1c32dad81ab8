"""Find names that look alike but differ, and describe the difference by code points."""

from collections.abc import Iterable
from unicodedata import category, normalize

# Letters of other scripts that look like these Latin letters in usual fonts.
_CYRILLIC_GREEK = "асеорхуіјѕһԁԛԝкмтвнАВСЕНІЈКМОРЅТХУԌԚԜαοενρτυικχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
_LATIN = "aceopxyijshdqwkmtbhABCEHIJKMOPSTXYGQWaoevptuikxABEZHIKMNOPTYX"
_LETTERS = str.maketrans(_CYRILLIC_GREEK, _LATIN)


def make_skeleton(name: str) -> str:
    """Return a text that is equal for names that look alike."""
    text = normalize("NFKD", name).translate(_LETTERS)
    letters = (" " if letter.isspace() else letter for letter in text if category(letter) != "Cf")
    return " ".join("".join(letters).split()).casefold()


def describe_lookalikes(names: Iterable[str], others: Iterable[str], most: int = 3) -> str:
    """Return sentences about names that look like one of the others; empty if there are none.

    Args:
        names: Names that match none of the others.
        others: The names to compare with.
        most: Largest number of pairs to describe.
    """
    known = {make_skeleton(other): other for other in others}
    pairs = [(name, known.get(make_skeleton(name))) for name in dict.fromkeys(names)]
    alike = [(name, other) for name, other in pairs if other is not None and other != name]
    return " ".join(
        f"{name!r} ({_format_difference(name, other)}) looks like {other!r} "
        f"({_format_difference(other, name)})."
        for name, other in alike[:most]
    )


def _format_difference(name: str, other: str) -> str:
    """Return the code points of a name's letters that the other name has not in their place."""
    start = next(
        (i for i, pair in enumerate(zip(name, other, strict=False)) if pair[0] != pair[1]),
        min(len(name), len(other)),
    )
    rest, other_rest = name[start:], other[start:]
    while rest and other_rest and rest[-1] == other_rest[-1]:
        rest, other_rest = rest[:-1], other_rest[:-1]
    points = " ".join(f"U+{ord(letter):04X}" for letter in rest[:8])
    return points or "nothing there"
