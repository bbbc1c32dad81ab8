"""Find images of equal bytes, and images that look alike."""

from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipeline.inputs.sources.folder import Folder
from pipeline.runs.duplicates.find import ImageScan, find_duplicates
from pipeline.runs.duplicates.similarity import compute_difference_hashes, find_similar
from tests.helpers.paths import SAMPLES, shared
from tests.helpers.pictures import picture


def find_twins(
    folder: Path, near: bool = True, skip: tuple[int, ...] = ()
) -> dict[str, tuple[str, bool]]:
    """Return {key: (key of the first equal image, whether the bytes are equal)}."""
    source = Folder(str(folder))
    found = find_duplicates(ImageScan(source, source.entries, 10**8), near, skip)
    keys = [entry.key for entry in source.entries()]
    return {keys[i]: (keys[found.first[i]], bool(found.same_bytes[i])) for i in found.indices}


def test_none_among_none_and_among_different_pictures(tmp_path: Path) -> None:
    assert find_twins(tmp_path) == {}
    assert find_twins(SAMPLES) == {}


def test_files_of_equal_bytes(tmp_path: Path) -> None:
    picture(64, 48).save(tmp_path / "b.png")
    for name in ("a.png", "c.png"):
        copy(tmp_path / "b.png", tmp_path / name)
    (tmp_path / "d.png").write_bytes((tmp_path / "b.png").read_bytes()[:-1] + b"x")  # of equal size
    found = find_twins(tmp_path, near=False)
    assert found == {"b.png": ("a.png", True), "c.png": ("a.png", True)}


def test_what_is_not_to_be_touched_is_nobodys_twin(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(64, 48).save(tmp_path / name)
    assert find_twins(tmp_path, skip=(0,)) == {"c.png": ("b.png", True)}


def test_broken_files_are_left_to_the_run(tmp_path: Path) -> None:
    cut = (SAMPLES / "bricks.jpg").read_bytes()[:2000]
    for i, data in enumerate((b"", b"", b"x" * 9, b"x" * 9, b"y" * 9, cut, cut)):
        (tmp_path / f"{i}.jpg").write_bytes(data)
    assert find_twins(tmp_path) == {} == find_twins(tmp_path, near=False)


@pytest.mark.parametrize(
    "change", ["quality", "half", "double", "brighter", "grey", "rotated by EXIF"]
)
def test_a_picture_saved_otherwise_looks_alike(change: str, tmp_path: Path) -> None:
    changed = tmp_path / "b.jpg"
    image = picture(320, 200, seed=5)
    image.save(tmp_path / "a.png")
    picture(320, 200, seed=6).save(tmp_path / "other.png")
    if change == "quality":
        image.save(changed, quality=30)
    elif change in ("half", "double"):
        factor = 0.5 if change == "half" else 2
        image.resize((int(320 * factor), int(200 * factor))).save(changed)
    elif change == "brighter":
        ImageEnhance.Brightness(image).enhance(1.03).save(changed)
    elif change == "grey":
        image.convert("L").save(changed)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.rotate(90, expand=True).save(changed, exif=exif, quality=95)
    assert find_twins(tmp_path) == {"b.jpg": ("a.png", False)}


@pytest.mark.parametrize("change", ["mirrored", "turned", "negative", "darker", "cropped"])
def test_another_picture_does_not(change: str, tmp_path: Path) -> None:
    image = picture(320, 200, seed=5)
    image.save(tmp_path / "a.png")
    changed = {
        "mirrored": lambda: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turned": lambda: image.rotate(180),
        "negative": lambda: image.point(lambda level: 255 - level),
        "darker": lambda: ImageEnhance.Brightness(image).enhance(0.6),
        "cropped": lambda: image.crop((0, 0, 240, 150)),
    }[change]()
    changed.save(tmp_path / "b.png")
    assert find_twins(tmp_path) == {}


def test_blank_pictures_are_told_apart_by_their_brightness(tmp_path: Path) -> None:
    for name, level in (("a.png", 0), ("b.png", 255), ("c.png", 254), ("d.png", 128)):
        Image.new("L", (40, 30), level).save(tmp_path / name)
    assert find_twins(tmp_path) == {"c.png": ("b.png", False)}


def test_a_twin_of_equal_bytes_leads_to_the_first_that_looks_alike(tmp_path: Path) -> None:
    picture(64, 48).save(tmp_path / "a.png")
    picture(64, 48).save(tmp_path / "b.jpg", quality=60)
    copy(tmp_path / "b.jpg", tmp_path / "c.jpg")
    assert find_twins(tmp_path) == {"b.jpg": ("a.png", False), "c.jpg": ("a.png", False)}
    assert find_twins(tmp_path, near=False) == {"c.jpg": ("b.jpg", True)}


def test_photographs_and_their_copies(tmp_path: Path) -> None:
    """No two of 128 photographs look alike, and each is found when it is saved again."""
    paths = sorted(shared("data/coco128").rglob("*.jpg"))
    for path in paths:
        copy(path, tmp_path / path.name)
        Image.open(path).convert("RGB").save(tmp_path / f"{path.stem}_again.jpg", quality=50)
    assert find_twins(tmp_path) == {f"{path.stem}_again.jpg": (path.name, False) for path in paths}


@given(
    st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127), st.integers(0, 127)), max_size=40)
)
@settings(max_examples=50, deadline=None)
def test_hashes_within_seven_bits_are_found(flips: list[tuple[int, int, int]]) -> None:
    """The bits may fall into any word of the hash."""
    rng = np.random.default_rng(0)
    base = rng.uniform(100, 108, (9, 9)).astype(np.float32)
    thumbnails = [base]
    for cells in flips:
        one = base.copy()
        for cell in cells:
            one.flat[cell % 81] += rng.uniform(-8, 8)
        thumbnails.append(one)
    stacked = np.stack(thumbnails)
    hashes = compute_difference_hashes(stacked)
    first = find_similar(stacked)
    for i in range(len(stacked)):
        bits = np.bitwise_count(hashes ^ hashes[i]).sum(axis=1)
        near = [j for j in range(i) if first[j] == j and bits[j] <= 7]
        assert first[i] == (near[0] if near else i)
