import errno
import time
from datetime import UTC, datetime

import pytest

from pipeline.core.locations import Uri
from pipeline.storage import object_client as remote
from pipeline.storage.object_client import ObjectClient, read_modified_ns
from pipeline.storage.store_errors import StoreTooSlow, StoreUnavailable, is_transient


class Status(Exception):
    def __init__(self, status):
        super().__init__(f"https://host/a.jpg?signature=hidden said {status}")
        self.status = status


class Driver:
    """Fails as often as there are errors, then answers."""

    async_impl = False
    protocol = ("fake",)

    def __init__(self, *errors):
        self.errors = list(errors)
        self.asked = 0

    def cat_file(self, path, start=None, end=None):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return b"0123456789"


@pytest.fixture
def driven(monkeypatch):
    """driven(errors ...) is a store that fails so often; nobody waits between tries."""
    pauses = []
    monkeypatch.setattr(remote.time, "sleep", pauses.append)

    def make(*errors):
        driver = Driver(*errors)
        monkeypatch.setattr(remote, "_open_file_system", lambda address: (driver, "root"))
        return ObjectClient(Uri("fake://root")), driver, pauses

    return make


PASSING = [
    TimeoutError("slow"),
    ConnectionResetError("reset"),
    Status(500),
    Status(503),
    Status(429),
    OSError(errno.EBUSY, "SlowDown"),
]
PERMANENT = [
    FileNotFoundError("gone"),
    PermissionError("no"),
    Status(400),
    Status(403),
    Status(404),
    Status(501),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_asked_again(error, driven):
    store, driver, pauses = driven(error, error)
    assert store.read("root/a") == b"0123456789" and driver.asked == 3
    assert len(pauses) == 2 and 0 <= pauses[0] <= 0.2 and 0 <= pauses[1] <= 0.4


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_what_does_not_pass_is_asked_once(error, driven):
    store, driver, _ = driven(error)
    with pytest.raises(OSError) as caught:
        store.read("root/a")
    assert driver.asked == 1 and "hidden" not in str(caught.value)
    kinds = {403: PermissionError, 404: FileNotFoundError}
    assert isinstance(caught.value, kinds.get(getattr(error, "status", 0), OSError))


def test_tries_are_bounded(driven):
    store, driver, _ = driven(*[Status(503)] * 100)
    with pytest.raises(StoreUnavailable, match=r"HTTP status 503.*5 tries") as caught:
        store.read("root/a")
    assert driver.asked == 5 and "hidden" not in str(caught.value)


def test_there_is_no_try_after_the_time_is_up(driven):
    store, driver, _ = driven(*[Status(503)] * 100)
    with pytest.raises(StoreTooSlow, match=r"not read in 0.0001 s .*503"):
        store.read("root/a", seconds=0.0001)
    assert driver.asked == 1


def test_a_server_without_ranges_sends_all_and_the_range_is_cut_out(driven):
    assert driven()[0].read("root/a", 3, 5) == b"34"


def test_an_error_nobody_expects_is_not_tried_again():
    assert not is_transient(KeyError("x"))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, 0),
        ({"LastModified": datetime(2026, 1, 2, tzinfo=UTC)}, 1_767_312_000_000_000_000),
        ({"updated": "2026-01-02T00:00:00Z"}, 1_767_312_000_000_000_000),
        ({"mtime": 1.5}, 1_500_000_000),
    ],
)
def test_the_time_of_writing(info, expected):
    assert read_modified_ns(info) == expected


@pytest.mark.long
def test_a_hanging_server_costs_no_more_than_its_time(s3):
    s3.put(s3.bucket("remote"), "a", b"x")
    store = ObjectClient(Uri("s3://remote"))
    s3.rules({"method": "GET", "match": "/remote/a", "seconds": 3})
    began = time.monotonic()
    with pytest.raises(StoreTooSlow):
        store.read("remote/a", seconds=0.5)
    assert time.monotonic() - began < 2.5
    s3.rules()
    assert store.read("remote/a", seconds=5) == b"x"


def test_created_once(s3):
    s3.bucket("create")
    store = ObjectClient(Uri("s3://create"))
    assert store.create("create/lock", b"one") and not store.create("create/lock", b"two")
    assert store.read("create/lock") == b"one"
    s3.rules({"method": "PUT", "match": "/create/other", "status": 500, "times": 1})
    assert store.create("create/other", b"three")
    store.remove("create/other")
    store.remove("create/other")
    assert sorted(s3.contents("create")) == ["lock"]
