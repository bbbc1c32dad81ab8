import itertools
import os
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.keys import (
    fit_name,
    is_valid_name_length,
    key_to_listed_path,
    key_to_path,
    listed_paths_to_keys,
    make_overlay_key,
    make_safe_key,
    path_to_key,
    resolve_below,
)

NAMES = [
    b"",
    b"a.jpg",
    b"sub/deeper/a.jpg",
    b"with blank.jpg",
    b"\xff.jpg",
    b"\xff\xfe\x80",
    b"caf\xe9.jpg",  # Latin-1
    "café.jpg".encode(),
    "cafe\u0301.jpg".encode(),  # decomposed: another file
    b"half \xe2\x82.jpg",  # a euro sign cut short
    b"\xed\xa0\x80",  # a surrogate, which is no UTF-8
    b"two\nlines.jpg",
    b"tab\tand\rreturn",
    b"\\x41.jpg",  # the four characters, not an A
    b"\\xff.jpg",
    b"\\x5c",
    b"\\x5cx41",
    b"\\\\x41",
    b"\\\xff",
    b"\\\\\xff",
    b"\\x\xff",
    b"\\X41",
    b"\\xFF",
    b"\\",
    b"ends with \\",
    b"ends with \\x",
    "\u202egpj.txt".encode(),  # right-to-left override
    "תמונה.jpg".encode(),
    b"<img onerror=alert(1)>.jpg",
    b"\x01\x1b[31m\x7f",
    b"n" * 255,
    b"\xff" * 255,
    b"\\x" * 127 + b"y",
    "\U0001f600".encode() * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_leads_back_to_its_file(name):
    assert os.fsencode(key_to_path(path_to_key(os.fsdecode(name)))) == name


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_valid_utf8(name):
    assert path_to_key(os.fsdecode(name)).encode("utf-8", errors="strict") is not None


def test_every_short_name_of_awkward_bytes_has_a_key_of_its_own():
    alphabet = [b"\\", b"x", b"5", b"c", b"\xff", "é".encode()]
    names = [
        b"".join(letters) for n in range(6) for letters in itertools.product(alphabet, repeat=n)
    ]
    keys = {path_to_key(os.fsdecode(name)) for name in names}
    assert len(keys) == len(names)
    assert {os.fsencode(key_to_path(key)) for key in keys} == set(names)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"a.jpg", "a.jpg"),
        (b"two\nlines", "two\nlines"),
        ("é".encode(), "é"),
        (b"back\\slash", "back\\slash"),
        (b"\xff.jpg", r"\xff.jpg"),
        (b"\\x41", r"\x5cx41"),
    ],
)
def test_only_bytes_that_are_no_text_and_backslash_x_are_written_differently(name, key):
    assert path_to_key(os.fsdecode(name)) == key


def test_awkward_names_survive_a_real_file_system(tmp_path):
    for name in (b"\xff.jpg", b"\\x41", b"two\nlines", b"n" * 255, "\u202egpj".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            file.write(name)
    keys = [path_to_key(name) for name in os.listdir(tmp_path)]  # noqa: PTH208 - as the system gives them
    assert len(keys) == 5
    for key in keys:
        assert os.fsencode(key_to_path(key)) == (tmp_path / key_to_path(key)).read_bytes()


@pytest.mark.parametrize(
    "key",
    [
        "../a.jpg",
        "/etc/passwd",
        "sub/../../a.jpg",
        r"\x2e\x2e/a.jpg",
        r"\x2fetc/passwd",
        r"a\x2f..\x2fb",
        r"a\x00.jpg",
    ],
)
def test_a_key_does_not_lead_out_of_the_folder(key, tmp_path):
    assert resolve_below(tmp_path, key) is None


@pytest.mark.parametrize(
    ("key", "path"), [("sub/a.jpg", "sub/a.jpg"), ("..jpg", "..jpg"), (r"\x5cx2e.jpg", r"\x2e.jpg")]
)
def test_a_key_inside_is_its_file(key, path, tmp_path):
    assert resolve_below(tmp_path, key) == tmp_path / path


@pytest.mark.parametrize("letter", ["x", "é", "漢", r"\xff"])
def test_a_long_name_is_cut_and_stays_its_own(letter):
    names = [letter * 300 + last for last in "ab"]
    found = {fit_name(name, ending) for name in names for ending in ("", ".jpg")}
    assert len(found) == 4 and all(
        is_valid_name_length(name) and name.startswith(letter * 10) for name in found
    )
    assert fit_name("a" * 251, ".jpg") == "a" * 251 + ".jpg" and not is_valid_name_length("a" * 256)


# --- paths that a user lists


def listed_key(path):
    return listed_paths_to_keys(pa.array([path]))[0].as_py()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b c.jpg", "a/b c.jpg"),
        ("100%/50%25.jpg", "100%/50%2525.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),  # nothing that is not ours is touched
        ("/data/a.jpg", "%2Fdata/a.jpg"),
        ("s3://bucket/a.jpg", "s3:/%2Fbucket/a.jpg"),
        ("../../a.jpg", "%2E./%2E./a.jpg"),
        ("./a/./b.jpg", "%2E/a/%2E/b.jpg"),
        ("a/..", "a/%2E."),
        ("a/", "a%2F"),
        ("a//b.jpg", "a/%2Fb.jpg"),
        ("...", "..."),
        ("/", "%2F"),
        ("///", "%2F/%2F"),
        ("a\0b", "a%00b"),
        ("\\x2e\\x2e/a.jpg", "\\x5cx2e\\x5cx2e/a.jpg"),  # a name of a file, not of the folder above
        ("%2Fa", "%252Fa"),
    ],
)
def test_a_listed_path_has_a_key_below_a_folder(path, key):
    assert listed_key(path) == key and key_to_listed_path(key) == path


@pytest.mark.long
@given(st.text(st.sampled_from("/.%2EF05\\xc\0aé\n") | st.characters(codec="utf-8"), min_size=1))
def test_whatever_is_listed_stays_below_and_leads_back(path):
    key = listed_key(path)
    assert key_to_listed_path(key) == path
    assert resolve_below(Path(), key) is not None and "\0" not in key
    assert str(PurePosixPath(key)) == key, "no part of it is dropped, so two keys are two files"


def test_short_listed_paths_have_keys_of_their_own():
    paths = [
        "".join(letters) for n in range(1, 7) for letters in itertools.product("/.%2F", repeat=n)
    ]
    keys = listed_paths_to_keys(pa.array(paths)).to_pylist()
    assert len(set(keys)) == len(paths) and [key_to_listed_path(key) for key in keys] == paths


@pytest.mark.parametrize("key", ["x" * 300 + ".jpg", "a/" + "é" * 200 + ".png", "x" * 300])
def test_an_overlay_of_an_overlong_name_fits(key):
    name = PurePosixPath(make_overlay_key(key)).name
    assert (
        is_valid_name_length(name)
        and name.endswith(".overlay.jpg")
        and make_overlay_key(key) != make_overlay_key("y" + key[1:])
    )


WILD = [
    "../a.jpg",
    "a/../b.jpg",
    "/a.jpg",
    "a//b.jpg",
    "./a.jpg",
    "..",
    "a/..",
    "__/a.jpg",
    r"\x2e\x2e/a.jpg",
    "a\0.jpg",
]


@pytest.mark.parametrize("key", WILD)
def test_a_name_that_leads_elsewhere_is_tamed(key, tmp_path):
    path = tmp_path / key_to_path(make_safe_key(key))
    assert path.resolve().is_relative_to(tmp_path) and "\0" not in str(path)
    assert PurePosixPath(path.name).suffix == PurePosixPath(key).suffix or ".." in key
    assert make_safe_key(make_safe_key(key)) != make_safe_key(key), "no other key has this name"


def test_tamed_names_are_never_the_same():
    keys = [*WILD, "a.jpg", "a/b.jpg", "b.jpg", *(make_safe_key(key) for key in WILD)]
    assert len({make_safe_key(key) for key in keys}) == len(keys)
    assert [
        key
        for key in ("a.jpg", "a/b c.jpg", r"\xff.jpg", "..jpg", "_/a.jpg")
        if make_safe_key(key) != key
    ] == []
