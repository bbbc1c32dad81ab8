"""A JPEG file without its end mark is read if no pixel lacks, and is truncated otherwise."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.image import decode_image
from pipeline.inputs.decoding.jpeg_end import complete_jpeg, has_end
from pipeline.inputs.decoding.jpeg_segments import SOS, iterate_segments
from pipeline.inputs.decoding.nvjpeg import GpuJpegDecoder
from tests.helpers.pictures import picture

MANY = 10_000_000


def encoded(image=None, mode="RGB", **options):
    buffer = io.BytesIO()
    (image or picture(83, 61)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


FLAT = Image.new("RGB", (83, 61), (128, 128, 128))
HALF_FLAT = Image.fromarray(
    np.concatenate([np.asarray(picture(80, 32)), np.full((32, 80, 3), 128, np.uint8)])
)
KINDS = {
    "baseline": encoded(),
    "every pixel's colour": encoded(subsampling=0, quality=95),
    "optimised": encoded(optimize=True),
    "grey": encoded(mode="L"),
    "CMYK": encoded(mode="CMYK"),
    "progressive": encoded(progressive=True),
    "progressive grey": encoded(mode="L", progressive=True),
    "restarts by row": encoded(restart_marker_rows=1),
    "restarts by block": encoded(restart_marker_blocks=2),
    "progressive with restarts": encoded(progressive=True, restart_marker_rows=1),
    "flat lower half": encoded(HALF_FLAT),
    "flat lower half, optimised": encoded(HALF_FLAT, optimize=True),
    "one block": encoded(picture(8, 8)),
    "thumbnail in EXIF": encoded(exif=b"Exif\0\0" + encoded(picture(16, 16))),
}


def decoded(data):
    """The pixels, or the status of the error."""
    try:
        return decode_image(data, MANY).numpy()
    except InputError as error:
        return error.status


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [b"", b"\xff", b"\xff\xff\xff", bytes(4096), b"\xff" * 4096])
def test_only_the_end_mark_lacks(kind, ending):
    whole = KINDS[kind]
    data = whole[:-2] + ending
    assert not has_end(data)
    assert np.array_equal(decoded(data), decoded(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filling", [b"", bytes(3000), b"\xff" * 3000])
def test_a_cut_file_is_truncated_wherever_it_ends(kind, filling):
    whole = KINDS[kind]
    expected = decoded(whole)
    scan = next(s.end for s in iterate_segments(io.BytesIO(whole)) if s.marker == SOS)
    n_ok = 0
    for end in range(scan, len(whole) - 2, max(1, (len(whole) - scan) // 60)):
        found = decoded(whole[:end] + filling)
        if isinstance(found, np.ndarray):
            n_ok += 1  # the bytes that lack decide no pixel
            assert np.array_equal(found, expected), end
        else:
            assert found is Status.TRUNCATED
    if "flat" not in kind and kind != "one block":
        assert n_ok <= 2


def test_a_scan_that_lacks_is_noticed():
    """Cut between two scans of a progressive file: each scan there is whole."""
    whole = KINDS["progressive"]
    starts = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        tables = whole.rfind(b"\xff\xc4", 0, start)
        for end in (tables, start):
            assert decoded(whole[:end]) is Status.TRUNCATED


@pytest.mark.parametrize("garbage", [b"", b"\xff\xd9", b"behind the end", bytes(5000), b"\xff"])
def test_bytes_behind_the_end_mark_do_not_matter(garbage):
    whole = KINDS["baseline"]
    assert np.array_equal(decoded(whole + garbage), decoded(whole))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", KINDS["baseline"][:200], b"text"])
def test_what_has_no_scan_cannot_be_completed(data):
    assert complete_jpeg(data) is None


def test_the_gpus_decoder_leaves_such_files_to_the_cpu():
    def refuse(files, device):
        raise AssertionError("nvJPEG would invent what lacks")

    gpu = GpuJpegDecoder("jpeg: none", refuse, "cpu")
    whole = KINDS["baseline"]
    ok, cut = gpu.decode_many([whole[:-2], whole[:-200]], MANY)
    assert np.array_equal(ok.numpy(), decoded(whole))
    assert cut.status is Status.TRUNCATED and "pixels are missing" in str(cut)
