"""Videos that were cut without encoding, put together, or cut short: frames, times and status.

What is right is what FFmpeg presents when it decodes the whole file in order.
"""

import io
import random
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.frame_reader import FrameReader
from pipeline.inputs.decoding.video_ends import find_missing_end
from pipeline.inputs.decoding.video_frame_times import fill_missing, make_ascending
from pipeline.inputs.decoding.video_index import VideoIndex, read_video_index
from tests.helpers.videos import SIZE_HW, copy_video, make_video, number_of, numbered, steady

N_FRAMES = 60
X264, OPEN_X264, OPEN_X265 = (
    ("libx264", {"bf": "3"}),
    ("libx264", {"bf": "3", "x264-params": "open-gop=1"}),
    ("libx265", {"x265-params": "open-gop=1:bframes=3:log-level=none"}),
)


def index_of(data: bytes) -> VideoIndex:
    return read_video_index(io.BytesIO(data))


def list_presented(data: bytes) -> list[tuple[int, float | None]]:
    """Return the number that each presented frame shows, and its time in seconds."""
    presented: list[tuple[int, float | None]] = []
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux(container.streams.best("video")):
            with suppress(av.error.InvalidDataError):  # players go on
                presented += [
                    (number_of(to_tensor(frame)), frame.time) for frame in packet.decode()
                ]
    return presented


def to_tensor(frame: av.VideoFrame) -> torch.Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)


def check_frames(data: bytes, expected: list[int]) -> VideoIndex:
    """Fail unless exactly these frames are found, in order and at random."""
    index = index_of(data)
    assert index.incomplete is None and len(index) == len(expected)
    shuffled = random.Random(0).sample(range(len(index)), len(index))
    for order in (range(len(index)), shuffled[:15]):
        frames = FrameReader(io.BytesIO(data), index)
        assert [number_of(frames.read_frame(i)) for i in order] == [expected[i] for i in order]
        frames.close()
    return index


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        name: make_video(folder / f"{name}.mkv", steady(N_FRAMES), codec, codec_options=options)
        for name, (codec, options) in {
            "closed": X264,
            "open": OPEN_X264,
            "open265": OPEN_X265,
        }.items()
    }


@pytest.mark.parametrize("at_keyframe", [True, False])
@pytest.mark.parametrize(("start", "end"), [(0.0, 100.0), (0.5, 100.0), (1.3, 100.0), (0.5, 1.7)])
@pytest.mark.parametrize(
    ("source", "name"),
    [
        (source, name)
        for source in ("closed", "open", "open265")
        for name in ("a.mp4", "a.mov", "a.mkv", "a.ts", "a.flv")
        if (source, name) != ("open265", "a.flv")
    ],
)
def test_a_copied_part_has_the_frames_that_are_presented(
    source: str,
    name: str,
    start: float,
    end: float,
    at_keyframe: bool,
    sources: dict[str, Path],
    tmp_path: Path,
) -> None:
    data = copy_video(sources[source], tmp_path / name, start, end, at_keyframe).read_bytes()
    presented = list_presented(data)
    if not presented:
        with pytest.raises(InputError, match="no frame of it can be decoded"):
            index_of(data)
        return
    index = check_frames(data, [number for number, _ in presented])
    times = [time for _, time in presented]
    if None not in times:
        np.testing.assert_allclose(index.times, np.subtract(times, times[0]), atol=1e-6)
    assert np.all(np.diff(index.times) > 0)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_reordered_frames_has_them_in_the_order_in_which_they_are_shown(
    codec: str, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.avi", steady(40), codec, codec_options={"bf": "2"})
    index = check_frames(path.read_bytes(), list(range(40)))
    np.testing.assert_allclose(index.times, steady(40), atol=0.045)


def test_a_program_stream_gives_its_frames_in_any_order(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mpg", steady(40), "mpeg2video", rate=25)
    check_frames(path.read_bytes(), list(range(40)))


def test_files_that_were_joined_have_the_frames_of_both(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    part = copy_video(sources["closed"], tmp_path / "a.ts").read_bytes()
    index = check_frames(part + part, 2 * list(range(N_FRAMES)))
    np.testing.assert_allclose(index.times, steady(2 * N_FRAMES), atol=0.05)


def test_times_below_zero_in_a_format_that_has_none(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    options = {"avoid_negative_ts": "disabled"}
    data = copy_video(sources["closed"], tmp_path / "a.mkv", 0.7, options=options).read_bytes()
    presented = [number for number, _ in list_presented(data)]
    index = check_frames(data, presented)
    np.testing.assert_allclose(index.times, steady(len(presented)), atol=1e-6)


def test_a_recording_that_begins_in_the_middle_begins_with_what_can_be_decoded(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    data = copy_video(sources["closed"], tmp_path / "a.ts").read_bytes()
    for share in (0.2, 0.5, 0.7):
        tail = data[int(len(data) * share) // 188 * 188 :]
        presented = [number for number, _ in list_presented(tail)]
        assert len(presented) >= 10
        check_frames(tail, presented)


# --- cover pictures


def make_covered(path: Path, with_video: bool, with_cover_first: bool = True) -> Path:
    """Make a video, or a sound, with a cover picture of another size."""
    with av.open(path, "w") as container:
        tracks: dict[str, Any] = {}
        names = ["cover", "video" if with_video else "sound"]
        for name in names if with_cover_first else reversed(names):
            codec = {"cover": "mjpeg", "video": "libx264", "sound": "aac"}[name]
            track: Any = container.add_stream(codec, rate=8000 if name == "sound" else 25)
            tracks[name] = track
            if name == "cover":
                track.width, track.height, track.pix_fmt = 320, 240, "yuvj420p"
                track.disposition = Disposition.attached_pic
            elif name == "video":
                (track.height, track.width), track.pix_fmt = SIZE_HW, "yuv420p"
        picture = np.full((240, 320, 3), 90, np.uint8)
        container.mux(tracks["cover"].encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for i in range(20 if with_video else 0):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(tracks["video"].encode(frame))
        if not with_video:
            silence = np.zeros((1, 8000), np.float32)
            sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sound.rate = 8000
            container.mux(tracks["sound"].encode(sound))
        for track in tracks.values():
            container.mux(track.encode())
    return path


@pytest.mark.parametrize("with_cover_first", [True, False])
def test_a_cover_picture_is_not_taken_for_the_video(with_cover_first: bool, tmp_path: Path) -> None:
    data = make_covered(tmp_path / "a.mp4", True, with_cover_first).read_bytes()
    assert check_frames(data, list(range(20))).size_hw == SIZE_HW


def test_a_sound_with_a_cover_picture_has_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video track, only a cover picture") as caught:
        index_of(make_covered(tmp_path / "a.mp4", False).read_bytes())
    assert caught.value.status is Status.UNSUPPORTED


# --- orientation


ONE = 1 << 16
MATRICES = {  # (a, b, c, d): a stored point (x, y) is shown at (a x + c y, b x + d y)
    (1, 0, 0, 1): lambda image: image,
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (-1, 0, 0, -1): lambda image: image[::-1, ::-1],
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),  # clockwise
    (0, -1, 1, 0): np.rot90,
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: image[::-1, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("letters", MATRICES)
def test_a_turned_or_mirrored_video_is_upright(
    letters: tuple[int, int, int, int], name: str, tmp_path: Path
) -> None:
    a, b, c, d = (ONE * letter for letter in letters)
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data = make_video(tmp_path / name, steady(12), matrix=matrix).read_bytes()
    index = index_of(data)
    found = FrameReader(io.BytesIO(data), index).read_frame(7)
    with av.open(io.BytesIO(data)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][7]
    expected = MATRICES[letters](stored)
    assert index.size_hw == expected.shape[:2]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


# --- files that end too early


ENDS = [  # name, codec, options, share of places at which a cut cannot be seen
    ("a.mp4", "libx264", {}, 0),
    ("b.mp4", "libx264", {"movflags": "faststart"}, 0),
    ("c.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, 0.03),
    ("a.mov", "mpeg4", {}, 0),
    ("a.3gp", "mpeg4", {}, 0),
    ("a.mkv", "libx264", {}, 0),
    ("b.mkv", "libx264", {"live": "1"}, 0.2),  # clusters without lengths
    ("a.webm", "libvpx-vp9", {}, 0),
    ("a.avi", "mpeg4", {}, 0),
    ("a.ts", "libx264", {}, 0.03),
    ("a.mpg", "mpeg2video", {}, 0.05),
    ("a.flv", "flv1", {}, 0.05),
    ("a.wmv", "wmv2", {}, 0.1),
]


@pytest.mark.parametrize(("name", "codec", "options", "unseen"), ENDS)
def test_a_file_that_is_cut_short_is_truncated(
    name: str, codec: str, options: dict[str, str], unseen: float, tmp_path: Path
) -> None:
    rate = 25 if name == "a.mpg" else 1000
    data = make_video(tmp_path / name, steady(60), codec, options=options, rate=rate).read_bytes()
    assert find_missing_end(io.BytesIO(data)) is None and index_of(data).incomplete is None

    sizes = random.Random(0).sample(range(64, len(data)), 200)
    found = [find_missing_end(io.BytesIO(data[:size])) for size in sizes]
    assert sum(one is None for one in found) <= unseen * len(sizes)
    for size in [size for size, one in zip(sizes, found, strict=True) if one][:12]:
        try:
            index = index_of(data[:size])
        except InputError as error:
            assert error.status is Status.TRUNCATED, size
        else:
            assert index.incomplete and 0 < len(index) <= 60


@pytest.mark.parametrize(
    "appended", [b"\0" * 5000, b"SEFT\x01\x02\x03\x04 and so on", b"\xff" * 40]
)
def test_what_was_appended_to_a_file_cuts_nothing(appended: bytes, tmp_path: Path) -> None:
    data = make_video(tmp_path / "a.mp4", steady(20)).read_bytes()
    assert index_of(data + appended).incomplete is None


# --- times that are not those of the packets


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([None, None, None], [0, 4, 8]),
        ([None, None, 10, None, 20], [2, 6, 10, 14, 20]),
        ([10, 20], [10, 20]),
    ],
)
def test_missing_times_follow_from_durations(times: list, expected: list[int]) -> None:
    assert fill_missing(times, [4] * len(times)) == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([0, 4, 8], [0, 4, 8]),
        ([0, 40, 36, 44], [0, 40, 40, 44]),  # a wrong time at a cut
        ([500, 504, 0, 4, 900], [500, 504, 508, 512, 1408]),  # joined files
    ],
)
def test_times_never_go_back(times: list[int], expected: list[int]) -> None:
    assert make_ascending(times, [4] * len(times), 100).tolist() == expected
