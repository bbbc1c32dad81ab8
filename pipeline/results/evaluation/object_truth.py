"""Annotated objects as the truth of an evaluation, from any format that training reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.annotations.coco_shapes import is_valid_run_length
from pipeline.annotations.dataset_listing import (
    AnnotationRequest,
    DatasetListing,
    ListedImage,
    Mask,
    ProblemList,
)
from pipeline.annotations.id_index import Id
from pipeline.annotations.read_annotations import read_annotations
from pipeline.core.errors import ConfigError
from pipeline.core.types import InputError
from pipeline.inputs.decoding.header import read_image_header
from pipeline.results.evaluation.pairing import count_pairs, name_in_run
from pipeline.runs.finished_run import FinishedRun

_PARTS = ("train", "val", "test")
_MAX_PIXELS = 1 << 40  # only the size is read


@dataclass(frozen=True)
class ObjectTruth:
    """Annotated images. A category is the position of a class in `class_ids`."""

    images: Sequence[ListedImage]
    names: tuple[str, ...]  # of the images, as the run would call them
    sizes_hw: np.ndarray  # (images, 2) int64 pixels, -1 if the annotations do not state the size
    categories: Mapping[int, str]
    class_ids: tuple[Id, ...]  # as the data set counts
    keypoint_names: tuple[str, ...]  # empty if the data set names no keypoints
    notes: tuple[str, ...]
    named_by_stem: bool  # whether labels are found by an image's name without its suffix

    @property
    def holds(self) -> frozenset[str]:
        """The kinds of shapes that every object has."""
        annotated = [image for image in self.images if len(image.labels)]
        if not annotated:
            return frozenset()
        kinds = {"boxes"}
        if all(image.masks is not None and None not in image.masks for image in annotated):
            kinds.add("masks")
        if all(
            image.keypoints is not None and not np.isnan(image.keypoints).any()
            for image in annotated
        ):
            kinds.add("keypoints")
        return frozenset(kinds)

    def make_annotations(self, number: int, size_hw: Sequence[int]) -> list[dict[str, Any]]:
        """Return the annotations of an image as dicts in pycocotools' format.

        Args:
            number: Number of the image.
            size_hw: Its size in pixels; -1 if neither side knows it.

        Raises:
            ConfigError: A mask does not fit the image.
        """
        image = self.images[number]
        height, width = self.find_size(number, size_hw) if image.fractions else size_hw
        scale = np.array([width, height] if image.fractions else [1, 1], np.float64)
        boxes = image.boxes_xyxy * np.tile(scale, 2)
        boxes[:, 2:] -= boxes[:, :2]
        crowd = np.zeros(len(boxes), bool) if image.crowd is None else image.crowd
        areas = boxes[:, 2] * boxes[:, 3]
        if image.areas is not None:
            areas = np.where(np.isnan(image.areas), areas, image.areas)
        found: list[dict[str, Any]] = [
            {"category_id": k, "bbox": box, "iscrowd": int(is_crowd), "area": area}
            for k, box, is_crowd, area in zip(
                image.labels.tolist(), boxes.tolist(), crowd.tolist(), areas.tolist(), strict=True
            )
        ]
        for row, one in enumerate(found):
            if image.masks is not None and (mask := image.masks[row]) is not None:
                one["segmentation"] = self._scale_mask(image, row, mask, scale, (height, width))
            if image.keypoints is not None and not np.isnan(image.keypoints[row]).any():
                points = image.keypoints[row] * (*scale, 1)
                one["keypoints"] = points.ravel().tolist()
                one["num_keypoints"] = int((points[:, 2] > 0).sum())
        return found

    def find_size(self, number: int, size_hw: Sequence[int]) -> tuple[int, int]:
        """Return the size of an image: the given one, that of the file's header, or else 1x1."""
        if size_hw[0] > 0:
            return size_hw[0], size_hw[1]
        image = self.images[number]
        if image.size_hw is not None:
            return image.size_hw
        try:
            with image.path.open("rb") as file:
                return read_image_header(file, _MAX_PIXELS).size_hw
        except (OSError, InputError):
            return 1, 1

    def _scale_mask(
        self, image: ListedImage, row: int, mask: Mask, scale: np.ndarray, size_hw: Sequence[int]
    ) -> list[list[float]] | dict[str, Any]:
        if isinstance(mask, tuple):
            return [(polygon.reshape(-1, 2) * scale).ravel().tolist() for polygon in mask]
        height, width = mask["size"]
        if size_hw[0] > 0 and [height, width] != list(size_hw):
            raise ConfigError(
                f"{image.describe_object(row)} has a mask of another size ({height}x{width}, "
                f"height x width) than its image ({size_hw[0]}x{size_hw[1]})."
            )
        if not is_valid_run_length(mask["counts"], height * width):
            raise ConfigError(
                f"{image.describe_object(row)}: the counts of its mask make no mask of its image."
            )
        return mask


def read_object_truth(run: FinishedRun, path: Path, task: str) -> ObjectTruth:
    """Read the objects of the parts of a data set that the run has images of.

    Args:
        run: The run.
        path: A file or folder that training reads.
        task: detect, instances, keypoints or segment, which determines the shapes to read.

    Raises:
        ConfigError: It cannot be read, or single annotations are invalid.
    """
    problems = ProblemList(f"truth={path}", "the evaluation")
    request = AnnotationRequest(task, parts=_PARTS, training=False)
    listing = read_annotations(path.absolute(), request, problems)
    problems.raise_if_any()
    images, notes = _select_parts(run, listing)
    names = tuple(name_in_run(run, image.path, image.key or image.name) for image in images)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ConfigError(f"truth={path}: two images have one name, {twice[0]!r}.")
    sizes = [image.size_hw or (-1, -1) for image in images]
    return ObjectTruth(
        images,
        names,
        np.array(sizes, np.int64).reshape(-1, 2),
        dict(enumerate(listing.names)),
        listing.class_ids or tuple(range(len(listing.names))),
        listing.keypoint_names,
        (*listing.notes, *notes),
        listing.named_by_stem,
    )


def _select_parts(run: FinishedRun, listing: DatasetListing) -> tuple[list[ListedImage], list[str]]:
    """Return the images of the parts that the run has images of, and a note about the others."""
    counts = {
        part: count_pairs(
            run, [name_in_run(run, image.path, image.key or image.name) for image in images]
        )
        for part, images in listing.parts.items()
    }
    chosen = [part for part, count in counts.items() if count] or list(counts)
    others = [
        f"{part} ({len(listing.parts[part]):,} images)" for part in counts if part not in chosen
    ]
    notes = [f"The run has no images of these parts of truth: {', '.join(others)}"] * bool(others)
    return [image for part in chosen for image in listing.parts[part]], notes
