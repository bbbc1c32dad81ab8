"""What a program holds of the example that it was made with: found by running it on others, beside the original."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.core.errors import PipelineError
from pipeline.training.export_model.exporters import Attempt, quiet
from pipeline.training.export_model.reference import answer, difference, is_empty

MOST_DIFFERENCE = 1e-3  # of logits, as a part of the largest
_MOST_UNLIKE = (
    0.02  # part of the best detections: non-maximum suppression may decide near-ties either way
)
_SEGMENTER_HW = (192, 256)
_OTHER_HW = ((160, 224), (256, 192))


@dataclass(frozen=True)
class Probe:
    given: Tensor
    expected: Any  # the original's answer


@dataclass(frozen=True)
class Probes:
    """Inputs with the original's answers. `one`: a batch of one, or a detector's image; `batches`: of other numbers of
    images; `sizes`: of other heights and widths, none for a classifier, whose preprocessing makes one size."""

    one: Probe
    batches: tuple[Probe, ...]
    sizes: tuple[Probe, ...]

    @property
    def example(self) -> Tensor:
        """What to export with: a batch of two, because exporters take one for a constant."""
        return self.batches[0].given if self.batches else self.one.given


@dataclass(frozen=True)
class Held:
    """What holds of a program."""

    difference: float  # the largest, where it is right
    any_batch: bool
    any_size: bool | None  # None: not tried, or nothing was found in the images that were

    @property
    def nothing(self) -> bool:
        """It is free in every respect that was tried."""
        return self.any_batch and self.any_size is not False


def probes_for_logits(network: nn.Module, input_hw: tuple[int, int] | None) -> Probes:
    """`input_hw`: what a classifier's preprocessing makes; None: a segmenter. Logits of noise are as good as any."""
    noise = torch.Generator().manual_seed(0)

    def probe(batch: int, height: int, width: int) -> Probe:
        given = torch.randn(batch, 3, height, width, generator=noise)
        return Probe(given, answer(network, given))

    size = input_hw or _SEGMENTER_HW
    sizes = () if input_hw else tuple(probe(1, *other) for other in _OTHER_HW)
    return Probes(probe(1, *size), (probe(2, *size), probe(3, *size)), sizes)


def probes_for_detections(network: nn.Module, images: Iterable[Tensor]) -> Probes:
    """Of the first of the images, (3, H, W) uint8, in which the original finds something; it, cut off below and narrowed."""
    one: Probe | None = None
    for image in images:
        given = image.float() / 255
        one = Probe(given, answer(network, given))
        if not is_empty([one.expected]):
            break
    if one is None:
        raise PipelineError(
            "None of the images can be read; the export has nothing to be compared on. Say input=FOLDER."
        )
    height, width = one.given.shape[-2:]
    narrow = interpolate(one.given[None], size=(height, max(1, width * 2 // 3)), mode="bilinear")[0]
    others = (one.given[:, : max(1, height * 3 // 4)].contiguous(), narrow)
    return Probes(one, (), tuple(Probe(given, answer(network, given)) for given in others))


def held(program: nn.Module, probes: Probes) -> Held:
    """Raises PipelineError for a program that is wrong about a single input too."""
    first = _difference(program, probes.one)
    if not _right(first, probes.one):
        raise PipelineError(f"on one input it differs by {first:.2g}")
    batches, sizes = (
        [_difference(program, one) for one in some] for some in (probes.batches, probes.sizes)
    )
    tried = probes.sizes and not is_empty([one.expected for one in probes.sizes])
    right = [
        one
        for one, probe in zip((*batches, *sizes), (*probes.batches, *probes.sizes), strict=True)
        if _right(one, probe)
    ]
    return Held(
        difference=max([first, *right]),
        any_batch=all(
            _right(one, probe) for one, probe in zip(batches, probes.batches, strict=True)
        ),
        any_size=all(_right(one, probe) for one, probe in zip(sizes, probes.sizes, strict=True))
        if tried
        else None,
    )


def made(
    ways: Sequence[Attempt], file: Path, opened: Callable[[], nn.Module], probes: Probes
) -> tuple[str, Held]:
    """Leaves the file: by the first way whose program holds nothing of its example, or else the last that is right at all.
    Returns how it was made. `opened`: the program in the file. Raises PipelineError where no way leads to one."""
    right: list[tuple[Attempt, Held]] = []
    failed: list[str] = []
    for way in ways:
        try:
            with quiet():
                way.write(file)
                found = held(opened(), probes)
        except Exception as error:  # noqa: BLE001 - exporters raise anything
            failed.append(
                f"{way.how}: {' '.join(str(error).split())[:300] or type(error).__name__}"
            )
            continue
        if found.nothing:
            return way.how, found
        right.append((way, found))
    if not right:
        raise PipelineError(
            "No exporter makes a program of this model that gives its results:\n  "
            + "\n  ".join(failed)
        )
    way, found = right[-1]
    if way is not ways[-1]:
        with quiet():
            way.write(file)  # another way's file took its place
    return way.how, found


def _difference(program: nn.Module, probe: Probe) -> float:
    """Infinity where the program fails."""
    try:
        return difference(probe.expected, answer(program, probe.given))
    except Exception:  # noqa: BLE001 - a program that holds a shape fails with anything
        return float("inf")


def _right(found: float, probe: Probe) -> bool:
    return found <= (MOST_DIFFERENCE if isinstance(probe.expected, Tensor) else _MOST_UNLIKE)
