"""Names, masks, numbers and JSON of exports."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.outputs.file_names import make_safe_name, replace_invalid_xml, reserve_label_file
from pipeline.outputs.row_values import clip_box, encode_run_lengths, shorten_floats
from pipeline.outputs.text_files import format_json


@pytest.mark.parametrize("key", ["line\nbreak.jpg", "\x1b.png", "sub/\u2028.jpg", "\x85"])
def test_a_name_with_control_characters_is_a_hash(key: str) -> None:
    assert (
        make_safe_name(key).startswith("image-")
        and make_safe_name(key).isprintable()
        and make_safe_name(key) != make_safe_name(key + "x")
    )
    assert Path(make_safe_name(key)).suffix == Path(key).suffix


@pytest.mark.parametrize("key", ["a.jpg", "sub/a b.jpg", "<é>.png", r"\xff.jpg"])
def test_any_other_is_as_it_was(key: str) -> None:
    assert make_safe_name(key) == key


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a.jpg", "a.png", "a.png.jpg"], ["a", "a.png", "a.png.jpg"]),
        (["a", "a.jpg"], ["a", "a.jpg"]),
        (["..jpg"], ["."]),
        (["../a.jpg"], ["image-"]),
        (["/etc/a.jpg"], ["image-"]),
        (["a.txt/b.jpg", "a.jpg"], ["a.txt/b", "a.jpg"]),
        (["a.jpg", "a.txt/b.jpg"], ["a", "image-"]),
        (["l" * 251 + ".jpg", "l" * 251 + ".png"], ["l" * 251, "image-"]),
    ],
)
def test_no_two_images_share_a_file(keys: list[str], names: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    claimed = [reserve_label_file(folder, key, ".txt") for key in keys]
    assert [
        name if expected != "image-" else name[:6]
        for (name, _), expected in zip(claimed, names, strict=True)
    ] == names
    assert len({file for _, file in claimed}) == len(keys) and all(
        file.is_file() for _, file in claimed
    )
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


@pytest.mark.parametrize(
    ("values", "lengths"),
    [([0], [1]), ([1], [0, 1]), ([0, 0, 1, 1, 1, 0], [2, 3, 1]), ([1, 0, 1], [0, 1, 1, 1])],
)
def test_runs_begin_with_those_outside(values: list[int], lengths: list[int]) -> None:
    assert encode_run_lengths(np.array(values, dtype=bool)) == lengths


def test_a_box_is_cut_to_the_image() -> None:
    row = {"x_min": -1.0, "y_min": 2.0, "x_max": 50.0, "y_max": 31.0}
    assert clip_box(row, {"width": 40, "height": 30}) == (0, 2, 40, 30)


def test_xml_has_no_control_characters() -> None:
    assert replace_invalid_xml("a\x00b\x1f<&\n\t\ufffe") == "a\ufffdb\ufffd<&\n\t\ufffd"


def test_numbers_are_shortened_within_lists_of_any_length() -> None:
    kind = pa.list_(pa.struct([("x", pa.float32()), ("n", pa.int32())]))
    table = pa.table(
        {
            "points": pa.array(
                [[{"x": 0.1, "n": 1}], [], [{"x": 0.2, "n": 2}, {"x": 0.3, "n": 3}]], kind
            )
        }
    )
    assert shorten_floats(table.slice(1))["points"].to_pylist() == [
        [],
        [{"x": 0.2, "n": 2}, {"x": 0.3, "n": 3}],
    ]


def test_json_has_no_nan() -> None:
    assert (
        format_json({"a": [float("nan"), 1.5], "b": float("inf")})
        == '{"a": [null, 1.5], "b": null}'
    )


def test_dates_and_times_are_text_in_json() -> None:
    when = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
    assert format_json([when, when.date()]) == '["2024-05-01T12:30:00+00:00", "2024-05-01"]'
    assert format_json([when.date(), float("nan")]) == '["2024-05-01", null]'
