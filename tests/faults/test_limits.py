"""Runs under system limits: file size, open files, address space, and a disk of 64 kB."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.results.commands.verify import verify_run
from tests.helpers.own_files import CLASSIFIER, Classifier, save
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import read


def limited(
    limit: str, number: int, output: Path, *settings: str
) -> "subprocess.CompletedProcess[str]":
    words = [
        sys.executable,
        "-m",
        "tests.faults.limited",
        limit,
        str(number),
        "run",
        f"output={output}",
        *settings,
    ]
    words += [] if any(setting.startswith("model=") for setting in settings) else ["model=codes"]
    return subprocess.run(
        words, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )


def unlimited(output: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    return limited("NOFILE", 1024, output, *settings)


@pytest.mark.long
def test_files_may_not_grow_is_out_of_space(tmp_path: Path) -> None:
    settings = ("shard_size=4", f"input={SAMPLES}")
    done = limited("FSIZE", 12_000, tmp_path, *settings)  # the tables fit, the overlays do not
    assert done.returncode == 4 and "disk or quota is full" in done.stderr, done
    assert not list(tmp_path.glob("detect-*/_committed/*.json"))
    assert unlimited(tmp_path, *settings).returncode == 0
    assert "12 images with one row each" in verify_run(tmp_path / "latest")


@pytest.mark.faults
def test_open_files_do_not_add_up(tmp_path: Path) -> None:
    """10,000 files are read with 64 descriptors, some of which the libraries use."""
    folder = tmp_path / "images"
    folder.mkdir()
    picture(40, 30).save(folder / "00000.jpg")
    model = save(Classifier(), "torchscript", tmp_path, torch.zeros(2, 3, 224, 224), {0: "batch"})
    for i in range(1, 10_000):
        os.link(folder / "00000.jpg", folder / f"{i:05d}.jpg")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    own = ("task=classify", "model=torchscript", f"weights={model}", CLASSIFIER, "trust_code=true")
    settings = (*own, f"categories={tmp_path / 'names.txt'}", f"input={folder}", "overlays=false")
    done = limited("NOFILE", 64, tmp_path / "out", *settings)
    assert done.returncode == 0, done.stderr
    assert (
        read((tmp_path / "out" / "latest").resolve(), "images")["status"].to_pylist()
        == ["ok"] * 10_000
    )


@pytest.mark.faults
def test_an_image_larger_than_the_address_space_costs_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        picture(300, 200, seed=i).save(folder / f"{i}.jpg")
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")  # 2.7 GB as RGB
    done = limited(
        "AS",
        6 << 30,
        tmp_path / "out",
        f"input={folder}",
        "overlays=false",
        "max_pixels=1_000_000_000",
    )
    assert done.returncode == 5, done.stderr
    rows = read((tmp_path / "out" / "latest").resolve(), "images").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["out_of_memory"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 kB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"a file system of 64 kB cannot be mounted here: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.mark.faults
def test_a_disk_of_64_kb(small_disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(SAMPLES, folder, ignore=shutil.ignore_patterns("*.json"))
    settings = ("shard_size=2", f"input={folder}")
    done = limited("NOFILE", 1024, small_disk, *settings)
    assert done.returncode == 4 and "disk or quota is full" in done.stderr, done
    (run,) = small_disk.glob("detect-*")
    committed = {path.name: path.read_bytes() for path in (run / "_committed").glob("*.json")}
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert limited("NOFILE", 1024, small_disk, *settings).returncode == 0
    assert all(
        (run / "_committed" / name).read_bytes() == marker for name, marker in committed.items()
    )
    assert "12 images with one row each" in verify_run(run)
