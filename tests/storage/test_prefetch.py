import threading
import time
from contextlib import closing, contextmanager

import pytest

from pipeline.core.errors import OutOfSpace
from pipeline.core.types import Entry, InputError, Status
from pipeline.storage import prefetch as ahead
from pipeline.storage.prefetch import Prefetcher
from tests.helpers.open_files import count_nameless_files


def entries(*names):
    return [Entry(name, len(name), 0) for name in names]


class Far:
    """Gives each name's own bytes, slowly; notes what was asked for, and how many at once."""

    def __init__(self, seconds=0.0, wait=None):
        self.seconds, self.wait = seconds, wait
        self.asked, self.now, self.most = [], 0, 0
        self._lock = threading.Lock()

    def __call__(self, key, seconds):
        with self._lock:
            self.asked.append(key)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        if self.wait:
            self.wait.wait(10)
        with self._lock:
            self.now -= 1
        if key.startswith("bad"):
            raise InputError(Status.MISSING, "gone")
        return key.encode() * 1000


@contextmanager
def ahead_of(far):
    with closing(Prefetcher(far)) as found:
        yield found


def settled(far, count):
    for _ in range(500):
        if len(far.asked) >= count and far.now == 0:
            return
        time.sleep(0.01)
    raise AssertionError(f"{far.asked}")


def test_nothing_is_asked_for_of_itself():
    far = Far()
    with ahead_of(far) as fetched:
        fetched.enqueue([], 1)
    assert far.asked == []


def test_what_was_announced_is_fetched_once_however_often_it_is_taken():
    far = Far()
    with ahead_of(far) as fetched:
        fetched.enqueue(entries("a", "b"), 100)
        settled(far, 2)
        for _ in range(3):
            assert fetched.fetch(Entry("a", 1, 0)) == b"a" * 1000
        assert fetched.fetch(Entry("b", 1, 0)) == b"b" * 1000
    assert sorted(far.asked) == ["a", "b"]


def test_what_was_not_announced_or_has_ended_or_is_another_is_fetched_when_asked_for():
    far = Far()
    with ahead_of(far) as fetched:
        fetched.enqueue(entries("a"), 100)
        assert fetched.fetch(Entry("a", 5, 0)) == b"a" * 1000  # changed since
        assert fetched.fetch(Entry("b", 1, 0)) == b"b" * 1000
        fetched.release(entries("a"))
        assert fetched.fetch(Entry("a", 1, 0)) == b"a" * 1000
    assert far.asked.count("a") >= 2


def test_what_cannot_be_had_says_so_where_it_is_taken():
    with ahead_of(Far()) as fetched:
        fetched.enqueue(entries("bad", "b"), 100)
        for _ in range(2):
            with pytest.raises(InputError, match="gone"):
                fetched.fetch(Entry("bad", 3, 0))
        assert fetched.fetch(Entry("b", 1, 0)) == b"b" * 1000


def test_sixteen_at_once_and_no_more_beat_one_by_one():
    far = Far(seconds=0.05)
    names = [f"{i:03d}" for i in range(64)]
    with ahead_of(far) as fetched:
        began = time.monotonic()
        fetched.enqueue(entries(*names), 100)
        for name in names:
            assert fetched.fetch(Entry(name, 3, 0))[:3] == name.encode()
        seconds = time.monotonic() - began
    assert 8 <= far.most <= 17  # and the one who asks
    assert seconds < 64 * 0.05 / 2


def test_what_nobody_has_begun_is_fetched_by_who_needs_it():
    gate = threading.Event()
    far = Far(wait=gate)
    names = [f"{i:03d}" for i in range(20)]
    with ahead_of(far) as fetched:
        fetched.enqueue(entries(*names), 100)
        taken = []
        asking = threading.Thread(target=lambda: taken.append(fetched.fetch(Entry("019", 3, 0))))
        asking.start()
        for _ in range(200):
            if "019" in far.asked:
                break
            time.sleep(0.01)
        assert "019" in far.asked and far.most == 17
        gate.set()
        asking.join(10)
    assert taken == [b"019" * 1000]


def test_bytes_of_later_groups_are_bounded_and_of_the_oldest_are_not(monkeypatch):
    monkeypatch.setattr(ahead, "_AHEAD_BYTES", 10_000)
    monkeypatch.setattr(ahead, "_AT_ONCE", 1)
    far = Far()
    first, second = ([f"{letter}{i}" for i in range(20)] for letter in "ab")
    with ahead_of(far) as fetched:
        fetched.enqueue(entries(*first), 100)
        fetched.enqueue(entries(*second), 100)
        settled(far, 25)
        time.sleep(0.1)
        assert far.asked == first + second[:5]  # 2,000 bytes each
        fetched.release(entries(*first))
        settled(far, 40)
        assert far.asked == first + second


def test_a_file_that_is_queued_twice_is_fetched_once_and_kept_until_both_have_ended():
    far = Far()
    with ahead_of(far) as fetched:
        fetched.enqueue(entries("a"), 100)
        fetched.enqueue(entries("a", "b"), 100)
        settled(far, 2)
        fetched.release(entries("a"))
        assert fetched.fetch(Entry("a", 1, 0)) == b"a" * 1000
        fetched.release(entries("a", "b"))
        assert sorted(far.asked) == ["a", "b"]
        assert fetched.fetch(Entry("a", 1, 0)) == b"a" * 1000  # asked for again
    assert sorted(far.asked) == ["a", "a", "b"]


def test_files_that_are_queued_one_by_one_share_open_files():
    before, far = count_nameless_files(), Far()
    with ahead_of(far) as fetched:
        names = [f"{i}" for i in range(320)]
        for name in names:
            fetched.enqueue(entries(name), 100)
        settled(far, 320)
        assert count_nameless_files() - before <= 320 / 16
        fetched.release(entries(*names))
        assert count_nameless_files() == before


def test_released_files_that_were_not_begun_are_not_fetched_and_keep_no_file(monkeypatch):
    monkeypatch.setattr(ahead, "_AT_ONCE", 2)
    gate = threading.Event()
    before, far = count_nameless_files(), Far(wait=gate)
    names = [f"{i:03d}" for i in range(40)]
    with ahead_of(far) as fetched:
        fetched.enqueue(entries(*names), 100)
        fetched.release(entries(*names))
        gate.set()
        settled(far, 2)
        fetched.enqueue(entries("z"), 100)
        settled(far, 3)
        fetched.release(entries("z"))
        assert sorted(far.asked) == ["000", "001", "z"]
        for _ in range(100):
            if count_nameless_files() == before:
                break
            time.sleep(0.01)
        assert count_nameless_files() == before


def test_closing_leaves_no_thread_and_no_file():
    before = threading.active_count()
    far = Far(seconds=0.01)
    with ahead_of(far) as fetched:
        fetched.enqueue(entries(*(f"{i}" for i in range(100))), 100)
    assert threading.active_count() == before and len(far.asked) < 100


def test_a_full_disk_ends_the_run_and_names_the_folder(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ahead.os, "pwrite", full)
    with ahead_of(Far()) as fetched:
        fetched.enqueue(entries("a"), 100)
        with pytest.raises(
            OutOfSpace, match=r"No space left on device\. TMPDIR= names another folder"
        ):
            fetched.fetch(Entry("a", 1, 0))


def test_the_time_of_a_fetch_is_less_than_that_of_an_input():
    seen = []
    with closing(Prefetcher(lambda key, seconds: (seen.append(seconds), b"x")[1])) as fetched:
        fetched.enqueue(entries("a"), 100)
        fetched.enqueue(entries("b"), float("inf"))
        assert fetched.fetch(Entry("a", 1, 0)) == fetched.fetch(Entry("b", 1, 0)) == b"x"
    assert sorted(seen, key=str) == [80.0, None]
