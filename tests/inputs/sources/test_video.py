"""source=video: frames of videos as images, with their time in a column."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.shard_names import make_marker_name
from pipeline.inputs.sources.video import Video
from pipeline.run import run
from tests.helpers.paths import shared
from tests.helpers.runs import read, settings_for
from tests.helpers.videos import make_video, number_of, steady

D2GO = ("model=torchscript", "categories=coco", "channels=bgr", "trust_code=true", "overlays=false")


def untimed(stage: str) -> AbstractContextManager[None]:
    return nullcontext()


def frames_of(root: Path, **settings: object) -> list[tuple]:
    source = Video(str(root), **{"every": None, "fps": None, **settings})  # type: ignore[arg-type]
    return [(entry.key, *entry.carried) for entry in source.entries()]


def numbers(root: Path, **settings: object) -> list[int]:
    return [row[2] for row in frames_of(root, **settings)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every": 1}, list(range(60))),
        ({"every": 25}, [0, 25, 50]),
        ({"every": 1000}, [0]),
        ({}, [0, 25, 50]),  # one a second
        ({"fps": 1}, [0, 25, 50]),
        ({"fps": 2.5}, [0, 10, 20, 30, 40, 50]),
        ({"fps": 0.1}, [0]),
        ({"fps": 25}, list(range(60))),
        ({"fps": 100}, list(range(60))),  # each once, however often it is shown
    ],
)
def test_which_frames_are_taken(settings: dict, expected: list[int], tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", steady(60))
    assert numbers(tmp_path, **settings) == expected


def test_a_rate_is_of_time_not_of_frames(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", [0, 0.1, 0.2, 0.9, 1.0, 2.5, 2.6, 4.0, 4.1])
    assert numbers(tmp_path, fps=1) == [
        0,
        4,
        6,
        7,
    ]  # what is on the screen at 0, 1, 2 (still 4), 3 and 4 seconds
    np.testing.assert_allclose(
        [row[3] for row in frames_of(tmp_path, fps=1)], [0, 1.0, 2.6, 4.0], atol=1e-3
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"every": 0}, "above 0"), ({"every": 1.5}, "whole"), ({"fps": -1}, "above 0")],
)
def test_a_wrong_rate_is_refused(settings: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"source.*expected a .*{said}"):
        frames_of(tmp_path, **settings)


def test_two_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say one of them"):
        frames_of(tmp_path, every=2, fps=2)


def test_keys_are_sorted_whatever_the_names(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mp4-b.mp4", "a/c.mp4", "a!.mp4", "a.mp4.mkv", "z/z.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make_video(tmp_path / name, steady(3))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    (tmp_path / "b.mp4-c.mp4").write_bytes(b"no video")
    (tmp_path / "y.mp4").mkdir()
    make_video(tmp_path / "y.mp4" / "x.mp4", steady(3))
    keys = [row[0] for row in frames_of(tmp_path, every=2)]
    assert keys == sorted(set(keys)) and len(keys) == 7 * 2 + 3


def test_one_video_is_a_collection_too(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", steady(3))
    make_video(tmp_path / "b.mp4", steady(3))
    assert [row[0] for row in frames_of(tmp_path / "b.mp4", every=2)] == [
        "b.mp4/00000000",
        "b.mp4/00000002",
    ]


def test_frames_are_read_in_any_order_and_by_several_at_once(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mkv", "d.mp4", "e.mp4", "f.mp4"):
        make_video(tmp_path / name, steady(40))
    with closing(Video(str(tmp_path), every=3, fps=None)) as source, ThreadPoolExecutor(4) as pool:
        entries = list(source.entries())
        order = [*entries, *entries[::-1], *entries[::5]]
        found = pool.map(lambda entry: list(source.read([entry], 10**6, untimed)), order)
        assert [number_of(pixels) for (pixels,) in found] == [entry.carried[1] for entry in order]


def test_detections_carry_their_time(annotate: Callable[..., Path], tmp_path: Path) -> None:
    """The three clips through the real detector.

    Frames are those of the plain loop, so rows need no second reference.
    """
    weights = shared("weights/d2go_coco.pt")
    made = annotate(
        "task=detect",
        "source=video",
        "source.fps=1",
        f"input={shared('data/video')}",
        f"weights={weights}",
        *D2GO,
    )
    images, found = read(made, "images"), read(made, "predictions")
    assert images.column_names[-3:] == found.column_names[-3:] == ["video", "frame", "time_s"]
    assert images["status"].to_pylist() == ["ok"] * (9 + 12 + 12)
    assert images["frame"].to_pylist()[:4] == [0, 30, 60, 90] and images["time_s"].to_pylist()[
        :4
    ] == [0.0, 1.0, 2.0, 3.0]
    assert found.num_rows > 30
    times = dict(zip(images["image_id"].to_pylist(), images["time_s"].to_pylist(), strict=True))
    assert all(times[row["image_id"]] == row["time_s"] for row in found.to_pylist())


def test_every_video_that_fails_is_a_row_and_the_others_are_unharmed(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    whole = make_video(videos / "b.mp4", steady(60), options={"movflags": "faststart"})
    (videos / "a.mp4").write_bytes(b"")
    (videos / "c.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size * 4 // 5])
    (videos / "d.mp4").write_text("no video")
    (videos / "e.mp4").mkdir()
    (videos / "f.mp4").symlink_to("nowhere")
    make_video(videos / "g.mkv", [0, 0.1, 2.0, 2.3, 7.0])
    made = annotate(
        "model=codes",
        "source=video",
        "source.every=20",
        f"input={videos}",
        "shard_size=4",
        "batch_size=3",
    )
    rows = {row["key"]: row for row in read(made, "images").to_pylist()}
    assert {key: row["status"] for key, row in rows.items()} == {
        "a.mp4/": "empty",
        "b.mp4/00000000": "ok",
        "b.mp4/00000020": "ok",
        "b.mp4/00000040": "ok",
        "c.mp4/": "truncated",
        "c.mp4/00000000": "ok",
        "c.mp4/00000020": "ok",
        "d.mp4/": "unsupported",
        "e.mp4/": "not_a_file",
        "f.mp4/": "missing",
        "g.mkv/00000000": "ok",
    }
    assert (
        rows["d.mp4/"]["video"] == "d.mp4"
        and rows["d.mp4/"]["frame"] is None
        and rows["d.mp4/"]["time_s"] is None
    )
    assert "the file ends early: " in rows["c.mp4/"]["error"]
    assert (made / "overlays" / "b.mp4" / "00000020.overlay.jpg").is_file()


def test_frames_too_large_are_rows(annotate: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4", steady(3))
    made = annotate(
        "model=codes",
        "source=video",
        "source.every=2",
        f"input={tmp_path / 'in'}",
        "max_pixels=1000",
    )
    rows = read(made, "images").to_pylist()
    assert [(row["status"], row["width"], row["height"]) for row in rows] == [
        ("too_large", 128, 32)
    ] * 2


@pytest.mark.long
def test_a_run_that_goes_on_leaves_the_same_rows(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mkv"):
        make_video(videos / name, steady(30))
    common = (
        "model=codes",
        "source=video",
        "source.every=5",
        f"input={videos}",
        "shard_size=3",
        "log_level=error",
    )
    run(settings_for(*common, f"output={tmp_path / 'whole'}", "batch_size=1"))
    run(settings_for(*common, f"output={tmp_path / 'parts'}", "batch_size=5"))
    whole, parts = ((tmp_path / name / "latest").resolve() for name in ("whole", "parts"))
    for shard in (1, 3):
        (parts / make_marker_name(shard)).unlink()
    run(settings_for(*common, f"output={tmp_path / 'parts'}", "batch_size=5"))
    assert read(whole, "images").equals(read(parts, "images"))
    assert read(whole, "images")["frame"].to_pylist() == list(range(0, 30, 5)) * 2


def test_a_video_that_changes_is_noticed(annotate: Callable[..., Path], tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", steady(10))
    source = Video(str(videos), every=1, fps=None)
    entries = list(source.entries())
    shutil.copy(make_video(tmp_path / "other.mp4", steady(30)), videos / "a.mp4")
    (found,) = Video(str(videos), every=1, fps=None).read(entries[:1], 10**6, untimed)
    assert "the plan lists" in str(found)


def test_the_plan_keeps_what_the_source_knows(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4", steady(5))
    made = annotate(
        "model=codes",
        "source=video",
        "source.every=2",
        f"input={tmp_path / 'in'}",
        "overlays=false",
    )
    plan = pq.read_table(made / "plan" / "part-00000000.parquet")
    assert plan.column_names == [
        "image_id",
        "key",
        "size",
        "mtime_ns",
        "at",
        "video",
        "frame",
        "time_s",
    ]
    assert plan["frame"].to_pylist() == [0, 2, 4]
