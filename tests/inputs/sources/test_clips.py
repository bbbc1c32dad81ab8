"""source=clips: which frames a clip has, and when it begins and ends."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.inputs.sources.clips import Clips
from pipeline.run import run
from tests.helpers.runs import settings_for
from tests.helpers.videos import make_video, number_of, steady


def clips(
    root: Path, length: int, fps: float | None = None, stride: int | None = None
) -> list[tuple[list[int], float, float]]:
    """(the numbers of its frames, start, end) of each clip of a folder of videos."""
    with closing(Clips(str(root), length, fps, stride)) as source:
        found = []
        for entry in source.entries():
            (pixels,) = source.read([entry], 10**6, lambda stage: nullcontext())
            assert tuple(pixels.shape) == (length, 3, 32, 128)
            found.append(([number_of(frame) for frame in pixels], *entry.carried[2:]))
        return found


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [
        (5, None, [0, 5, 10, 15, 19]),  # the last one ends with the video
        (8, None, [0, 8, 16]),
        (8, 4, [0, 4, 8, 12, 16]),
        (4, 10, [0, 10, 20]),
        (24, None, [0]),
        (23, None, [0, 1]),
        (1, 12, [0, 12, 23]),
    ],
)
def test_clips_cover_the_video(
    length: int, stride: int | None, starts: list[int], tmp_path: Path
) -> None:
    make_video(tmp_path / "a.mp4", steady(24))
    found = clips(tmp_path, length, None, stride)
    assert [frames for frames, _, _ in found] == [
        list(range(start, start + length)) for start in starts
    ]
    np.testing.assert_allclose(
        [start for _, start, _ in found], [start / 25 for start in starts], atol=1e-3
    )
    ends = [end for _, _, end in found]
    np.testing.assert_allclose(
        ends[:-1], [(start + length) / 25 for start in starts[:-1]], atol=2e-3
    )
    assert (
        23 / 25 <= ends[-1] <= 24 / 25 + 1e-3
    )  # how long the last frame is shown, the encoder decides


def test_a_shorter_video_repeats_its_last_frame(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", steady(3))
    ((frames, start, end),) = clips(tmp_path, 6)
    assert frames == [0, 1, 2, 2, 2, 2] and (start, round(end, 2)) == (0, 0.12)


@pytest.mark.parametrize(
    ("fps", "frames"),
    [
        (12.5, [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22]]),
        (10, [[0, 2, 5, 7], [10, 12, 15, 17], [15, 17, 20, 22]]),
        (
            50,
            [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]],
        ),  # a video slower than asked: frames come twice
    ],
)
def test_frames_are_taken_at_their_times(
    fps: float, frames: list[list[int]], tmp_path: Path
) -> None:
    make_video(tmp_path / "a.mp4", steady(24))
    assert [one for one, _, _ in clips(tmp_path, 4, fps)][:3] == frames


def test_a_variable_rate_is_sampled_by_time(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", [0, 0.1, 0.2, 0.9, 1.0, 2.5, 2.6, 4.0, 4.1])
    (first, second) = clips(tmp_path, 3, 1)
    assert first[0] == [0, 4, 4] and second[0] == [4, 6, 7]
    np.testing.assert_allclose([first[1:], second[1:]], [[0, 2.6], [1.0, 4.1]], atol=2e-3)


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"length": None}, {"length": 2.5}, {"fps": 0}, {"stride": -1}]
)
def test_wrong_settings_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"source.{next(iter(wrong))}=.*expected a .*above 0"):
        Clips(str(tmp_path), **{"length": 16, "fps": None, "stride": None, **wrong})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task=video", "source=folder"), "takes clips of videos: say source=clips"),
        (("task=video", "source=video"), "takes clips of videos: say source=clips"),
        (("task=classify", "model=resnet18", "source=clips"), "source=clips is for task=video"),
        (("task=video", "model=mvit_v2_s", "source.length=8"), "takes clips of 16 frames"),
        (("task=video", "model=s3d", "source.length=8"), "takes clips of at least 14 frames"),
        (("task=video", "model=resnet50"), "cannot do task=video"),
        (("task=classify", "model=r3d_18"), "it does video"),
    ],
)
def test_what_does_not_go_together_is_refused(
    overrides: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    make_video(tmp_path / "a.mp4", steady(3))
    with pytest.raises(ConfigError, match=said):
        run(
            settings_for(
                *overrides, "weights=random", f"input={tmp_path}", f"output={tmp_path / 'out'}"
            )
        )


def test_there_are_no_sample_videos() -> None:
    with pytest.raises(ConfigError, match="say input=FOLDER"):
        run(settings_for("task=video"))


def test_a_folder_without_videos_is_refused(annotate: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No inputs found in .* \(source=clips\)"):
        annotate("task=video", "model=r3d_18", "weights=random", f"input={tmp_path}")
