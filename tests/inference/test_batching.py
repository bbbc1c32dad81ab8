"""Grouping indices by bucket, pulling values ahead, prefetching them in a thread."""

import threading
import time

import pytest

from pipeline.inference.batching import group_by_bucket, prefetch_in_thread, pull_ahead

# --- buckets


@pytest.mark.parametrize(
    ("buckets", "size", "expected"),
    [
        ("", 2, []),
        ("a", 2, [[0]]),
        ("aaa", 2, [[0, 1], [2]]),
        ("abab", 2, [[0, 2], [1, 3]]),
        ("abb", 2, [[1, 2], [0]]),  # a full batch comes at once, incomplete ones at the end
        ("abcabc", 3, [[0, 3], [1, 4], [2, 5]]),
        ("aab", 1, [[0], [1], [2]]),
        ("abba", 99, [[0, 3], [1, 2]]),
    ],
)
def test_a_batch_holds_one_bucket_only(buckets, size, expected):
    assert group_by_bucket(buckets, size) == expected
    assert group_by_bucket(buckets, size, [1] * len(buckets)) == expected


@pytest.mark.parametrize(
    ("buckets", "weights", "size", "expected"),
    [
        ("aaaa", [2, 2, 2, 2], 4, [[0, 1], [2, 3]]),
        ("aaaa", [2, 2, 2, 2], 5, [[0, 1], [2, 3]]),  # a third would be too much
        ("aaa", [9, 1, 9], 4, [[0], [1], [2]]),  # too much alone is a batch of its own
        ("aabb", [3, 1, 1, 2], 4, [[0, 1], [2, 3]]),
        ("abab", [1, 9, 9, 1], 4, [[1], [0], [2], [3]]),
        ("", [], 4, []),
    ],
)
def test_a_batch_is_full_by_weight(buckets, weights, size, expected):
    assert group_by_bucket(buckets, size, weights) == expected


def test_every_index_comes_exactly_once():
    buckets = [(i * i) % 7 for i in range(100)]
    batches = group_by_bucket(buckets, 4)
    assert sorted(index for batch in batches for index in batch) == list(range(100))
    assert all(len(batch) <= 4 and len({buckets[i] for i in batch}) == 1 for batch in batches)


# --- values pulled ahead


@pytest.mark.parametrize("depth", [0, 1, 3, 9])
def test_values_begun_ahead_come_in_order(depth):
    begun = []
    values = pull_ahead((begun.append(i) or i for i in range(5)), depth)
    assert next(values) == 0 and begun == list(range(min(depth + 1, 5)))
    assert list(values) == [1, 2, 3, 4]


# --- prefetching in a thread


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 50])
@pytest.mark.parametrize("values", [[], [None], [1, 2, 3], list(range(100))])
def test_values_come_in_order(values, depth):
    assert list(prefetch_in_thread(iter(values), depth)) == values
    assert not prefetch_threads()


def test_values_are_made_in_another_thread():
    makers = list(prefetch_in_thread((threading.current_thread() for _ in range(2)), 1))
    assert threading.current_thread() not in makers


@pytest.mark.parametrize(
    "error",
    [ValueError("broken"), KeyboardInterrupt("stop"), MemoryError("full"), KeyError("gone")],
)
def test_what_the_thread_raises_is_raised_here_after_the_values_before_it(error):
    def values():
        yield 1
        yield 2
        raise error

    iterator, found = prefetch_in_thread(values(), 1), []
    with pytest.raises(type(error)) as caught:
        for value in iterator:
            found.append(value)
    assert found == [1, 2] and caught.value is error
    assert not prefetch_threads()


def test_it_reads_ahead_but_not_without_end():
    made, third = [], threading.Event()

    def values():
        for i in range(100):
            made.append(i)
            if len(made) == 3:
                third.set()
            yield i

    iterator = prefetch_in_thread(values(), 2)
    assert next(iterator) == 0
    assert third.wait(5), "nothing was read ahead"
    time.sleep(0.05)
    assert len(made) <= 1 + 2 + 1  # one consumed, two queued, one waiting for the queue
    iterator.close()


def test_closing_early_stops_the_thread():
    made = []

    def endless():
        while True:
            made.append(1)
            yield 1

    iterator = prefetch_in_thread(endless(), 2)
    next(iterator)
    assert prefetch_threads()
    iterator.close()
    assert not prefetch_threads()
    n = len(made)
    time.sleep(0.02)
    assert len(made) == n


def test_an_exception_in_the_loop_stops_the_thread():
    iterator = prefetch_in_thread(iter(range(10**9)), 1)
    with pytest.raises(ValueError, match="mine"):
        for _ in iterator:
            raise ValueError("mine")
    iterator.close()
    assert not prefetch_threads()
