"""`source.pages=all`: each page of a TIFF file is an input of its own."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.inputs.decoding import optional_formats
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.optional_formats import OptionalFormat
from pipeline.inputs.decoding.tiff_directory import count_pages
from pipeline.inputs.sources.folder import Folder
from pipeline.results.input_reader import InputReader, iterate_entries
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.pictures import picture
from tests.helpers.runs import read
from tests.helpers.tiffs import RGB, write_tiff

MANY = 1_000_000


def page(seed, size=(41, 30), **options):
    return {"samples": np.asarray(picture(*size, seed=seed)), "photometric": RGB, **options}


def smaller_copy(seed):
    return page(seed, (20, 15), tags={254: (4, [1])})


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    pages = [page(1), smaller_copy(1), page(2, (24, 50), tags={274: (3, [6])}), page(3, tile=16)]
    (made / "stack.tif").write_bytes(write_tiff(*pages))
    (made / "stack.tif!.png").write_bytes(_png(picture(9, 8)))  # between the pages, by its name
    (made / "stack.tiff").write_bytes(
        write_tiff(page(4), page(5, deflate=True), order=">", big=True)
    )
    (made / "one.tif").write_bytes(write_tiff(page(6), smaller_copy(6)))
    (made / "cut.tif").write_bytes(write_tiff(page(7), page(8))[:4000])
    (made / "a.png").write_bytes(_png(picture(9, 8)))
    return made


def _png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


KEYS = [
    ("a.png", 1),
    ("cut.tif", 1),
    ("one.tif", 1),
    ("stack.tif", 1),
    ("stack.tif!.png", 1),
    ("stack.tif#0002.tif", 2),
    ("stack.tif#0003.tif", 3),
    ("stack.tiff", 1),
    ("stack.tiff#0002.tiff", 2),
]


def test_every_page_is_listed_once_in_the_order_of_keys(folder):
    entries = list(Folder(str(folder), pages="all").entries())
    assert [(entry.key, entry.carried[1]) for entry in entries] == KEYS
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert entries[5].carried[0] == "stack.tif"
    assert list(Folder(str(folder), pages="all").entries()) == entries


def test_by_default_a_file_is_one_input(folder):
    source = Folder(str(folder))
    assert [entry.key for entry in source.entries()] == [key for key, n in KEYS if n == 1]
    assert all(entry.carried == () for entry in source.entries()) and source.columns == ()


def test_each_page_is_what_was_written(folder):
    source = Folder(str(folder), pages="all")
    found = {}
    for entry in source.entries():
        if entry.key != "cut.tif":
            with source.open(entry) as file:
                data = file.read()
            found[entry.key] = decode_image(data, MANY).permute(1, 2, 0).numpy()
            assert source.read_size_hw(entry, MANY) == found[entry.key].shape[:2]
            assert (
                entry.key.startswith("one")
                or ".tif" not in entry.key
                or (entry.key.endswith("png") or count_pages(io.BytesIO(data)) == 1)
            )
    for key, seed in (("stack.tif", 1), ("stack.tif#0003.tif", 3), ("stack.tiff#0002.tiff", 5)):
        assert np.array_equal(found[key], np.asarray(picture(41, 30, seed=seed)))
    turned = np.rot90(np.asarray(picture(24, 50, seed=2)), 3)
    assert np.array_equal(found["stack.tif#0002.tif"], turned)


def test_pages_is_first_or_all(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.pages=2: expected first or all"):
        Folder(str(tmp_path), pages="2")


def test_a_run_over_pages_resumes_draws_and_is_read_again(annotate, folder):
    words = ("model=codes", f"input={folder}", "source.pages=all", "shard_size=4")
    run = annotate(*words)
    images = read(run, "images")
    keys, pages, statuses = (images[name].to_pylist() for name in ("key", "page", "status"))
    assert list(zip(keys, pages, strict=True)) == KEYS
    assert statuses == ["ok"] * len(KEYS)
    assert annotate(*words) == run

    overlays = {path.name for path in (run / "overlays").rglob("*") if path.is_file()}
    assert {"stack.tif.overlay.jpg", "stack.tif#0002.tif.overlay.jpg"} <= overlays
    finished = FinishedRun.open(run)
    reader = InputReader(finished)
    ids = [i for i, (key, _) in enumerate(KEYS) if "#" in key]
    for image_id, entry, size_hw in iterate_entries(finished, ids):
        assert reader.read(entry, size_hw).shape[:2] == size_hw, image_id
    assert json.loads((run / "run.json").read_text())["fingerprint_of"]["source_settings"] == {
        "pages": "all"
    }


def test_pages_first_leaves_the_fingerprint_as_it_was(annotate, folder):
    run = annotate("model=codes", f"input={folder}", "limit=1")
    assert annotate("model=codes", f"input={folder}", "limit=1", "source.pages=first") == run
    assert "source_settings" not in json.loads((run / "run.json").read_text())["fingerprint_of"]


def test_levels_and_bands_are_in_the_fingerprint_and_in_what_is_read_again(annotate, tmp_path):
    folder = tmp_path / "deep"
    folder.mkdir()
    bands = np.concatenate([np.asarray(picture(40, 30))] * 2, axis=2).astype(np.uint16) * 16
    (folder / "a.tif").write_bytes(write_tiff({"samples": bands, "photometric": 1}))
    plain = annotate("model=codes", f"input={folder}")
    assert read(plain, "images")["status"].to_pylist() == ["unsupported"]
    assert "pixels" not in json.loads((plain / "run.json").read_text())["fingerprint_of"]

    run = annotate("model=codes", f"input={folder}", "levels=[0,4080]", "bands=[3,2,1]")
    assert run != plain and read(run, "images")["status"].to_pylist() == ["ok"]
    assert json.loads((run / "run.json").read_text())["fingerprint_of"]["pixels"] == {
        "levels": [0.0, 4080.0],
        "bands": [3, 2, 1],
    }
    ((_, entry, size_hw),) = iterate_entries(FinishedRun.open(run), [0])
    found = InputReader(FinishedRun.open(run)).read(entry, size_hw)
    assert np.array_equal(found, np.asarray(picture(40, 30))[:, :, ::-1])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("levels=bright", "expected full, auto, or two numbers"),
        ("levels=[4095,0]", "the lower one first"),
        ("levels=[0,1,2]", "two numbers"),
        ("levels=[a,b]", "two numbers"),
        ("bands=[0,1,2]", "counted from 1"),
        ("bands=[1,2]", "three channels"),
        ("bands=red", "three channels"),
    ],
)
def test_wrong_values_are_refused(annotate, tmp_path: Path, word, expected):
    with pytest.raises(ConfigError, match=expected):
        annotate("model=codes", word)


@pytest.mark.parametrize("word", ["levels=auto", "bands=[3,2,1]"])
def test_levels_and_bands_are_for_image_files(annotate, tmp_path, word):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match="is for image files"):
        annotate("model=codes", "source=video", f"input={tmp_path}", word)


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".hif"])
def test_a_folder_of_heic_files_says_what_to_install(
    annotate, tmp_path, monkeypatch, caplog, suffix
):
    monkeypatch.setattr(OptionalFormat, "find_version", lambda self: None)
    optional_formats._register.cache_clear()
    folder = tmp_path / "phone"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}{suffix}").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    try:
        run = annotate("model=codes", f"input={folder}")
    finally:
        optional_formats._register.cache_clear()
    assert read(run, "images")["status"].to_pylist() == ["unsupported"] * 2
    (said,) = [message for message in caplog.messages if "unsupported here" in message]
    assert said.startswith("2 files") and "pip install 'visionbatch[heif]'" in said
