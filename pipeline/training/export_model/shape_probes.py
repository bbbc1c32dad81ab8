"""Test which inputs a program accepts, by comparing it with the original on several shapes.

The test is needed because a program may accept only the shape of the exporter's example input.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.core.errors import PipelineError
from pipeline.training.export_model.exporters import ExportMethod, silence_exporters
from pipeline.training.export_model.reference_network import (
    all_detections_empty,
    compute_output,
    measure_difference,
)

MAX_LOGIT_DIFFERENCE = 1e-3  # relative to the largest logit
# Share of the best detections. It is not 0, because non-maximum suppression may decide near-ties
# either way.
_MAX_UNMATCHED_SHARE = 0.02
_SEGMENTER_HW = (192, 256)
_OTHER_HW = ((160, 224), (256, 192))


@dataclass(frozen=True)
class ShapeProbe:
    input: Tensor
    expected: Any  # output of the original


@dataclass(frozen=True)
class ProbeSet:
    """Inputs of several shapes with the original's outputs.

    `one` is a batch of one image, or one image for a detector. `batches` have other numbers of
    images. `sizes` have other heights and widths; they are empty for a classifier, because its
    preprocessing makes one size.
    """

    one: ShapeProbe
    batches: tuple[ShapeProbe, ...]
    sizes: tuple[ShapeProbe, ...]

    @property
    def example(self) -> Tensor:
        """The input to export with: a batch of two, as exporters treat a size of 1 as fixed."""
        return self.batches[0].input if self.batches else self.one.input


@dataclass(frozen=True)
class ProgramLimits:
    """The input shapes for which a program is right."""

    difference: float  # the largest one among the probes for which the program is right
    any_batch: bool
    any_size: bool | None  # None: not tried, or the original found nothing in the images

    @property
    def is_unrestricted(self) -> bool:
        """Whether the program is right for every shape that was tried."""
        return self.any_batch and self.any_size is not False


def build_logit_probes(network: nn.Module, input_hw: tuple[int, int] | None) -> ProbeSet:
    """Build probes of noise for a classifier or a segmenter.

    Args:
        network: The original.
        input_hw: Input size of a classifier; None for a segmenter.
    """
    noise = torch.Generator().manual_seed(0)

    def probe(batch: int, height: int, width: int) -> ShapeProbe:
        given = torch.randn(batch, 3, height, width, generator=noise)
        return ShapeProbe(given, compute_output(network, given))

    size = input_hw or _SEGMENTER_HW
    sizes = () if input_hw else tuple(probe(1, *other) for other in _OTHER_HW)
    return ProbeSet(probe(1, *size), (probe(2, *size), probe(3, *size)), sizes)


def build_detection_probes(network: nn.Module, images: Iterable[Tensor]) -> ProbeSet:
    """Build probes from the first image in which the original finds something.

    They are the image itself, the image with its lower part cut off, and a narrower image.

    Args:
        network: The original.
        images: (3, H, W) uint8.

    Raises:
        PipelineError: There is no image.
    """
    probe: ShapeProbe | None = None
    for image in images:
        given = image.float() / 255
        probe = ShapeProbe(given, compute_output(network, given))
        if not all_detections_empty([probe.expected]):
            break
    if probe is None:
        raise PipelineError(
            "None of the images can be read, so the export cannot be compared. Say input=FOLDER."
        )
    height, width = probe.input.shape[-2:]
    narrow_hw = (height, max(1, width * 2 // 3))
    narrow = interpolate(probe.input[None], size=narrow_hw, mode="bilinear")[0]
    others = (probe.input[:, : max(1, height * 3 // 4)].contiguous(), narrow)
    return ProbeSet(
        probe, (), tuple(ShapeProbe(given, compute_output(network, given)) for given in others)
    )


def probe_program(program: nn.Module, probes: ProbeSet) -> ProgramLimits:
    """Run a program on the probes. Raises PipelineError if it is wrong even for a single input."""
    first = _measure_difference(program, probes.one)
    if not _is_close(first, probes.one):
        raise PipelineError(f"on one input it differs by {first:.2g}")
    batches, sizes = (
        [_measure_difference(program, one) for one in some]
        for some in (probes.batches, probes.sizes)
    )
    tried = probes.sizes and not all_detections_empty([one.expected for one in probes.sizes])
    right = [
        one
        for one, probe in zip((*batches, *sizes), (*probes.batches, *probes.sizes), strict=True)
        if _is_close(one, probe)
    ]
    return ProgramLimits(
        difference=max([first, *right]),
        any_batch=all(
            _is_close(one, probe) for one, probe in zip(batches, probes.batches, strict=True)
        ),
        any_size=all(_is_close(one, probe) for one, probe in zip(sizes, probes.sizes, strict=True))
        if tried
        else None,
    )


def write_best_program(
    methods: Sequence[ExportMethod],
    file: Path,
    load_program: Callable[[], nn.Module],
    probes: ProbeSet,
) -> tuple[str, ProgramLimits]:
    """Write the program file with the best method.

    That is the first one whose program is right for all shapes, or else the last one whose
    program is right for a single input.

    Args:
        methods: The methods to try.
        file: The file to write.
        load_program: Loads the program from the file.
        probes: The inputs to test with.

    Returns:
        The name of the method, and the limits of the program.

    Raises:
        PipelineError: No method gives a program that is right.
    """
    right: list[tuple[ExportMethod, ProgramLimits]] = []
    failed: list[str] = []
    for method in methods:
        try:
            with silence_exporters():
                method.write(file)
                limits = probe_program(load_program(), probes)
        except Exception as error:  # noqa: BLE001 - exporters raise anything
            failed.append(
                f"{method.how}: {' '.join(str(error).split())[:300] or type(error).__name__}"
            )
            continue
        if limits.is_unrestricted:
            return method.how, limits
        right.append((method, limits))
    if not right:
        raise PipelineError(
            "No exporter makes a program of this model that gives its results:\n  "
            + "\n  ".join(failed)
        )
    method, limits = right[-1]
    if method is not methods[-1]:
        with silence_exporters():
            method.write(file)  # a later method has overwritten the file
    return method.how, limits


def _measure_difference(program: nn.Module, probe: ShapeProbe) -> float:
    """Return the difference to the original; infinity if the program fails."""
    try:
        return measure_difference(probe.expected, compute_output(program, probe.input))
    except Exception:  # noqa: BLE001 - a program with a fixed shape may raise anything
        return float("inf")


def _is_close(difference: float, probe: ShapeProbe) -> bool:
    return difference <= (
        MAX_LOGIT_DIFFERENCE if isinstance(probe.expected, Tensor) else _MAX_UNMATCHED_SHARE
    )
