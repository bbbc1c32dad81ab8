"""Frames and times of one video file: containers, codecs, rotation, variable rates, damage."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.frame_reader import FrameReader
from pipeline.inputs.decoding.video_index import read_video_index
from tests.helpers.paths import shared
from tests.helpers.videos import SIZE_HW, make_video, number_of, steady

UNEVEN = [0, 0.1, 0.15, 0.5, 2.0, 2.01, 3.0, *[4 + i / 25 for i in range(20)]]
CONTAINERS = [  # name, codec
    ("a.mp4", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.mkv", "libx264"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
    ("a.ts", "libx264"),
    ("a.flv", "flv1"),
    ("a.wmv", "wmv2"),
    ("a.3gp", "mpeg4"),
]


def index_of(data: bytes):
    return read_video_index(io.BytesIO(data))


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_every_frame_comes_by_its_number_in_any_order(name, codec, tmp_path):
    data = make_video(tmp_path / name, steady(40), codec).read_bytes()
    index = index_of(data)
    assert (len(index), index.size_hw, index.incomplete) == (40, SIZE_HW, None)
    np.testing.assert_allclose(index.times, steady(40), atol=1e-3)
    assert 1.56 < index.end < 1.61
    frames = FrameReader(io.BytesIO(data), index)
    order = [0, 1, 5, 3, 39, 20, 20, 2, 38, 39, 10, 9]
    assert [number_of(frames.read_frame(number)) for number in order] == order
    frames.close()


def test_a_variable_rate_keeps_its_own_times(tmp_path):
    data = make_video(tmp_path / "a.mp4", UNEVEN).read_bytes()
    index = index_of(data)
    np.testing.assert_allclose(index.times, UNEVEN, atol=1e-3)
    frames = FrameReader(io.BytesIO(data), index)
    assert [number_of(frames.read_frame(i)) for i in range(len(UNEVEN))] == list(range(len(UNEVEN)))


def test_times_count_from_the_first_frame(tmp_path):
    index = index_of(make_video(tmp_path / "a.mkv", [7 + t for t in steady(12)]).read_bytes())
    np.testing.assert_allclose(index.times, steady(12), atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_upright(rotation, tmp_path):
    data = make_video(tmp_path / "a.mp4", steady(12), rotation=rotation).read_bytes()
    index = index_of(data)
    assert index.size_hw == (SIZE_HW if rotation == 180 else SIZE_HW[::-1])
    frame = FrameReader(io.BytesIO(data), index).read_frame(7)
    assert tuple(frame.shape) == (3, *index.size_hw) and frame.is_contiguous()
    assert number_of(torch.rot90(frame, -rotation // 90, dims=(1, 2))) == 7


@pytest.mark.parametrize("name", ["video1.mp4", "video2.mp4", "video3.mp4"])
def test_frames_are_those_of_a_plain_loop(name):
    data = shared(f"data/video/{name}").read_bytes()
    index = index_of(data)
    with av.open(io.BytesIO(data)) as container:
        expected = [
            torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1)
            for f in container.decode(video=0)
        ]
    assert len(index) == len(expected)
    frames = FrameReader(io.BytesIO(data), index)
    for number in [*range(0, len(index), 7), 3, 200, 199]:
        assert torch.equal(frames.read_frame(number), expected[number])


def test_frames_are_those_of_torchcodec():
    path = shared("data/video/video1.mp4")
    try:
        from torchcodec.decoders import VideoDecoder

        theirs = VideoDecoder(str(path))
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchcodec finds no FFmpeg here: {str(error).splitlines()[0]}")
    index = index_of(path.read_bytes())
    frames = FrameReader(io.BytesIO(path.read_bytes()), index)
    for number in range(0, len(index), 20):
        one = theirs.get_frame_at(number)
        assert abs(one.pts_seconds - index.times[number]) < 1e-6
        assert torch.equal(frames.read_frame(number), one.data)
    frames.close()


# --- what is wrong with a file


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("video")
    return make_video(
        folder / "a.mp4", steady(60), options={"movflags": "faststart"}
    ).read_bytes()  # its index comes first


def refused(data: bytes) -> tuple[Status, str]:
    with pytest.raises(InputError) as caught:
        index_of(data)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"", Status.EMPTY, "zero bytes"),
        (
            b"a letter to a friend, which is no video at all",
            Status.UNSUPPORTED,
            "no known video format",
        ),
        (b"\xff\xd8\xff\xe0" + bytes(500), Status.UNSUPPORTED, "ff d8 ff e0"),
        (b"\x1a\x45\xdf\xa3" + bytes(500), Status.CORRUPT, "Matroska"),
        (b"RIFF" + bytes(500), Status.CORRUPT, "AVI"),
    ],
)
def test_what_is_no_video_is_named(data, status, said):
    found, message = refused(data)
    assert found is status and said in message


def test_an_mp4_without_its_index_is_truncated(tmp_path):
    data = make_video(tmp_path / "a.mp4", steady(60)).read_bytes()  # its index comes last
    status, said = refused(data[: len(data) // 2])
    assert status is Status.TRUNCATED and f"{len(data) // 2} of at least " in said


@pytest.mark.parametrize("share", [0.7, 0.8, 0.9])
def test_of_a_cut_file_the_frames_that_are_there_can_be_had(share, whole):
    cut = whole[: int(len(whole) * share)]
    index = index_of(cut)
    assert 0 < len(index) < 60
    assert (
        index.incomplete
        == f"the file ends early: {len(cut)} of at least {len(whole)} bytes are there"
    )
    frames = FrameReader(io.BytesIO(cut), index)
    assert [number_of(frames.read_frame(i)) for i in range(0, len(index) - 3, 3)] == list(
        range(0, len(index) - 3, 3)
    )


def test_a_file_that_was_damaged_since_its_index_was_read_is_refused_and_closed(whole):
    index, file = index_of(whole), io.BytesIO(b"\0" * len(whole))
    with pytest.raises(InputError):
        FrameReader(file, index)
    assert file.closed


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_is_a_typed_error_never_a_wrong_frame(name, seed, tmp_path):
    data = bytearray(make_video(tmp_path / name, steady(60)).read_bytes())
    dice = np.random.default_rng(seed)
    for at in dice.integers(len(data) // 4, len(data), 40):
        data[at] = dice.integers(256)
    try:
        index = index_of(bytes(data))
    except InputError:
        return
    frames = FrameReader(io.BytesIO(data), index)
    for number in range(0, len(index), 5):
        try:
            pixels = frames.read_frame(number)
        except InputError as error:
            assert error.status is Status.CORRUPT and str(error).startswith(f"frame {number} ")
        else:
            assert tuple(pixels.shape) == (3, *index.size_hw)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
    ],
)
def test_a_playlist_named_as_a_video_opens_no_other_file(text, whole, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(whole)
    playlist = tmp_path / "a.mp4"
    playlist.write_text(text.format(tmp_path / "secret.mp4"))
    with playlist.open("rb") as file, pytest.raises(InputError) as caught:
        read_video_index(file)
    assert caught.value.status is Status.UNSUPPORTED


def test_sound_without_pictures_is_unsupported(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    status, said = refused(Path(tmp_path / "a.mp4").read_bytes())
    assert status is Status.UNSUPPORTED and "no video track" in said


def test_a_bomb_is_refused_before_a_frame_is_decoded(whole, monkeypatch):
    monkeypatch.setattr(
        "pipeline.inputs.decoding.video_index._MAX_FRAME_PIXELS", SIZE_HW[0] * SIZE_HW[1] - 1
    )
    monkeypatch.setattr(
        "pipeline.inputs.decoding.video_index._read_packets",
        lambda *_: pytest.fail("it was read on"),
    )
    status, said = refused(whole)
    assert status is Status.TOO_LARGE and "128x32 pixels" in said
