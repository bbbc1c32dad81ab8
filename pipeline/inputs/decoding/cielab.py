"""Convert CIE L*a*b* values of TIFF files to sRGB (TIFF 6.0, section 23; IEC 61966-2-1)."""

import numpy as np

_WHITE_D50 = np.array([0.9642, 1.0, 0.8251])
# XYZ under D50 -> linear sRGB, adapted by Bradford's method
_XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_ROWS = 256  # converted at a time, because the values are floats meanwhile


def convert_lab(samples: np.ndarray, bits: int, is_icc: bool) -> np.ndarray:
    """Convert (H, W, 3) samples of 8 or 16 bits to (H, W, 3) uint8 sRGB.

    `is_icc`: a and b are stored with an offset (ICCLab), not with a sign (CIELab).
    """
    if bits not in (8, 16):
        raise ValueError(f"L*a*b* of {bits} bits")
    out = np.empty(samples.shape, np.uint8)
    for row in range(0, len(samples), _ROWS):
        out[row : row + _ROWS] = _convert(samples[row : row + _ROWS], bits, is_icc)
    return out


def _convert(samples: np.ndarray, bits: int, is_icc: bool) -> np.ndarray:
    unsigned = samples.astype(f"u{bits // 8}")
    chroma = unsigned[..., 1:]
    scale = 1 << (bits - 8)
    offset = chroma.astype(np.float64) - 128 * scale if is_icc else chroma.view(f"i{bits // 8}")
    lightness = unsigned[..., 0] * (100 / ((1 << bits) - 1))
    a, b = np.moveaxis(offset.astype(np.float64) / scale, -1, 0)

    f_y = (lightness + 16) / 116
    f = np.stack([f_y + a / 500, f_y, f_y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE_D50
    linear = np.clip(xyz @ _XYZ_TO_SRGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
