"""Count the cores this process may use, and limit the threads that operators start."""

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
# Environment variable: the number of cores for this process, where workers share a machine.
CORES_VARIABLE = "VISIONBATCH_CORES"


def count_available_cores() -> int:
    """Return the smallest of affinity mask, container CPU quota and this process's share."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    share = float(os.environ.get(CORES_VARIABLE, math.inf))
    return max(1, math.ceil(min(cores, read_cpu_quota(_CONTROL_GROUP), share)))


def get_share_of_cores() -> float:
    """Return the part of the machine that belongs to this process: 1, or less beside workers."""
    machine = os.cpu_count() or 1
    return min(1.0, float(os.environ.get(CORES_VARIABLE, math.inf)) / machine)


def read_cpu_quota(control_group: Path) -> float:
    """Return the cores that a control group (version 2 or 1) grants; infinity without a limit."""
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
    """Make the calling thread run PyTorch operators without an OpenMP thread team.

    Thread teams of decoding and writing threads would take cores from the forward pass. They slow
    it down even while they are idle, because OpenMP lets its threads sleep between two operators
    as soon as there are more threads than cores. `torch.set_num_threads` cannot be used here:
    part of its effect is global.
    """
    ThreadpoolController().select(user_api="openmp").limit(limits=1)


def map_in_threads(function: Callable[[A], B], values: Iterable[A]) -> list[B]:
    """Apply a function to each value in inference mode, with one thread per core.

    Use it for operators that run on one core each. The results are in the order of the values.
    """

    def call(value: A) -> B:
        with torch.inference_mode():
            return function(value)

    return list(_get_pool().map(call, values))


@cache
def _get_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        count_available_cores(), thread_name_prefix="operators", initializer=disable_openmp_threads
    )
