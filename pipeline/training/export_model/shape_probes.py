"""What a program holds of the example that it was made with: found by running it on others, beside the original."""

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

MAX_LOGIT_DIFFERENCE = 1e-3  # of logits, as a part of the largest
_MAX_UNMATCHED_SHARE = (
    0.02  # part of the best detections: non-maximum suppression may decide near-ties either way
)
_SEGMENTER_HW = (192, 256)
_OTHER_HW = ((160, 224), (256, 192))


@dataclass(frozen=True)
class ShapeProbe:
    input: Tensor
    expected: Any  # the original's answer


@dataclass(frozen=True)
class ProbeSet:
    """Inputs with the original's answers. `one`: a batch of one, or a detector's image; `batches`: of other numbers of
    images; `sizes`: of other heights and widths, none for a classifier, whose preprocessing makes one size."""

    one: ShapeProbe
    batches: tuple[ShapeProbe, ...]
    sizes: tuple[ShapeProbe, ...]

    @property
    def example(self) -> Tensor:
        """What to export with: a batch of two, because exporters take one for a constant."""
        return self.batches[0].input if self.batches else self.one.input


@dataclass(frozen=True)
class ProgramLimits:
    """What holds of a program."""

    difference: float  # the largest, where it is right
    any_batch: bool
    any_size: bool | None  # None: not tried, or nothing was found in the images that were

    @property
    def is_unrestricted(self) -> bool:
        """It is free in every respect that was tried."""
        return self.any_batch and self.any_size is not False


def build_logit_probes(network: nn.Module, input_hw: tuple[int, int] | None) -> ProbeSet:
    """`input_hw`: what a classifier's preprocessing makes; None: a segmenter. Logits of noise are as good as any."""
    noise = torch.Generator().manual_seed(0)

    def probe(batch: int, height: int, width: int) -> ShapeProbe:
        given = torch.randn(batch, 3, height, width, generator=noise)
        return ShapeProbe(given, compute_output(network, given))

    size = input_hw or _SEGMENTER_HW
    sizes = () if input_hw else tuple(probe(1, *other) for other in _OTHER_HW)
    return ProbeSet(probe(1, *size), (probe(2, *size), probe(3, *size)), sizes)


def build_detection_probes(network: nn.Module, images: Iterable[Tensor]) -> ProbeSet:
    """Of the first of the images, (3, H, W) uint8, in which the original finds something; it, cut off below and narrowed."""
    one: ShapeProbe | None = None
    for image in images:
        given = image.float() / 255
        one = ShapeProbe(given, compute_output(network, given))
        if not all_detections_empty([one.expected]):
            break
    if one is None:
        raise PipelineError(
            "None of the images can be read; the export has nothing to be compared on. Say input=FOLDER."
        )
    height, width = one.input.shape[-2:]
    narrow = interpolate(one.input[None], size=(height, max(1, width * 2 // 3)), mode="bilinear")[0]
    others = (one.input[:, : max(1, height * 3 // 4)].contiguous(), narrow)
    return ProbeSet(
        one, (), tuple(ShapeProbe(given, compute_output(network, given)) for given in others)
    )


def probe_program(program: nn.Module, probes: ProbeSet) -> ProgramLimits:
    """Raises PipelineError for a program that is wrong about a single input too."""
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
    ways: Sequence[ExportMethod], file: Path, opened: Callable[[], nn.Module], probes: ProbeSet
) -> tuple[str, ProgramLimits]:
    """Leaves the file: by the first way whose program holds nothing of its example, or else the last that is right at all.
    Returns how it was made. `opened`: the program in the file. Raises PipelineError where no way leads to one."""
    right: list[tuple[ExportMethod, ProgramLimits]] = []
    failed: list[str] = []
    for way in ways:
        try:
            with silence_exporters():
                way.write(file)
                found = probe_program(opened(), probes)
        except Exception as error:  # noqa: BLE001 - exporters raise anything
            failed.append(
                f"{way.how}: {' '.join(str(error).split())[:300] or type(error).__name__}"
            )
            continue
        if found.is_unrestricted:
            return way.how, found
        right.append((way, found))
    if not right:
        raise PipelineError(
            "No exporter makes a program of this model that gives its results:\n  "
            + "\n  ".join(failed)
        )
    way, found = right[-1]
    if way is not ways[-1]:
        with silence_exporters():
            way.write(file)  # another way's file took its place
    return way.how, found


def _measure_difference(program: nn.Module, probe: ShapeProbe) -> float:
    """Infinity where the program fails."""
    try:
        return measure_difference(probe.expected, compute_output(program, probe.input))
    except Exception:  # noqa: BLE001 - a program that holds a shape fails with anything
        return float("inf")


def _is_close(found: float, probe: ShapeProbe) -> bool:
    return found <= (
        MAX_LOGIT_DIFFERENCE if isinstance(probe.expected, Tensor) else _MAX_UNMATCHED_SHARE
    )
