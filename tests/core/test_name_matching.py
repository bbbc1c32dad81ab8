"""Names that are the same text meet, and names that only look alike do not."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.name_matching import (
    KnownNames,
    file_uri_to_path,
    list_tails,
    match_paths,
    match_texts,
    tidy_path,
    unquote_path,
)

NFC, NFD = (normalize(form, "é") for form in ("NFC", "NFD"))


def paired(names: list[str], known: list[str]) -> dict[str, str]:
    return {names[i]: known[k] for i, k in match_paths(names, known).found.items()}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("././images//a.jpg", "images/a.jpg"),
        ("images/x/../a.jpg", "images/a.jpg"),
        ("../images/a.jpg", "../images/a.jpg"),
        ("/data/a.jpg", "/data/a.jpg"),
        ("//data/a.jpg", "/data/a.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        (".\\images\\a.jpg", "images/a.jpg"),
        ("C:\\set\\a.jpg", "/set/a.jpg"),
        ("C:/set/a.jpg", "/set/a.jpg"),
        ("\\\\server\\share\\a.jpg", "/server/share/a.jpg"),
        ("file:///data/a%20b.jpg", "/data/a b.jpg"),
        ("file://localhost/data/a.jpg", "/data/a.jpg"),
        ("FILE:/data/a.jpg", "/data/a.jpg"),
        ("file:///C:/set/a.jpg", "/set/a.jpg"),
        ("http://host/x/a%20b.jpg?size=3#top", "host/x/a%20b.jpg"),
        ("s3://bucket/what?.jpg", "bucket/what?.jpg"),
        (f"caf{NFD}.jpg", f"caf{NFC}.jpg"),
    ],
)
def test_a_path_has_one_spelling(given: str, expected: str) -> None:
    assert tidy_path(given) == expected


def test_tails_begin_with_the_longest() -> None:
    assert list_tails("/a/b/c.jpg") == ["a/b/c.jpg", "b/c.jpg", "c.jpg"]
    assert list_tails("../c.jpg") == ["c.jpg"]


@pytest.mark.parametrize(
    ("given", "quoted", "expected"),
    [
        ("file:///a%20b/c.jpg", True, "/a b/c.jpg"),
        ("file:///a%20b/c.jpg", False, "/a%20b/c.jpg"),
        ("file:///C:/a.jpg", True, "C:/a.jpg"),
        ("file://photos/a.jpg", True, "photos/a.jpg"),
        ("file://localhost/a.jpg", True, "/a.jpg"),
        ("file://localhosts/a.jpg", True, "localhosts/a.jpg"),
    ],
)
def test_a_file_address_becomes_a_path(given: str, quoted: bool, expected: str) -> None:
    assert file_uri_to_path(given, quoted) == expected


WRITTEN = [  # ways to write in/a b.jpg
    "in/a b.jpg",
    "./in/a b.jpg",
    "in//a b.jpg",
    "in/x/../a b.jpg",
    "../in/a b.jpg",
    "in\\a b.jpg",
    ".\\in\\a b.jpg",
    "D:\\set\\in\\a b.jpg",
    "/home/me/in/a b.jpg",
    "in/a%20b.jpg",
    "file:///home/me/in/a%20b.jpg",
    "file://localhost/home/me/in/a b.jpg",
    "https://host/in/a%20b.jpg?v=2",
    "gs://bucket/in/a b.jpg",
    "a b.jpg",
    "a%20b.jpg",
    "IN/A B.JPG",
]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_path_meets_its_other_spellings(name: str) -> None:
    known = ["in/a b.jpg", "in/c.jpg"]
    assert paired([name], known) == {name: "in/a b.jpg"}
    assert paired(known, [name]) == {"in/a b.jpg": name}


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        ([], ["a.jpg"], {}),
        (["a.jpg"], [], {}),
        # an exact name always wins
        (["a b.jpg", "a%20b.jpg"], ["a%20b.jpg", "a b.jpg"], {"a b.jpg": "a b.jpg"}),
        (["A.jpg"], ["A.jpg", "a.jpg"], {"A.jpg": "A.jpg"}),
        ([f"{NFD}.jpg"], [f"{NFD}.jpg", f"{NFC}.jpg"], {f"{NFD}.jpg": f"{NFD}.jpg"}),
        (["x\\a.jpg"], ["x\\a.jpg", "x/a.jpg"], {"x\\a.jpg": "x\\a.jpg"}),
        # the longest tail wins
        (
            ["/d/a/x.jpg", "/d/b/x.jpg"],
            ["in/b/x.jpg", "in/a/x.jpg"],
            {"/d/a/x.jpg": "in/a/x.jpg", "/d/b/x.jpg": "in/b/x.jpg"},
        ),
        (
            ["/d/x.jpg", "/d/sub/x.jpg"],
            ["x.jpg", "sub/x.jpg"],
            {"/d/x.jpg": "x.jpg", "/d/sub/x.jpg": "sub/x.jpg"},
        ),
        # what could be several stays alone
        (["a/x.jpg", "b/x.jpg"], ["x.jpg"], {}),
        (["x.jpg"], ["a/x.jpg", "b/x.jpg"], {}),
        (["a/x.jpg", "old/x.jpg"], ["a/x.jpg", "b/x.jpg"], {"a/x.jpg": "a/x.jpg"}),
        (["A.JPG"], ["a.jpg", "A.jpg"], {}),
    ],
)
def test_which_paths_meet(names: list[str], known: list[str], expected: dict[str, str]) -> None:
    found = paired(names, known)
    assert {name: found.get(name) for name in expected} == expected
    assert len(found) >= len(expected) and (expected or not found)


def test_ambiguous_paths_are_returned_with_what_they_could_be() -> None:
    matches = match_paths(["x.jpg", "absent.jpg"], ["a/x.jpg", "b/x.jpg", "c.jpg"])
    assert matches.found == {} and matches.ambiguous == {0: (0, 1)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", ("dog",)),
        ("Dog", ("dog",)),
        (" dog ", ("dog",)),
        ("helmet", ("helmet",)),
        ("Helmet", ("Helmet",)),
        ("HELMET", ("Helmet", "helmet")),
        (f"caf{NFD}", (f"caf{NFC}",)),
        (f"CAF{NFD.upper()}", (f"caf{NFC}",)),
        ("STRASSE", ("straße",)),
        ("horse", ()),
        ("", ()),
    ],
)
def test_which_known_names_are_the_same(name: str, expected: tuple[str, ...]) -> None:
    known = KnownNames(["dog", "Helmet", "helmet", "dog", f"caf{NFC}", "straße"])
    assert known.find(name) == expected


def test_class_names_are_matched_one_to_one() -> None:
    names = ["Helmet", "HELMET", "Dog", "new", "A", "a"]
    known = ["helmet", "Helmet", "dog", "old", "å", "A"]
    matches = match_texts(names, known)
    assert {names[i]: known[k] for i, k in matches.found.items()} == {
        "Helmet": "Helmet",
        "HELMET": "helmet",
        "Dog": "dog",
        "A": "A",
    }
    assert matches.ambiguous == {}
    assert match_texts(["HELMET"], ["Helmet", "helmet"]).ambiguous == {0: (0, 1)}
    assert match_texts(["Helmet", "HELMET"], ["helmet"]).ambiguous == {0: (0,), 1: (0,)}


@given(st.lists(st.text(max_size=6), unique=True, max_size=8), st.data())
def test_equal_names_always_meet_and_a_pair_is_one_to_one(
    names: list[str], data: st.DataObject
) -> None:
    known = data.draw(st.permutations(names))
    for match in (match_texts, match_paths):
        found = match(names, known).found
        assert {names[i]: known[k] for i, k in found.items()} == {name: name for name in names}


@given(st.text(max_size=12))
def test_a_spelling_is_stable(text: str) -> None:
    assert tidy_path(tidy_path(text)) == tidy_path(text)
    assert isinstance(unquote_path(text), str)
