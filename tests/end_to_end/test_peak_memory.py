"""The peak memory of a run stays within `memory=`, whatever its images claim."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.core.package_files import find_resource
from tests.helpers.paths import shared

BUDGET_MB = 1500
# Runs a command and prints the peak of its processes in MB.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def measure_run(images: Path, output: Path) -> tuple[dict[str, int], float]:
    """Run a classifier with 16 threads. Return the number of rows by status, and the peak in MB."""
    words = [
        "task=classify",
        "model=mobilenet_v2",
        "weights=random",
        "workers=16",
        f"memory={BUDGET_MB}MB",
        "overlays=false",
        "log_level=error",
        f"input={images}",
        f"output={output}",
    ]
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "pipeline", "run", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=find_resource("conf").parent,
    )
    code, peak = done.stdout.split()
    assert code in ("0", "5"), done.stderr
    rows = ds.dataset(output / "latest/images").to_table(columns=["status"])
    counts = rows.group_by("status").aggregate([([], "count_all")]).to_pylist()
    return {row["status"]: row["count_all"] for row in counts}, float(peak)


def save_copies(folder: Path, size: tuple[int, int], count: int) -> None:
    """Save an image of width and height `size` and links to it."""
    folder.mkdir(exist_ok=True)
    name = f"{size[0]}x{size[1]}"
    Image.effect_noise((64, 64), 99).resize(size).convert("RGB").save(folder / f"{name}-0.jpg")
    for i in range(1, count):
        (folder / f"{name}-{i}.jpg").hardlink_to(folder / f"{name}-0.jpg")


@pytest.fixture(scope="module")
def peak_of_one_small_image(tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("small")
    save_copies(folder / "images", (64, 64), 1)
    counts, peak = measure_run(folder / "images", folder / "out")
    assert counts == {"ok": 1}
    return peak


@pytest.mark.long
def test_large_images_take_turns(peak_of_one_small_image: float, tmp_path: Path) -> None:
    """Sixteen threads would decode all twelve at once, which takes 670 MB each."""
    save_copies(tmp_path / "images", (6000, 4000), 12)
    counts, peak = measure_run(tmp_path / "images", tmp_path / "out")
    assert counts == {"ok": 12}
    assert peak - peak_of_one_small_image < BUDGET_MB


@pytest.mark.long
def test_thin_images_are_rows(peak_of_one_small_image: float, tmp_path: Path) -> None:
    save_copies(tmp_path / "images", (4800, 48), 12)
    save_copies(tmp_path / "images", (63008, 48), 24)
    counts, peak = measure_run(tmp_path / "images", tmp_path / "out")
    assert counts == {"ok": 12, "too_large": 24}
    assert peak - peak_of_one_small_image < BUDGET_MB


@pytest.mark.long
def test_broken_images_are_rows(peak_of_one_small_image: float, tmp_path: Path) -> None:
    folder = shared("data/odd_images/jpeg_fuzz")
    counts, peak = measure_run(Path(folder), tmp_path / "out")
    assert sum(counts.values()) == len([path for path in Path(folder).rglob("*") if path.is_file()])
    assert counts["truncated"] > 100, json.dumps(counts)
    assert peak - peak_of_one_small_image < BUDGET_MB
