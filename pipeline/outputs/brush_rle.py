"""The run-length encoding of Label Studio's brush labels."""

import numpy as np

from pipeline.outputs.row_values import encode_run_lengths

_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)  # a run's length is written with the smallest number that suffices


def encode_brush_rle(mask: np.ndarray) -> list[int]:
    """Encode a mask as bytes.

    Label Studio reads an RGBA image, in which the mask is 0 or 255 in all four channels, packed row
    by row by rle-pack of thi.ng:

    - 32 bits: number of values
    - 5 bits: number of bits in a value, minus 1
    - 4 x 4 bits: the four numbers in `_LENGTH_BITS`, each minus 1
    - for each run: the bit 1; 2 bits, an index into `_LENGTH_BITS`; the length minus 1; the value

    Args:
        mask: (H, W) bool.
    """
    bits = [f"{4 * mask.size:032b}{_VALUE_BITS - 1:05b}"]
    bits += [f"{n_bits - 1:04b}" for n_bits in _LENGTH_BITS]
    for i, length in enumerate(encode_run_lengths(mask.ravel())):
        value = "1" * _VALUE_BITS if i % 2 else "0" * _VALUE_BITS
        remaining = 4 * length
        while remaining:
            run = min(remaining, 1 << _LENGTH_BITS[-1])
            choice = next(k for k, n_bits in enumerate(_LENGTH_BITS) if run <= 1 << n_bits)
            bits.append(f"1{choice:02b}{run - 1:0{_LENGTH_BITS[choice]}b}{value}")
            remaining -= run

    packed = "".join(bits)
    packed += "0" * (8 - len(packed) % 8)  # one to eight zeros, as rle-pack writes them
    return list(int(packed, 2).to_bytes(len(packed) // 8, "big"))
