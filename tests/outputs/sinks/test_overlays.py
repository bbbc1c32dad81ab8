import io
import itertools
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.core.keys import key_to_path, path_to_key
from pipeline.core.output_protocols import SinkContext
from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.image import decode_image
from pipeline.outputs.sinks.overlays import Overlays, make_overlay_key
from tests.helpers.pictures import picture

# --- names

SUFFIXES = [".jpg", ".JPG", ".jpeg", ".png", ".webp", ".tif", ".gif", ".bmp", ".heic", ""]
OVERLAY = [
    ".overlay.jpg",
    ".OVERLAY.jpg",
    ".overlay.jpg.overlay.jpg",
    ".overlay.png",
    ".jpg.overlay.jpg",
]


def list_similar_keys():
    """Return keys that hardly differ."""
    stems = [
        "x",
        "x.jpg",
        "x.tif",
        "a/x",
        "b/x",
        "x y",
        "é",
        r"\xff",
        r"\x5cx41",
        "x\n",
        "-",
        "..x",
    ]
    yield from (stem + suffix for stem in stems for suffix in (*SUFFIXES, *OVERLAY))
    for letter in ("n", "é", "日", "\U0001f600", r"\xff", r"\x5cx"):
        size = len(key_to_path(letter).encode("utf-8", "surrogateescape"))
        for room in range(20):  # names of 236 to 255 bytes that differ at their ends
            stem = letter * ((255 - room - 6) // size)
            yield from (
                f"{stem}{end}{suffix}" for end in "ab" for suffix in (".tif", ".jpg", ".gif")
            )


KEYS = sorted(set(list_similar_keys()))


def count_bytes(key):
    return max(len(part.encode("utf-8", "surrogateescape")) for part in key_to_path(key).split("/"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("x.jpg", "x.jpg"),
        ("a/b/x.PNG", "a/b/x.PNG"),
        ("x.webp", "x.webp"),
        ("x.tif", "x.tif.overlay.jpg"),
        ("a/x.gif", "a/x.gif.overlay.jpg"),
        ("x.overlay.jpg", "x.overlay.jpg.overlay.jpg"),
        ("x.tif.overlay.jpg", "x.tif.overlay.jpg.overlay.jpg"),
        ("a.tif/x.jpg", "a.tif/x.jpg"),
    ],
)
def test_an_overlay_has_its_inputs_name(key, name):
    assert make_overlay_key(key) == name


def test_no_two_inputs_have_one_overlay():
    assert all(count_bytes(key) <= 255 for key in KEYS) and len(KEYS) > 500
    names = {}
    for key in KEYS:
        names.setdefault(make_overlay_key(key), []).append(key)
    assert [keys for keys in names.values() if len(keys) > 1] == []


def test_no_name_is_longer_than_a_file_system_takes():
    assert [key for key in KEYS if count_bytes(make_overlay_key(key)) > 255] == []


@pytest.mark.parametrize("key", KEYS[::7])
def test_an_overlay_stays_in_its_inputs_folder_and_has_a_format_that_browsers_show(key):
    name = make_overlay_key(key)
    assert PurePosixPath(name).parent == PurePosixPath(key).parent
    assert PurePosixPath(name).suffix.casefold() in (".jpg", ".jpeg", ".png", ".webp")


def test_long_names_can_be_written(tmp_path):
    written = [
        key
        for key in KEYS
        if "/" not in key and count_bytes(key) > 235 and make_overlay_key(key) != key
    ]
    assert len(written) > 100
    for key in written:
        (tmp_path / key_to_path(make_overlay_key(key))).touch()
    assert len(list(tmp_path.iterdir())) == len(written)


# --- files

SCHEMA = pa.schema([("image_id", pa.int64()), ("key", pa.string())])


def draw_bar(image, rows):
    """Draw a bar whose width is the number of rows."""
    drawn = image.clone()
    drawn[:, :, : rows.num_rows * 4] = 0
    return drawn


def write_overlays(stage, files, enabled=True, statuses=None, predictions=(), quality=95):
    """Draw overlays of `files` (key -> bytes) as a shard does; return the files in `overlays/`."""

    def read_image(key):
        if files[key] is None:
            raise InputError(Status.MISSING, "gone")
        return decode_image(files[key], 10**8)

    statuses = statuses or ["ok"] * len(files)
    images = pa.table(
        {
            "image_id": pa.array(range(len(files)), pa.int64()),
            "key": list(files),
            "status": statuses,
        }
    )
    rows = pa.table(
        {"image_id": pa.array(predictions, pa.int64()), "key": [""] * len(predictions)},
        schema=SCHEMA,
    )
    with Overlays(enabled, quality).open(
        SinkContext(stage, 0, SCHEMA, draw_bar, read_image)
    ) as writer:
        writer.write(images, rows)
    found = (path for path in stage.rglob("*") if path.is_file())
    return {path_to_key(str(path.relative_to(stage / "overlays"))): path for path in sorted(found)}


def encode_image(kind="JPEG", size=(40, 30), seed=0, **options):
    buffer = io.BytesIO()
    picture(*size, seed=seed).save(buffer, kind, **options)
    return buffer.getvalue()


def test_no_images_are_no_overlays(tmp_path):
    assert write_overlays(tmp_path, {}) == {}


def test_inputs_that_differ_by_folder_or_extension_have_an_overlay_each(tmp_path):
    keys = {
        "a/x.jpg": encode_image(seed=1),
        "a/x.png": encode_image("PNG", seed=2),
        "b/x.jpg": encode_image(seed=3),
    }
    found = write_overlays(tmp_path, keys)
    assert list(found) == ["a/x.jpg", "a/x.png", "b/x.jpg"]
    for key, path in found.items():
        with Image.open(path) as overlay:
            expected = decode_image(keys[key], 10**8).permute(1, 2, 0).numpy().astype(int)
            assert np.abs(np.asarray(overlay).astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("key", "name", "kind"),
    [
        ("a.jpg", "a.jpg", "JPEG"),
        ("a.JPEG", "a.JPEG", "JPEG"),
        ("a.png", "a.png", "PNG"),
        ("a.webp", "a.webp", "WEBP"),
        ("a.tif", "a.tif.overlay.jpg", "JPEG"),
        (r"\xff.jpg", r"\xff.jpg", "JPEG"),
        ("two\nlines.png", "two\nlines.png", "PNG"),
    ],
)
def test_an_overlay_has_the_format_of_its_name(tmp_path, key, name, kind):
    ((found, path),) = write_overlays(tmp_path, {key: encode_image()}).items()
    assert found == name
    with Image.open(path) as overlay:
        assert overlay.format == kind and overlay.size == (40, 30)


def test_each_image_gets_its_own_rows(tmp_path):
    files = {f"{i}.png": encode_image("PNG", seed=i) for i in range(3)}
    found = write_overlays(tmp_path, files, predictions=[0, 2, 2])
    dark = {}
    for key, path in found.items():
        with Image.open(path) as overlay:
            dark[key] = int((np.asarray(overlay).max(axis=(0, 2)) == 0).sum())
    assert dark == {"0.png": 4, "1.png": 0, "2.png": 8}


def make_jpeg_with_metadata():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    return {"exif": exif, "xmp": b"<x>SECRETXMP</x>", "comment": b"SECRETCOMMENT"}


@pytest.mark.parametrize("key", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_nothing_of_the_original_but_its_pixels_gets_into_the_overlay(tmp_path, key):
    data = encode_image(**make_jpeg_with_metadata())
    assert data.count(b"SECRET") == 3
    ((_, path),) = write_overlays(tmp_path, {key: data}).items()
    assert b"SECRET" not in path.read_bytes() and b"Exif" not in path.read_bytes()
    with Image.open(path) as overlay:
        assert len(overlay.getexif()) == 0 and not {"exif", "xmp", "comment", "icc_profile"} & set(
            overlay.info
        )
        assert overlay.size == (30, 40)  # upright, and without an EXIF tag


def test_an_unusable_image_has_no_overlay(tmp_path):
    files = {"a.jpg": encode_image(), "b.jpg": b"", "c.jpg": encode_image()}
    assert list(write_overlays(tmp_path, files, statuses=["ok", "empty", "ok"])) == [
        "a.jpg",
        "c.jpg",
    ]


def test_an_image_that_is_gone_since_costs_its_overlay_alone(tmp_path, caplog):
    assert list(
        write_overlays(tmp_path, {"a.jpg": encode_image(), "b.jpg": None, "c.jpg": encode_image()})
    ) == [
        "a.jpg",
        "c.jpg",
    ]
    assert "no overlay for b.jpg" in caplog.text


@pytest.mark.parametrize(("enabled", "n"), [(True, 5), (False, 0), (0, 0), (1, 1), (3, 3), (99, 5)])
def test_only_the_first_images_are_drawn(tmp_path, enabled, n):
    files = {f"{i}.jpg": encode_image() for i in range(5)}
    assert list(write_overlays(tmp_path, files, enabled)) == list(files)[:n]


def test_more_images_than_may_wait_are_all_drawn(tmp_path):
    files = {f"{i:03d}.png": encode_image("PNG", (8, 8)) for i in range(50)}
    assert list(write_overlays(tmp_path, files)) == list(files)


def test_an_error_while_drawing_is_raised(tmp_path):
    def broken(image, rows):
        raise OSError(28, "No space left on device")

    context = SinkContext(
        tmp_path, 0, SCHEMA, broken, lambda key: torch.zeros(3, 4, 4, dtype=torch.uint8)
    )
    images = pa.table({"image_id": [0], "key": ["a.jpg"], "status": ["ok"]})
    with pytest.raises(OSError, match="No space left"), Overlays(True, 90).open(context) as writer:
        writer.write(images, SCHEMA.empty_table())


def test_an_overlay_never_leaves_the_stage(tmp_path):
    stage = tmp_path / "deep" / "stage"
    keys = [
        f"{a}{b}.jpg"
        for a, b in itertools.product(
            ["..x", "x..", "~", "$HOME", "a\\..\\", "<img onerror>"], ["", "/y"]
        )
    ]
    write_overlays(stage, {key: encode_image() for key in keys})
    outside = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and stage / "overlays" not in path.parents
    ]
    assert outside == [] and len(
        [path for path in Path(stage).rglob("*.jpg") if path.is_file()]
    ) == len(keys)
