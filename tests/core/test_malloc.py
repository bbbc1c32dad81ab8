"""Freed memory is kept for the next batch."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline.core.malloc import keep_freed_memory
from tests.helpers.paths import REPOSITORY

_PROGRAM = """
import resource, sys
from pipeline.core.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
block = bytes(60 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for i in range(10):
    block = None
    block = b"x" * (60 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_kernel_need_not_clear_pages_again() -> None:
    def faults(how: str) -> int:
        call = [sys.executable, "-c", _PROGRAM, how]
        return int(
            subprocess.run(
                call, capture_output=True, env={"PYTHONPATH": str(REPOSITORY)}, check=True
            ).stdout
        )

    assert faults("kept") < faults("given back") / 4


def test_the_users_own_settings_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert keep_freed_memory() is False


@pytest.mark.parametrize(
    "library", [SimpleNamespace(), SimpleNamespace(mallopt=lambda what, value: 0)]
)
def test_another_c_library_is_left_alone(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert keep_freed_memory() is False
