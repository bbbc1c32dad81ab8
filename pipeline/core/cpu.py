"""How many cores this process may use, and which threads may use several."""

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

A = TypeVar("A")
B = TypeVar("B")
_CONTROL_GROUP = Path("/sys/fs/cgroup")
CORES_VARIABLE = "VISIONBATCH_CORES"  # in the environment of a process that shares a machine with others of its kind


def count_available_cores() -> int:
    """Those of the affinity mask, no more than a container's CPU quota, and than this process's share."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    share = float(os.environ.get(CORES_VARIABLE, math.inf))
    return max(1, math.ceil(min(cores, read_cpu_quota(_CONTROL_GROUP), share)))


def read_cpu_quota(control_group: Path) -> float:
    """Cores that a control group grants, of version 2 or else 1; infinity where none is set."""
    try:
        quota, period = (control_group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (control_group / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (control_group / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def disable_openmp_threads() -> None:
    """The calling thread runs PyTorch's operators alone, without a team of threads of its own. Teams of threads that decode
    or write would take cores from the forward pass, and slow it down even while they rest: where there are more of them
    than cores, OpenMP lets its threads sleep between two operators (measured: a forward pass of 23 ms took 39).
    `torch.set_num_threads` is no help: part of it holds for all threads."""
    ThreadpoolController().select(user_api="openmp").limit(limits=1)


def map_in_threads(function: Callable[[A], B], values: Iterable[A]) -> list[B]:
    """The function of each value, for inference, in as many threads as there are cores: for operators that use one core."""

    def call(value: A) -> B:
        with torch.inference_mode():
            return function(value)

    return list(_threads().map(call, values))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        count_available_cores(), thread_name_prefix="operators", initializer=disable_openmp_threads
    )
