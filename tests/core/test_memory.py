"""Sizes in bytes, the memory of control groups, and admission by bytes."""

import threading
import time
from pathlib import Path

import pytest

from pipeline.core.memory import ByteSemaphore, format_bytes, measure_available_memory, parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1", 1), ("512MB", 512 * 10**6), ("1.5 gb", 15 * 10**8), ("2GiB", 2**31), ("3k", 3000)],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1.2.3MB", "2XB", "0", "nan", "inf", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


def test_a_size_in_a_message() -> None:
    assert [format_bytes(n) for n in (12, 512e6, 1.5e9)] == ["12 B", "512 MB", "1.5 GB"]


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/jobs/one", "jobs/memory.max"),  # version 2: a group around the own one
        ("0::/outside", "memory.max"),  # in a container
        ("4:cpu,memory:/job", "memory/job/memory.limit_in_bytes"),  # version 1
    ],
)
def test_the_smallest_limit_of_all_control_groups_counts(
    tmp_path: Path, line: str, file: str
) -> None:
    (tmp_path / "own").write_text(line)
    whole = measure_available_memory(tmp_path, tmp_path / "own")
    limit = tmp_path / file
    limit.parent.mkdir(parents=True, exist_ok=True)
    limit.write_text("max\n")
    assert measure_available_memory(tmp_path, tmp_path / "own") == whole
    limit.write_text("12345678\n")
    assert measure_available_memory(tmp_path, tmp_path / "own") == 12345678


def test_work_is_admitted_within_the_bytes_and_too_large_work_alone() -> None:
    semaphore, lock = ByteSemaphore(100), threading.Lock()
    inside: list[int] = []
    sums: list[list[int]] = []

    def work(n_bytes: int) -> None:
        with semaphore.admit(n_bytes):
            with lock:
                inside.append(n_bytes)
                sums.append(list(inside))
            time.sleep(0.002)
            with lock:
                inside.remove(n_bytes)

    sizes = [10, 40, 60, 100, 500, 1] * 8
    threads = [threading.Thread(target=work, args=(size,), daemon=True) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "waits for ever"
    assert len(sums) == len(sizes)
    assert all(sum(together) <= 100 or len(together) == 1 for together in sums)
    assert max(map(len, sums)) > 1


def test_who_asked_first_is_admitted_first() -> None:
    semaphore, order = ByteSemaphore(10), []

    def work(n_bytes: int) -> None:
        with semaphore.admit(n_bytes):
            order.append(n_bytes)

    with semaphore.admit(5):
        threads = [threading.Thread(target=work, args=(size,)) for size in (10, 1)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        assert order == []  # the small one does not overtake the large one
    for thread in threads:
        thread.join(20)
    assert order == [10, 1]
