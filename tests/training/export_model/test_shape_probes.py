"""Probes find the shapes that a program has fixed. The first method that fixes none is used."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.training.export_model.exporters import ExportMethod
from pipeline.training.export_model.shape_probes import (
    ProbeSet,
    ProgramLimits,
    build_detection_probes,
    build_logit_probes,
    probe_program,
    write_best_program,
)
from tests.helpers.own_files import Classifier, Regions


class Bright(nn.Module):
    """A detector that finds the whole image if it is bright."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        height, width = image.shape[-2:]
        box = torch.tensor([[0.0, 0.0, width, height]])[: int(image.mean() > 0.5)]
        return {
            "boxes": box,
            "labels": torch.ones(len(box), dtype=torch.int64),
            "scores": torch.full((len(box),), 0.9),
        }


class Only(nn.Module):
    """A network that is right for some inputs and fails or is wrong for others."""

    def __init__(
        self, network: nn.Module, fits: Callable[[Tensor], bool], fails: bool = False
    ) -> None:
        super().__init__()
        self.network, self.fits, self.fails = network, fits, fails

    def forward(self, images: Tensor) -> Tensor:
        if self.fails and not self.fits(images):
            raise RuntimeError("another shape")
        returned = self.network(images)
        if self.fits(images):
            return returned
        return (
            {name: value * 0.5 for name, value in returned.items()}
            if isinstance(returned, dict)
            else returned + 1
        )


def bright(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), 255, dtype=torch.uint8)


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize(
    ("fits", "any_batch", "any_size"),
    [
        (lambda images: True, True, True),
        (lambda images: len(images) == 1, False, True),
        (lambda images: len(images) < 3, False, True),
        (lambda images: images.shape[-2:] == (192, 256), True, False),
    ],
)
def test_a_segmenter_may_hold_its_batch_and_its_size(
    fits: Callable[[Tensor], bool], any_batch: bool, any_size: bool, fails: bool
) -> None:
    network = Regions().eval()
    found = probe_program(Only(network, fits, fails), build_logit_probes(network, None))
    assert found == ProgramLimits(0.0, any_batch, any_size) and found.is_unrestricted is (
        any_batch and any_size
    )


def test_a_classifier_has_one_size() -> None:
    network = Classifier().eval()
    probes = build_logit_probes(network, (32, 32))
    assert probes.sizes == () and probes.example.shape == (2, 3, 32, 32)
    assert (
        probe_program(network, probes) == ProgramLimits(0.0, True, None)
        and probe_program(network, probes).is_unrestricted
    )


def test_a_detector_is_shown_images_of_other_sizes() -> None:
    probes = build_detection_probes(Bright(), [bright(40, 60) * 0, bright(30, 60)])
    assert probes.example.shape == (3, 30, 60), "the first in which it finds something"
    assert [tuple(one.input.shape) for one in probes.sizes] == [(3, 22, 60), (3, 30, 40)]
    assert probe_program(Bright(), probes) == ProgramLimits(0.0, True, True)
    assert (
        probe_program(Only(Bright(), lambda image: image.shape[-1] == 60), probes).any_size is False
    )


def test_nothing_found_shows_nothing() -> None:
    probes = build_detection_probes(Bright(), [bright(40, 60) * 0])
    assert probe_program(Bright(), probes).any_size is None
    with pytest.raises(PipelineError, match="None of the images can be read"):
        build_detection_probes(Bright(), [])


def test_a_program_that_is_wrong_is_refused() -> None:
    network = Classifier().eval()
    with pytest.raises(PipelineError, match="on one input it differs by"):
        probe_program(Only(network, lambda images: False), build_logit_probes(network, (32, 32)))


# --- the way that is taken

PROGRAMS = {
    "free": lambda images: True,
    "one image": lambda images: len(images) == 1,
    "two images": lambda images: len(images) == 2,
}


def ways(*names: str) -> list[ExportMethod]:
    def write(name: str) -> Callable[[Path], None]:
        def leave(file: Path) -> None:
            file.write_text(name)
            if name == "fails":
                raise ValueError("no operator of this name")

        return leave

    return [ExportMethod(name, write(name)) for name in names]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["free", "one image"], "free"),
        (["fails", "free"], "free"),
        (["two images", "one image", "fails"], "one image"),  # two images: wrong about one
        (["one image", "two images"], "one image"),
    ],
)
def test_the_first_way_that_holds_nothing_is_taken(
    names: list[str], taken: str, tmp_path: Path
) -> None:
    network, file = Classifier().eval(), tmp_path / "program"
    probes: ProbeSet = build_logit_probes(network, (32, 32))
    how, found = write_best_program(
        ways(*names), file, lambda: Only(network, PROGRAMS[file.read_text()]), probes
    )
    assert how == file.read_text() == taken and found.any_batch is (taken == "free")


def test_no_way_is_told_with_reasons(tmp_path: Path) -> None:
    network, file = Classifier().eval(), tmp_path / "program"
    with pytest.raises(
        PipelineError,
        match=r"fails: no operator of this name\n  two images: on one input it differs by",
    ):
        write_best_program(
            ways("fails", "two images"),
            file,
            lambda: Only(network, PROGRAMS[file.read_text()]),
            build_logit_probes(network, (32, 32)),
        )
