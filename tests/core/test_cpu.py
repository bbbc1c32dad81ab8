"""Cores are counted as a container or an affinity mask grants them."""

import math
import os

import pytest

from pipeline.core import cpu as cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "what"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, math.inf),
    ],
)
def test_the_quota_of_a_container(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.read_cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(
    ("quota", "expected"), [(0.5, 1), (1.5, 2), (2.0, 2), (64.0, 3), (math.inf, 3)]
)
def test_the_smaller_of_mask_and_quota_counts(quota, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    monkeypatch.setattr(cores, "read_cpu_quota", lambda group: quota)
    assert cores.count_available_cores() == expected
