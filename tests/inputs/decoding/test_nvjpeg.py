"""jpeg=gpu: files that nvJPEG gets, files that it does not get, and files that it refuses.

A fake decoder, which takes whole batches too, replaces it.
"""

import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding import nvjpeg
from pipeline.inputs.decoding.image import IMAGE_DECODER, decode_image
from pipeline.inputs.decoding.jpeg_decoder import decode_jpeg
from pipeline.inputs.decoding.nvjpeg import GpuJpegDecoder, build_gpu_decoder
from pipeline.inputs.sources.folder import Folder
from pipeline.runs.components import build_components
from tests.helpers.pictures import picture
from tests.helpers.runs import read, settings_for

MOST = 10_000


class StandIn:
    """Remembers how many files each call had. Fails where a file holds `poison`."""

    def __init__(self, poison: bytes = b"\0never\0") -> None:
        self.calls: list[int] = []
        self.poison = poison

    def __call__(self, files: Sequence[bytes], device: str) -> list[Tensor]:
        self.calls.append(len(files))
        if any(self.poison in data for data in files):
            raise RuntimeError("nvjpegDecode failed: 4")
        return [decode_jpeg(data) for data in files]

    def jpegs(self) -> GpuJpegDecoder:
        return GpuJpegDecoder("jpeg: a stand-in", self, "cpu")


def jpeg(seed: int, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(31, 20, seed).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return jpeg(orientation, exif=tags.tobytes())


def png() -> bytes:
    buffer = io.BytesIO()
    picture(9, 8).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_batch_is_one_call_and_every_file_what_the_cpu_makes_of_it() -> None:
    files = [jpeg(1), *map(turned, range(1, 9)), jpeg(2, "L"), jpeg(3, progressive=True)]
    stand_in = StandIn()
    found = stand_in.jpegs().decode_many(files, MOST)
    assert stand_in.calls == [11]
    assert all(
        torch.equal(one, decode_image(data, MOST)) for one, data in zip(found, files, strict=True)
    )


def test_what_it_cannot_be_trusted_with_is_decoded_by_the_cpu() -> None:
    whole = jpeg(1)
    files = [b"", png(), whole[:-40], jpeg(2, "CMYK"), b"\xff\xd8 and no more", b"text", whole]
    stand_in = StandIn()
    found = stand_in.jpegs().decode_many(files, MOST)
    assert stand_in.calls == [1], "only the last"
    for one, data in zip(found, files, strict=True):
        try:
            expected = decode_image(data, MOST)
        except InputError as error:
            assert isinstance(one, InputError) and (one.status, str(one)) == (
                error.status,
                str(error),
            )
        else:
            assert torch.equal(one, expected)
    assert [one.status for one in found if isinstance(one, InputError)][:2] == [
        Status.EMPTY,
        Status.TRUNCATED,
    ]


def test_too_many_pixels_are_not_decoded() -> None:
    (found,) = (stand_in := StandIn()).jpegs().decode_many([jpeg(1)], 600)
    assert (
        isinstance(found, InputError) and found.status is Status.TOO_LARGE and stand_in.calls == []
    )


def test_one_file_that_it_refuses_costs_the_others_nothing() -> None:
    files = [jpeg(i) for i in range(8)]
    stand_in = StandIn(files[5][-60:])  # the end of its pixels, because comments are taken away
    found = stand_in.jpegs().decode_many(files, MOST)
    assert all(
        torch.equal(one, decode_image(data, MOST)) for one, data in zip(found, files, strict=True)
    )
    assert stand_in.calls == [8, 4, 4, 2, 1, 1, 2]


def test_the_first_library_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("No module named 'one'")

    stand_in = StandIn()
    monkeypatch.setattr(
        nvjpeg, "JPEG_LIBRARIES", (("one 1.0", absent), ("two 2.0", lambda: stand_in))
    )
    found = GpuJpegDecoder.find("cuda:1")
    assert (found.library, found.device, stand_in.calls) == (
        "jpeg: nvJPEG by two 2.0",
        "cuda:1",
        [1],
    )


def test_why_none_can_is_said_in_one_line_and_the_cpu_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))

    def broken() -> StandIn:
        return StandIn(b"\xff\xd8")

    monkeypatch.setattr(nvjpeg, "JPEG_LIBRARIES", (("one 1.0", broken), ("two 2.0", broken)))
    with caplog.at_level(logging.WARNING):
        source = Folder(str(tmp_path), image_decoder=build_gpu_decoder("cuda"))
    (record,) = caplog.records
    assert record.message.startswith("jpeg=gpu: one 1.0: nvjpegDecode failed: 4; two 2.0: nvjpeg")
    assert (
        record.message.endswith("The CPU decodes.")
        and source.decoder == IMAGE_DECODER
        and not source.image_decoder.is_batched
    )


def test_frames_of_videos_are_no_jpeg_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match="jpeg=gpu is for image files"):
        build_components(
            settings_for("source=video", "model=codes", f"input={tmp_path}", "jpeg=gpu")
        )


def test_a_run_says_that_there_is_no_gpu(
    annotate: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = annotate("model=codes", "limit=1", "device=cpu", "jpeg=gpu")
    assert (
        "jpeg=gpu: needs a CUDA device, and this run's is cpu. The CPU decodes." in caplog.messages
    )
    assert annotate("model=codes", "limit=1", "device=cpu") == found, (
        "the same decoder: the same run"
    )


@pytest.mark.long
def test_a_run_with_it(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mixed_images: Path
) -> None:
    stand_in = StandIn()
    usual = annotate("model=codes", f"input={mixed_images}", "batch_size=4")
    monkeypatch.setattr(GpuJpegDecoder, "find", lambda device: stand_in.jpegs())
    found = annotate("model=codes", f"input={mixed_images}", "batch_size=4", "jpeg=gpu")
    assert found != usual, "the decoder is part of a run's identity"
    assert max(stand_in.calls) > 1
    for kind in ("images", "predictions"):
        assert read(found, kind).equals(read(usual, kind))
    assert sorted(p.name for p in (found / "overlays").rglob("*")) == sorted(
        p.name for p in (usual / "overlays").rglob("*")
    )
