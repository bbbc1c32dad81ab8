import io
import itertools
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.core.keys import key_to_path, path_to_key
from pipeline.core.protocols import SinkContext
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


def nasty():
    """Keys that differ as little as keys can."""
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
        for room in range(20):  # names from 236 to 255 bytes, alike but for their ends
            stem = letter * ((255 - room - 6) // size)
            yield from (
                f"{stem}{end}{suffix}" for end in "ab" for suffix in (".tif", ".jpg", ".gif")
            )


KEYS = sorted(set(nasty()))


def length(key):
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
    assert all(length(key) <= 255 for key in KEYS) and len(KEYS) > 500
    names = {}
    for key in KEYS:
        names.setdefault(make_overlay_key(key), []).append(key)
    assert [keys for keys in names.values() if len(keys) > 1] == []


def test_no_name_is_longer_than_a_file_system_takes():
    assert [key for key in KEYS if length(make_overlay_key(key)) > 255] == []


@pytest.mark.parametrize("key", KEYS[::7])
def test_an_overlay_stays_in_its_inputs_folder_and_has_a_format_that_browsers_show(key):
    name = make_overlay_key(key)
    assert PurePosixPath(name).parent == PurePosixPath(key).parent
    assert PurePosixPath(name).suffix.casefold() in (".jpg", ".jpeg", ".png", ".webp")


def test_long_names_can_be_written(tmp_path):
    written = [
        key for key in KEYS if "/" not in key and length(key) > 235 and make_overlay_key(key) != key
    ]
    assert len(written) > 100
    for key in written:
        (tmp_path / key_to_path(make_overlay_key(key))).touch()
    assert len(list(tmp_path.iterdir())) == len(written)


# --- files

SCHEMA = pa.schema([("image_id", pa.int64()), ("key", pa.string())])


def draw(image, rows):
    """A bar as wide as there are rows."""
    drawn = image.clone()
    drawn[:, :, : rows.num_rows * 4] = 0
    return drawn


def run(stage, files, enabled=True, statuses=None, predictions=(), quality=95):
    """Draw overlays of `files` (key -> bytes) as a shard would; returns the files below `overlays/`."""

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
    with Overlays(enabled, quality).open(SinkContext(stage, 0, SCHEMA, draw, read_image)) as writer:
        writer.write(images, rows)
    found = (path for path in stage.rglob("*") if path.is_file())
    return {path_to_key(str(path.relative_to(stage / "overlays"))): path for path in sorted(found)}


def encoded(kind="JPEG", size=(40, 30), seed=0, **options):
    buffer = io.BytesIO()
    picture(*size, seed=seed).save(buffer, kind, **options)
    return buffer.getvalue()


def test_no_images_are_no_overlays(tmp_path):
    assert run(tmp_path, {}) == {}


def test_inputs_that_differ_by_folder_or_extension_have_an_overlay_each(tmp_path):
    keys = {
        "a/x.jpg": encoded(seed=1),
        "a/x.png": encoded("PNG", seed=2),
        "b/x.jpg": encoded(seed=3),
    }
    found = run(tmp_path, keys)
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
    ((found, path),) = run(tmp_path, {key: encoded()}).items()
    assert found == name
    with Image.open(path) as overlay:
        assert overlay.format == kind and overlay.size == (40, 30)


def test_each_image_gets_its_own_rows(tmp_path):
    files = {f"{i}.png": encoded("PNG", seed=i) for i in range(3)}
    found = run(tmp_path, files, predictions=[0, 2, 2])
    dark = {}
    for key, path in found.items():
        with Image.open(path) as overlay:
            dark[key] = int((np.asarray(overlay).max(axis=(0, 2)) == 0).sum())
    assert dark == {"0.png": 4, "1.png": 0, "2.png": 8}


def with_secrets():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SECRETCAMERA"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    return {"exif": exif, "xmp": b"<x>SECRETXMP</x>", "comment": b"SECRETCOMMENT"}


@pytest.mark.parametrize("key", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_nothing_of_the_original_but_its_pixels_gets_into_the_overlay(tmp_path, key):
    data = encoded(**with_secrets())
    assert data.count(b"SECRET") == 3
    ((_, path),) = run(tmp_path, {key: data}).items()
    assert b"SECRET" not in path.read_bytes() and b"Exif" not in path.read_bytes()
    with Image.open(path) as overlay:
        assert len(overlay.getexif()) == 0 and not {"exif", "xmp", "comment", "icc_profile"} & set(
            overlay.info
        )
        assert overlay.size == (30, 40)  # upright without a tag


def test_an_unusable_image_has_no_overlay(tmp_path):
    files = {"a.jpg": encoded(), "b.jpg": b"", "c.jpg": encoded()}
    assert list(run(tmp_path, files, statuses=["ok", "empty", "ok"])) == ["a.jpg", "c.jpg"]


def test_an_image_that_is_gone_since_costs_its_overlay_alone(tmp_path, caplog):
    assert list(run(tmp_path, {"a.jpg": encoded(), "b.jpg": None, "c.jpg": encoded()})) == [
        "a.jpg",
        "c.jpg",
    ]
    assert "no overlay for b.jpg" in caplog.text


@pytest.mark.parametrize(("enabled", "n"), [(True, 5), (False, 0), (0, 0), (1, 1), (3, 3), (99, 5)])
def test_only_the_first_images_are_drawn(tmp_path, enabled, n):
    files = {f"{i}.jpg": encoded() for i in range(5)}
    assert list(run(tmp_path, files, enabled)) == list(files)[:n]


def test_more_images_than_may_wait_are_all_drawn(tmp_path):
    files = {f"{i:03d}.png": encoded("PNG", (8, 8)) for i in range(50)}
    assert list(run(tmp_path, files)) == list(files)


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
    run(stage, {key: encoded() for key in keys})
    outside = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and stage / "overlays" not in path.parents
    ]
    assert outside == [] and len(
        [path for path in Path(stage).rglob("*.jpg") if path.is_file()]
    ) == len(keys)
