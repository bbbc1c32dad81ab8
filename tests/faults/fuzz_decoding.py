"""Fuzz the decoder: any bytes must give pixels or an InputError with a message.

Usage: `python -m tests.faults.fuzz_decoding CORPUS -max_total_time=60`
"""

import io
import sys

import atheris

with atheris.instrument_imports(include=["pipeline"], enable_loader_override=False):
    from pipeline.core.types import InputError
    from pipeline.inputs.decoding.header import read_image_header
    from pipeline.inputs.decoding.image import decode_image

import torch

MOST_PIXELS = 200_000


def one_input(data: bytes) -> None:
    try:
        header = read_image_header(io.BytesIO(data), MOST_PIXELS)
    except InputError as error:
        assert str(error)
    else:
        assert (
            0 < header.size_hw[0] * header.size_hw[1] <= MOST_PIXELS
            and 1 <= header.orientation <= 8
        )
    try:
        pixels = decode_image(data, MOST_PIXELS)
    except InputError as error:
        assert str(error)
    else:
        assert pixels.dtype == torch.uint8 and pixels.dim() == 3 and pixels.shape[0] == 3


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
