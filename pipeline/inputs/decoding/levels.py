"""Map values of more than eight bits to brightness (settings `levels` and `bands`)."""

import numpy as np

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.pixel_options import PixelOptions

_AUTO_PERCENT = 0.1  # of the values at each end, which may be defects of the sensor
_AUTO_VALUES = 1 << 20  # about so many values of an image are looked at
_WHITE_16 = 65535


def map_levels(
    values: np.ndarray, options: PixelOptions, white: int | None, no_data: float | None = None
) -> np.ndarray:
    """Map the values of an image, all channels alike, to uint8.

    Args:
        values: (H, W, C) of any type.
        options: `levels`: full: 0 to `white`; auto: the image's own range; or (black, white).
        white: The brightest value of the type; None if the type does not say it.
        no_data: A value that means "nothing here": black, and not part of the own range.

    Raises:
        InputError: `levels=full`, and the values have no defined brightness.
    """
    if options.levels == "full":
        return _map_full_range(values, white)
    if values.dtype == np.uint8:
        return values

    is_valid = np.isfinite(values)
    if no_data is not None:
        is_valid &= values != no_data
    low, high = _find_range(values, is_valid) if isinstance(options.levels, str) else options.levels
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.where(is_valid, values, low).astype(np.float32) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _find_range(values: np.ndarray, is_valid: np.ndarray) -> tuple[float, float]:
    """Return the darkest and the brightest value, without a thousandth at each end."""
    step = max(1, int((values.size / _AUTO_VALUES) ** 0.5))
    sample = values[::step, ::step][is_valid[::step, ::step]]
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample.astype(np.float64), [_AUTO_PERCENT, 100 - _AUTO_PERCENT])
    return float(low), float(high)


def _map_full_range(values: np.ndarray, white: int | None) -> np.ndarray:
    if values.dtype.kind == "f":
        raise InputError(
            Status.UNSUPPORTED,
            f"{values.dtype.itemsize * 8}-bit float pixels have no defined brightness; say "
            "levels=auto, or levels=[BLACK,WHITE] such as levels=[0,1]",
        )
    if values.dtype == np.uint8 and white == 255:
        return values
    if white is None or white > _WHITE_16:
        if values.size and (values.min() < 0 or values.max() > _WHITE_16):
            raise InputError(
                Status.UNSUPPORTED,
                "values outside 0..65535 have no defined brightness; say levels=auto, or "
                "levels=[BLACK,WHITE]",
            )
        white = _WHITE_16
    if white == _WHITE_16 and values.shape[-1] > 1:
        return (values >> 8).astype(np.uint8)  # as Pillow, and others, reduce 16-bit colour
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
