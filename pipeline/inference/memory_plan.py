"""Estimate from an image's header how much memory each stage needs, and limit every stage.

The budget of a process is divided once::

    half       decoding and preprocessing, of all threads together (`admit`)
    quarter    model inputs that wait for the forward pass (`most_waiting`, for each group of
               images; an eighth of it for each batch if decoding overlaps the forward pass)
    half       the forward pass on a CPU, which takes turns with decoding (`most_forward`)

A group or a batch that would be larger is cut. One image is never cut. So an image that needs more
than its stage has is refused if the budget was set by the user, who made a promise to a machine.
Otherwise it is processed alone, because the rows must not depend on the machine's memory.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.config.groups.images import DEFAULT_MAX_ASPECT
from pipeline.core.cpu import get_share_of_cores
from pipeline.core.memory import ByteSemaphore, format_bytes, measure_available_memory
from pipeline.core.types import Entry, Failure, Item, Model, Status
from pipeline.inference.grey_image import make_grey_image

SizeHW = tuple[int, int]
_DEFAULT_SHARE = 0.25
_FLOAT_PIXEL_BYTES = 12  # of three float32 channels
# Measured on JPEG, PNG and TIFF files: up to 13 bytes a pixel for decoding, then 3 for the pixels
# and up to 24 for two float32 copies while they are preprocessed.
_DECODED_PIXEL_BYTES = 28
# Presets of classifiers resize the shorter side to about this before they crop. They refuse an
# image that would then have more pixels.
_PRESET_SIDE, _MOST_PRESET_PIXELS = 256, 2**24


@dataclass(frozen=True)
class ImageLimits:
    """Limits of one image and of the process's memory.

    Args:
        max_pixels: most pixels of an image that is decoded.
        max_aspect: most times that an image may be as long as it is wide, or the other way round.
        memory: bytes of this process's images in work; None: a quarter of the machine's, and then
            no image is refused for its memory.
    """

    max_pixels: int
    max_aspect: float = DEFAULT_MAX_ASPECT
    memory: int | None = None

    def find_budget(self) -> float:
        """Return the bytes for images in work. Processes that share the cores share the default."""
        if self.memory is not None:
            return self.memory
        return measure_available_memory() * _DEFAULT_SHARE * get_share_of_cores()

    def find_thinness(self, size_hw: SizeHW) -> Failure | None:
        """Return the failure of an image that is thinner than `max_aspect`, from its header."""
        height, width = size_hw
        if max(size_hw) <= self.max_aspect * min(size_hw):
            return None
        return Failure(
            Status.TOO_LARGE,
            f"{width}x{height} pixels: one side is {max(size_hw) / min(size_hw):.0f} times the "
            f"other, more than max_aspect={self.max_aspect:g}. A model that enlarges the shorter "
            "side would fill the memory; set a larger max_aspect= to try it",
            size_hw,
        )


@dataclass(frozen=True)
class MemoryPlan:
    """Estimates the memory of images from their sizes, and holds the budget of each stage.

    Args:
        limits: the limits of the run.
        model: gives the size of the network's input.
        overlap: whether decoding runs ahead of a forward pass on another device, which then has its
            own memory.
        clip_length: frames of an input, if inputs are clips.
        most_views: an image of more views is kept as it is while its views are processed.
    """

    limits: ImageLimits
    model: Model
    overlap: bool
    clip_length: int | None = None
    most_views: int = 1
    budget: float = field(init=False)
    _decoding: ByteSemaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", self.limits.find_budget())
        object.__setattr__(self, "_decoding", ByteSemaphore(self.budget / 2))

    # --- the budget of each stage

    def admit(self, n_bytes: float) -> AbstractContextManager[None]:
        """Wait until decoding may use this many bytes. Called before pixels are in memory."""
        return self._decoding.admit(n_bytes)

    @property
    def most_waiting(self) -> float:
        """The most bytes of model inputs in one group of images."""
        return self.budget / (32 if self.overlap else 4)

    @property
    def most_ahead(self) -> float:
        """The most bytes of model inputs in the groups that were begun ahead."""
        return self.budget / 8

    @property
    def most_forward(self) -> float:
        """The most bytes of one forward pass in the memory of this machine."""
        return math.inf if self.overlap else self.budget / 2

    # --- what an image needs

    def estimate_decoding(self, size_hw: SizeHW, entry: Entry) -> float:
        """Return the bytes to read, decode and preprocess one image or clip."""
        frames = self.clip_length or 1
        needed = (entry.size or 0) + frames * size_hw[0] * size_hw[1] * _DECODED_PIXEL_BYTES
        if self._fixed_input is None:
            return needed
        resized = _PRESET_SIDE**2 * max(size_hw) / max(1, min(size_hw))
        return needed + frames * int(min(resized, _MOST_PRESET_PIXELS)) * _FLOAT_PIXEL_BYTES

    def estimate_input(self, view_hw: SizeHW) -> float:
        """Return the bytes of the model input that `preprocess` makes of one view."""
        if self._fixed_input is not None:
            return self._fixed_input
        if self.model.network_hw is not None:  # the program resizes by itself
            return _count_float_bytes(view_hw)
        return self._estimate_network_input(view_hw)

    def estimate_forward(self, view_hw: SizeHW) -> float:
        """Return the bytes of the forward pass for one view."""
        return self._estimate_network_input(view_hw) * self.model.forward_factor

    def estimate_waiting(self, item: Item) -> float:
        """Return the bytes that stay in memory between decoding and the forward pass."""
        if len(item.views) > self.most_views and item.size_hw is not None:
            return 3 * item.size_hw[0] * item.size_hw[1] * (self.clip_length or 1)
        return sum(self.estimate_input(view.size_hw) for view in item.views)

    def refuse(self, item: Item) -> Failure | None:
        """Return the failure of an image that does not fit into `memory=` alone, from its size."""
        if self.limits.memory is None or item.size_hw is None or item.entry is None:
            return None
        needs = {
            "to decode": (self.estimate_decoding(item.size_hw, item.entry), self.budget / 2),
            "as input of the model": (self.estimate_waiting(item), self.budget / 4),
            "in the forward pass": (
                max(self.estimate_forward(view.size_hw) for view in item.views),
                self.most_forward,
            ),
        }
        height, width = item.size_hw
        for stage, (needed, most) in needs.items():
            if needed > most:
                share = "half" if most == self.budget / 2 else "a quarter"
                return Failure(
                    Status.TOO_LARGE,
                    f"{width}x{height} pixels take about {format_bytes(needed)} {stage}, more than "
                    f"{share} of memory={format_bytes(self.budget)}; set a larger memory=",
                )
        return None

    def _estimate_network_input(self, view_hw: SizeHW) -> float:
        if self._fixed_input is not None:
            return self._fixed_input
        find_hw: Callable[[SizeHW], object] = self.model.network_hw or self.model.bucket
        match find_hw(view_hw):
            case (int(height), int(width)):
                return _count_float_bytes((height, width))
        return _count_float_bytes(view_hw)

    @cached_property
    def _fixed_input(self) -> float | None:
        """Bytes of the model's input if all images have one shape, or None."""
        bucket = self.model.bucket
        if self.model.network_hw is not None or bucket((480, 640)) != bucket((640, 480)):
            return None
        try:
            made = self.model.preprocess(make_grey_image(self.clip_length))
        except Exception:  # noqa: BLE001 - the model's own code; the run reports the images
            return None
        return made.numel() * 4


def _count_float_bytes(size_hw: SizeHW) -> int:
    return size_hw[0] * size_hw[1] * _FLOAT_PIXEL_BYTES
