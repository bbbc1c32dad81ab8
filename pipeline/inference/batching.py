"""Group images into batches and hand them over between threads. Pure: knows neither images nor models."""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def group_by_bucket(
    buckets: Sequence[Hashable], batch_size: int, weights: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices grouped so that a batch holds one bucket only and at most `batch_size` of weight (1 each unless given), or
    one index alone; a batch is due when it is full or the next does not fit, the rest at the end."""
    batches: list[list[int]] = []
    open_batches: dict[Hashable, list[int]] = {}
    held: dict[Hashable, int] = {}
    for index, bucket in enumerate(buckets):
        weight = weights[index] if weights else 1
        if bucket in open_batches and held[bucket] + weight > batch_size:
            batches.append(open_batches.pop(bucket))
        if bucket not in open_batches:
            held[bucket] = 0
        open_batches.setdefault(bucket, []).append(index)
        held[bucket] += weight
        if held[bucket] >= batch_size:
            batches.append(open_batches.pop(bucket))
    return batches + list(open_batches.values())


def pull_ahead(values: Iterable[T], depth: int) -> Iterator[T]:
    """The same values; each is asked for when `depth` before it are still to be handed out."""
    begun: deque[T] = deque()
    for value in values:
        begun.append(value)
        if len(begun) > depth:
            yield begun.popleft()
    yield from begun


def prefetch_in_thread(values: Iterable[T], depth: int) -> Iterator[T]:
    """Iterate in a thread, at most `depth` values ahead. What the thread raises is raised here; closing the iterator
    stops the thread."""
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(depth)
    stop = Event()

    def put(value: T | None, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                return queue.put((value, error), timeout=0.1)
            except Full:
                continue

    def fill() -> None:
        try:
            for value in values:
                put(value)
                if stop.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 - carried over to the consumer
            put(None, error)

    thread = Thread(target=fill, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            value, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
