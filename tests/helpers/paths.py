"""Find the repository, its samples and the shared test material."""

import os
from pathlib import Path

import pytest

from pipeline.core.package_files import find_resource

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
SAMPLES = find_resource("data") / "samples"


def shared(path: str) -> Path:
    """Return a file or folder of the shared test material, or skip the test where there is none.

    Under CI=true the test fails instead if the shared folder exists but lacks the file, so that the
    gap is noticed.
    """
    found = SHARED / path
    if not found.exists():
        reason = f"needs ../shared/{path}, which is not beside this checkout"
        if SHARED.exists() and os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and ../shared is there: the test {reason}")
        pytest.skip(reason)
    return found
