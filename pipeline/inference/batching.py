"""Group indices by bucket, pull values ahead and prefetch in a thread.

These helpers do not depend on images or models.
"""

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
_STOP_CHECK_S = 0.1  # a thread waiting at a full queue checks this often if its consumer stopped


def group_by_bucket(
    buckets: Sequence[Hashable],
    batch_size: int,
    weights: Sequence[int] | None = None,
    costs: Sequence[float] | None = None,
    most_cost: float = math.inf,
) -> list[list[int]]:
    """Group indices into batches of one bucket and of limited weight.

    Batches are in the order in which they fill up. Incomplete ones are last.

    Args:
        buckets: The bucket of each index; only equal ones share a batch.
        batch_size: The largest weight of a batch. An index that weighs more has its own batch.
        weights: The weight of each index; by default 1.
        costs: The bytes of each index; by default 0.
        most_cost: The most bytes of a batch. An index that has more has its own batch.
    """
    batches: list[list[int]] = []
    open_batches: dict[Hashable, list[int]] = {}
    open_weights: dict[Hashable, int] = {}
    open_costs: dict[Hashable, float] = {}

    for index, bucket in enumerate(buckets):
        weight, cost = weights[index] if weights else 1, costs[index] if costs else 0
        if bucket in open_batches and (
            open_weights[bucket] + weight > batch_size or open_costs[bucket] + cost > most_cost
        ):
            batches.append(open_batches.pop(bucket))
        if bucket not in open_batches:
            open_batches[bucket], open_weights[bucket], open_costs[bucket] = [], 0, 0
        open_batches[bucket].append(index)
        open_weights[bucket] += weight
        open_costs[bucket] += cost
        if open_weights[bucket] >= batch_size:
            batches.append(open_batches.pop(bucket))

    return batches + list(open_batches.values())


def pull_ahead(
    values: Iterable[T],
    depth: int,
    cost: Callable[[T], float] = lambda value: 0,
    most_cost: float = math.inf,
) -> Iterator[T]:
    """Yield each value only after the next `depth` values have been pulled from the iterable.

    This is useful if making a value starts work in the background. No reference to a yielded value
    is kept. No further value is pulled while those pulled cost `most_cost` or more.
    """
    iterator = iter(values)
    pulled: deque[T] = deque()
    while True:
        while len(pulled) <= depth and (not pulled or sum(map(cost, pulled)) < most_cost):
            following = list(islice(iterator, 1))
            if not following:
                break
            pulled += following
            del following
        if not pulled:
            return
        yield pulled.popleft()


def prefetch_in_thread(values: Iterable[T], depth: int) -> Iterator[T]:
    """Iterate over the values in a thread that is at most `depth` values ahead of the consumer.

    An exception in the thread is raised in the consumer, after the values before it. Closing the
    iterator stops the thread. No reference to a yielded value is kept, so its memory is freed when
    the consumer drops it.
    """
    # A queue element is [value], an empty list at the end, or the exception of the thread.
    queue: Queue[list[T] | BaseException] = Queue(depth)
    stop = Event()

    def put(element: list[T] | BaseException) -> None:
        while not stop.is_set():
            try:
                return queue.put(element, timeout=_STOP_CHECK_S)
            except Full:
                continue

    def fill() -> None:
        try:
            for value in values:
                put([value])
                del value
                if stop.is_set():
                    return
            put([])
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            put(error)

    thread = Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            element = queue.get()
            if isinstance(element, BaseException):
                raise element
            if not element:
                return
            yield element.pop()
    finally:
        stop.set()
        thread.join()
