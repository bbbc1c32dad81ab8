"""The local folder that holds one process's copies of a run in an object store."""

import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "visionbatch-run-"


def make_mirror_folder() -> Path:
    """Create an empty folder below TMPDIR for this process.

    Folders that killed processes of this user left behind are removed.
    """
    for leftover in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        process = leftover.name.split("-")[2]
        is_own = process.isdigit() and leftover.stat().st_uid == os.getuid()
        if is_own and not _is_running(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
