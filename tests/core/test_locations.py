from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location, redact_secrets
from pipeline.storage.listing import open_listing


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("photos", Path("photos")),
        ("/a//b/", Path("/a/b")),
        ("file:///a/b", Path("/a/b")),
        ("C:/x", Path("C:/x")),
        ("a:b//c", Path("a:b/c")),
        ("~", Path.home()),
        ("s3://bucket/a//b/", Uri("s3://bucket/a//b")),
        ("s3://bucket", Uri("s3://bucket")),
        ("https://host/a.jpg?size=3", Uri("https://host/a.jpg?size=3")),
        ("az://container/..", Uri("az://container/..")),
        (
            "abfs://container@account.dfs.core.windows.net/a",
            Uri("abfs://container@account.dfs.core.windows.net/a"),
        ),
    ],
)
def test_an_address_is_told_from_a_path(given, expected):
    assert parse_location(given) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://key:hidden@bucket/a", "must not hold a password"),
        ("https://user:hidden@host/a.jpg", "must not hold a password"),
        ("s3://", "expected an address such as"),
        ("s3:///", "expected an address such as"),
    ],
)
def test_an_address_that_cannot_be_is_refused(given, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_location(given)
    assert "hidden" not in str(caught.value)


def test_an_address_is_composed_like_a_path():
    run = Uri("s3://bucket/runs") / "detect-a"
    assert str(run / "plan" / "plan.json") == "s3://bucket/runs/detect-a/plan/plan.json"
    assert (run.name, run.parent, run.scheme) == ("detect-a", Uri("s3://bucket/runs"), "s3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing to hide? no", "nothing to hide? no"),
        ("https://h/a.jpg?X-Amz-Signature=hidden: HTTP 403", "https://h/a.jpg HTTP 403"),
        (
            "'https://h/a.jpg?sig=hidden' and http://h/b?c=hidden",
            "'https://h/a.jpg' and http://h/b",
        ),
        ("s3://key:hidden@bucket/a", "s3://bucket/a"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
        ("az://container@account/a", "az://container@account/a"),
    ],
)
def test_secrets_are_left_out_of_a_text(text, expected):
    assert redact_secrets(text) == expected


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs://bucket/photos", r"driver for gs:// is not installed.*visionbatch\[gcs\]"),
        ("az://container/photos", r"driver for az:// is not installed.*visionbatch\[azure\]"),
        ("nosuch://a/b", "Protocol not known: nosuch"),
    ],
)
def test_a_driver_that_is_missing_is_named(address, said, monkeypatch):
    for name in ("gcsfs", "adlfs"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ConfigError, match=said):
        open_listing(address, (".jpg",), "images")
