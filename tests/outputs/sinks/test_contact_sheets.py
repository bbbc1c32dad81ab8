import errno
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.core.output_protocols import SinkContext
from pipeline.core.types import InputError, Status
from pipeline.ops.drawing import Canvas, load_font
from pipeline.outputs.sinks.contact_sheets import ContactSheets
from pipeline.outputs.text_fitting import truncate_start, wrap_text
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read

SIZE, TILE = 160, 160 + 2 * 17 + 4  # pixels of a tile's square, and with two lines below it
SETTINGS = {"columns": 3, "rows": 2, "size": SIZE, "every": 1, "quality": 95}
SCHEMA = pa.schema([("image_id", pa.int64())])


def choose_colour(image_id):
    """Return a colour that differs much from the neighbours' in the grid."""
    return [(image_id * 97) % 256, (image_id * 53 + 100) % 256, 255 - (image_id * 97) % 256]


def make_plain_image(key, height=60, width=80):
    return torch.tensor(choose_colour(int(Path(key).stem)), dtype=torch.uint8)[
        :, None, None
    ].repeat(1, height, width)


def draw_nothing(image, rows, long_side=None):
    return Canvas(image, long_side).image


def make_batch(ids, failed=(), error="why"):
    """Return the two tables of a batch."""
    images = {
        "image_id": pa.array(ids, pa.int64()),
        "key": [f"a/{i}.jpg" for i in ids],
        "status": ["corrupt" if i in failed else "ok" for i in ids],
        "error": pa.array([error if i in failed else None for i in ids], pa.string()),
        "n_predictions": pa.array([None if i in failed else i for i in ids], pa.int32()),
    }
    found = [i for i in ids if i not in failed for _ in range(i)]
    return pa.table(images), pa.table({"image_id": pa.array(found, pa.int64())})


def write(stage, *batches, draw=draw_nothing, read_image=make_plain_image, shard_id=0, **settings):
    with ContactSheets(**SETTINGS | settings).open(
        SinkContext(stage, shard_id, SCHEMA, draw, read_image)
    ) as writer:
        for batch in batches:
            writer.write(*batch)
    return sorted(path for path in stage.rglob("*") if path.is_file())


def split_tiles(path, columns=3):
    """Return the tiles of a page, (TILE, SIZE, 3) int, with empty places at the end."""
    with Image.open(path) as page:
        pixels = np.asarray(page).astype(int)
    height, width = pixels.shape[:2]
    assert (height - 8) % (TILE + 8) == (width - 8) % (SIZE + 8) == 0
    corners = [
        (y, x) for y in range(8, height - 8, TILE + 8) for x in range(8, width - 8, SIZE + 8)
    ]
    return [pixels[y : y + TILE, x : x + SIZE] for y, x in corners]


def are_different(one, other):
    """Return whether two parts of a tile differ by more than JPEG's noise."""
    return bool((np.abs(one - other) > 60).any())


# --- pages


def test_no_images_are_no_pages(tmp_path):
    assert write(tmp_path) == []


def test_the_first_page_is_the_one_that_the_docstring_names(tmp_path):
    (page,) = write(tmp_path, make_batch([0]))
    assert str(page.relative_to(tmp_path)) == re.search(r"\S+\.jpg", ContactSheets.__doc__)[0]


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, [(1, 1)]),
        (2, [(2, 1)]),
        (3, [(3, 1)]),
        (4, [(3, 2)]),
        (6, [(3, 2)]),
        (7, [(3, 2), (1, 1)]),
        (11, [(3, 2)] * 2),
    ],
)
def test_pages_are_as_large_as_their_grid(tmp_path, n, sizes):
    pages = write(tmp_path, make_batch(list(range(n))), shard_id=12)
    assert [page.name for page in pages] == [
        f"shard-00000012-page-{i:03d}.jpg" for i in range(len(sizes))
    ]
    for page, (columns, rows) in zip(pages, sizes, strict=True):
        with Image.open(page) as image:
            assert image.format == "JPEG" and image.size == (
                columns * (SIZE + 8) + 8,
                rows * (TILE + 8) + 8,
            )


def test_tiles_are_in_input_order_whatever_order_the_batches_came_in(tmp_path):
    one = write(tmp_path / "a", make_batch([20, 21, 22, 23, 24, 25, 26, 27]))
    other = write(
        tmp_path / "b",
        make_batch([27, 24]),
        make_batch([]),
        make_batch([23, 20, 26]),
        make_batch([25, 22, 21]),
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    middles = [tile[SIZE // 2, SIZE // 2] for page in one for tile in split_tiles(page)]
    for image_id, middle in zip(range(20, 28), middles, strict=True):
        assert np.abs(middle - choose_colour(image_id)).max() < 12


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (60, 80, (120, 160)),
        (800, 400, (160, 80)),
        (1, 1, (160, 160)),
        (300, 10, (160, 5)),
        (160, 160, (160, 160)),
    ],
)
def test_the_whole_picture_is_fitted_into_its_tile(tmp_path, height, width, shown):
    (page,) = write(
        tmp_path, make_batch([3]), read_image=lambda key: make_plain_image(key, height, width)
    )
    picture = np.abs(split_tiles(page)[0][:SIZE] - choose_colour(3)).max(axis=2) < 12
    ys, xs = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    assert abs(len(ys) - shown[0]) <= 2 and abs(len(xs) - shown[1]) <= 2
    assert abs(ys[0] + ys[-1] - SIZE) <= 2 and abs(xs[0] + xs[-1] - SIZE) <= 2, "in the middle"


def test_predictions_are_drawn_at_the_tiles_size_each_images_own(tmp_path):
    def draw(image, rows, long_side=None):
        asked.append((int(image[0, 0, 0]), rows["image_id"].to_pylist(), long_side))
        return draw_nothing(image, rows, long_side)

    asked = []
    write(tmp_path, make_batch([2, 0]), make_batch([1]), draw=draw)
    assert asked == [
        (choose_colour(2)[0], [2, 2], SIZE),
        (choose_colour(0)[0], [], SIZE),
        (choose_colour(1)[0], [1], SIZE),
    ]


def test_the_caption_tells_name_and_number(tmp_path):
    def caption(folder, **row):
        images, found = make_batch([5])
        for name, value in row.items():
            at = images.schema.get_field_index(name)
            images = images.set_column(
                at, images.schema.field(at), pa.array([value], images.schema.field(at).type)
            )
        (page,) = write(tmp_path / folder, (images, found))
        return split_tiles(page)[0][SIZE:]

    usual = caption("usual")
    assert usual.min() < 80 and usual.max() > 200
    name, number = caption("name", key="b/7.jpg"), caption("number", n_predictions=8)
    half = (TILE - SIZE) // 2
    assert are_different(name[:half], usual[:half]) and not are_different(name[half:], usual[half:])
    assert are_different(number[half:], usual[half:]) and not are_different(
        number[:half], usual[:half]
    )


# --- failures


def test_a_failed_input_has_a_tile_that_says_why(tmp_path):
    def read_image(key):
        assert key == "a/0.jpg", "a failed input is not read again"
        return make_plain_image(key)

    one = split_tiles(
        write(tmp_path / "a", make_batch([0, 1], failed=[1]), read_image=read_image)[0]
    )
    other = split_tiles(
        write(
            tmp_path / "b", make_batch([0, 1], failed=[1], error="no end"), read_image=read_image
        )[0]
    )
    assert np.abs(one[1][SIZE - 4, 4] - (0xFB, 0xE3, 0xE1)).max() < 6
    assert one[1][:SIZE].min() < 80, "letters"
    assert are_different(one[1][:SIZE], other[1][:SIZE]) and not are_different(
        one[1][SIZE:], other[1][SIZE:]
    )
    assert not are_different(one[0], other[0])


@pytest.mark.parametrize(
    "error",
    [InputError(Status.MISSING, "gone"), ValueError("two\nlines"), OSError(errno.EACCES, "no")],
)
@pytest.mark.parametrize("while_", ["reading", "drawing"])
def test_a_picture_that_cannot_be_made_is_a_warning_and_a_tile(tmp_path, caplog, error, while_):
    def fail(*_):
        raise error

    broken = {"read_image" if while_ == "reading" else "draw": fail}
    (page,) = write(tmp_path, make_batch([0, 1]), **broken)
    assert caplog.text.count("no thumbnail for") == 2 and "a/1.jpg" in caplog.text
    for tile in split_tiles(page):
        assert np.abs(tile[SIZE - 4, 4] - (0xFB, 0xE3, 0xE1)).max() < 6


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_or_failing_disk_stops_the_run(tmp_path, number):
    def fail(*_):
        raise OSError(number, "the disk")

    with pytest.raises(OSError, match="the disk"):
        write(tmp_path, make_batch([0, 1]), draw=fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- large runs


def test_every_third_image_and_each_failed_one(tmp_path):
    def read_image(key):
        asked.append(key)
        return make_plain_image(key)

    asked = []
    (page,) = write(
        tmp_path,
        make_batch([7, 8, 9, 10]),
        make_batch([3, 4, 5, 6], failed=[4]),
        read_image=read_image,
        every=3,
    )
    assert sorted(asked) == ["a/3.jpg", "a/6.jpg", "a/9.jpg"]
    found = split_tiles(page)
    for tile, image_id in zip(found, [3, None, 6, 9], strict=False):
        expected = (0xFB, 0xE3, 0xE1) if image_id is None else choose_colour(image_id)
        assert np.abs(tile[SIZE // 2, SIZE - 4] - expected).max() < 12
    assert [tile.min() > 240 for tile in found[4:]] == [True, True], "nothing after the fourth"


def test_no_image_is_kept(tmp_path):
    def read_image(key):
        image = make_plain_image(key)
        alive.add(image)
        most.append(len(alive))
        return image

    alive, most = weakref.WeakSet(), []
    write(
        tmp_path,
        make_batch(list(range(40))),
        read_image=read_image,
        draw=lambda image, rows, long_side: image.clone(),
    )
    assert len(most) == 40 and max(most) <= 2


# --- settings


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize("value", [0, -1, 1.5, "6", None, True])
def test_a_setting_that_makes_no_sense_is_refused(name, value):
    with pytest.raises(
        ConfigError, match=rf"sink\.contact_sheets\.{name}={value}: expected a whole number"
    ):
        ContactSheets(**SETTINGS | {name: value})


@pytest.mark.parametrize(
    "grid", [{"columns": 1, "rows": 100, "size": 800}, {"columns": 8, "rows": 8, "size": 1600}]
)
def test_a_page_that_no_viewer_opens_is_refused(grid):
    with pytest.raises(ConfigError, match="expected at most 65500 on a side and 89 million in all"):
        ContactSheets(**SETTINGS | grid)


def test_a_wrong_setting_is_refused_before_a_folder_is_made(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    for more in ("dry_run=false", "dry_run=true"):
        with pytest.raises(ConfigError, match="columns=0"):
            annotate(
                "model=codes",
                "sink=[parquet,contact_sheets]",
                "sink.contact_sheets.columns=0",
                more,
            )
    assert not (tmp_path / "outputs").exists()


@pytest.mark.long
def test_a_run_shows_its_images_and_their_predictions(annotate: Callable[..., Path]) -> None:
    common = ["model=codes", f"input={SAMPLES / 'yard'}", "sink=[parquet,overlays,contact_sheets]"]
    small = [f"sink.contact_sheets.size={SIZE}", "sink.contact_sheets.quality=95"]
    with_boxes = annotate(*common, *small)
    assert [path.name for path in (with_boxes / "contact_sheets").iterdir()] == [
        "shard-00000000-page-000.jpg"
    ]
    assert (
        len(list((with_boxes / "overlays").iterdir())) == 3
        and read(with_boxes, "predictions").num_rows > 3
    )
    without = annotate(*common, *small, "classes=[barcode]")
    pages = [
        split_tiles(run / "contact_sheets" / "shard-00000000-page-000.jpg")
        for run in (with_boxes, without)
    ]
    assert len(pages[0]) == 3 and all(
        are_different(a[:SIZE], b[:SIZE]) for a, b in zip(*pages, strict=True)
    )


# --- text

FONT = load_font(12)
TEXTS = [
    "",
    "x",
    "a.jpg",
    "a/" * 50 + "b.jpg",
    "W" * 300,
    "i" * 300,
    "some words " * 20,
    " ",
    "é日\U0001f600" * 50,
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [60, 160, 1000])
def test_a_name_that_is_too_long_keeps_its_end(text, width):
    shown = truncate_start(text, FONT, width)
    assert FONT.getlength(shown) <= width and text.endswith(shown.removeprefix("…"))
    assert (shown == text) is (FONT.getlength(text) <= width)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [60, 160])
def test_lines_hold_all_of_the_text_and_no_more_than_fits(text, width):
    lines = wrap_text(text, FONT, width, 1000)
    assert all(FONT.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if text.startswith("some"):
        assert all(word in ("some", "words") for line in lines for word in line.split())


def test_text_that_is_cut_off_says_so():
    assert wrap_text("one two three four", FONT, 60, 1)[0].endswith("…")
    assert len(wrap_text("some words " * 20, FONT, 60, 3)) == 3
    assert wrap_text("short", FONT, 60, 1) == ["short"]
