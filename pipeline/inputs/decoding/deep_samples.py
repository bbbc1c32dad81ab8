"""Read the samples of PNG and PPM files with more than eight bits, for the setting `levels`."""

import io
import re

import av
import numpy as np

_COMMENT = re.compile(rb"#[^\n\r]*")
_PPM_HEADER = re.compile(rb"(P[2356])\s+(\d+)\s+(\d+)\s+(\d+)\s")
_PPM_HEADER_BYTES = 4096
_PNG_DEPTH_AT = 24  # in IHDR


def count_bits(name: str, head: bytes) -> int:
    """Return the bits of a sample, from the beginning of a PNG or PPM file."""
    if name == "PNG" and len(head) > _PNG_DEPTH_AT:
        return head[_PNG_DEPTH_AT]
    if name == "PPM":
        found = _PPM_HEADER.match(_COMMENT.sub(b"", head[:_PPM_HEADER_BYTES]))
        return int(found[4]).bit_length() if found else 8
    return 8


def read_deep_samples(name: str, data: bytes) -> np.ndarray:
    """Return (H, W, 1 or 3) uint16 of a PNG or PPM file with more than eight bits.

    Raises:
        av.error.FFmpegError, StopIteration, ValueError: The file is damaged.
    """
    return _read_png(data) if name == "PNG" else _read_ppm(data)


def _read_png(data: bytes) -> np.ndarray:
    """Decode with ffmpeg, because Pillow reduces 16-bit colour to 8 bits."""
    with av.open(io.BytesIO(data), "r", format="png_pipe") as container:
        frame = next(container.decode(video=0))
    if frame.format.name.startswith("ya16"):
        return _read_grey_and_alpha(frame)
    samples = np.atleast_3d(frame.to_ndarray())  # (H, W, channels)
    return samples[:, :, : 3 if samples.shape[2] >= 3 else 1]  # alpha is dropped


def _read_grey_and_alpha(frame: av.VideoFrame) -> np.ndarray:
    """Return the grey samples of a frame, (H, W, 1) uint16.

    PyAV makes no arrays of this format, and ffmpeg's conversion to grey alone gave other values
    from one call to the next.
    """
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
    kind = ">u2" if frame.format.name.endswith("be") else "<u2"
    pixels = np.ascontiguousarray(rows[: frame.height, : frame.width * 4]).view(kind)
    return pixels.reshape(frame.height, frame.width, 2)[:, :, :1].astype(np.uint16)


def _read_ppm(data: bytes) -> np.ndarray:
    head = data[:_PPM_HEADER_BYTES]
    # comments keep their length, so that positions stay
    head = _COMMENT.sub(lambda found: b" " * len(found[0]), head)
    found = _PPM_HEADER.match(head)
    if found is None:
        raise ValueError("its header cannot be read")
    width, height = int(found[2]), int(found[3])
    channels = 3 if found[1] in (b"P3", b"P6") else 1
    n_values = width * height * channels

    if found[1] in (b"P5", b"P6"):
        samples = np.frombuffer(data, ">u2", n_values, found.end())
    else:
        text = _COMMENT.sub(b"", data[found.end() :])
        samples = np.array(text.split()[:n_values], np.uint32)
    return samples.astype(np.uint16).reshape(height, width, channels)
