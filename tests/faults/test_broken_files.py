"""Broken and odd files get one row with a status each, and memory does not grow with them."""

import os
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY, shared
from tests.helpers.pictures import picture
from tests.helpers.runs import read

CUTS = range(0, 100, 5)


def corpus(folder: Path, times: int) -> int:
    """Write the shared odd files and two photographs cut at every 5 %, `times` times each.

    Returns:
        The number of files.
    """
    for progressive in (False, True):
        whole = BytesIO()
        picture(640, 480).save(whole, "JPEG", quality=90, progressive=progressive)
        for percent in CUTS:
            cut = folder / "0" / f"progressive-{progressive}-{percent:02d}.jpg"
            cut.parent.mkdir(parents=True, exist_ok=True)
            cut.write_bytes(whole.getvalue()[: len(whole.getvalue()) * percent // 100])
    odd = shared("data/odd_images")
    for path in sorted(odd.rglob("*")):
        if path.is_file():
            copy = folder / "0" / path.relative_to(odd)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for again in range(1, times):
        for path in sorted((folder / "0").rglob("*")):
            if path.is_file():
                link = folder / str(again) / path.relative_to(folder / "0")
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, link)
    return sum(path.is_file() for path in folder.rglob("*"))


def annotated(images: Path, output: Path) -> tuple[int, int]:
    """Run the program; return its exit code and its peak memory in bytes."""
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        "model=codes",
        f"input={images}",
        f"output={output}",
    ]
    process = subprocess.Popen(
        [*command, "log_level=error"], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024


@pytest.mark.faults
def test_each_is_a_typed_row_and_memory_stays_flat(tmp_path: Path) -> None:
    held = []
    for times in (1, 3):
        images, output = tmp_path / f"images-{times}", tmp_path / f"out-{times}"
        count = corpus(images, times)
        code, memory = annotated(images, output)
        assert code == 5
        held.append(memory)
        rows = read((output / "latest").resolve(), "images").to_pylist()
        assert len({row["key"] for row in rows}) == len(rows) == count
        assert all((row["error"] is None) is (row["status"] == "ok") for row in rows)
        statuses = {row["key"]: row["status"] for row in rows}
        for progressive in (False, True):
            assert statuses[f"0/progressive-{progressive}-00.jpg"] == "empty"
            cut = Counter(
                statuses[f"0/progressive-{progressive}-{percent:02d}.jpg"] for percent in CUTS[1:]
            )
            assert cut == {"truncated": len(CUTS) - 1}
    # Peaks of equal runs differ by 7 %. If each decoded image were kept, the second peak would be
    # more than a gigabyte higher.
    assert held[1] < held[0] * 1.2, held
