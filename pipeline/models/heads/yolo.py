"""YOLO files that Ultralytics, or the original YOLOv5, exported."""

import logging
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.models.class_names import COCO_KEYPOINTS, load_categories
from pipeline.models.networks.yolo import ExtraDecoder, YoloNetwork, YoloThresholds
from pipeline.models.networks.yolo_keypoints import decode_keypoints
from pipeline.models.programs.head import Head, ProgramFacts, ProgramModel
from pipeline.models.programs.yolo_layout import YoloLayout, parse_metadata

log = logging.getLogger(__name__)
# What a file was made for -> the outputs of its network, and the tasks that read them.
_PURPOSES: Mapping[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "detect": (frozenset({"boxes"}), ("detect",)),
    "pose": (frozenset({"boxes", "keypoints"}), ("keypoints", "detect")),
}
_USUAL_FLOOR = 0.05  # lower scores cost time in non-maximum suppression and are rarely wanted


class YoloHead(Head):
    """Head of a YOLO file, which says itself how its images are prepared.

    Args:
        facts: What the file says about itself.
        settings: The run's settings.
        image_size: Side of the input, or (height, width). None: the file's own.
        iou: Boxes of a class that overlap more than this are one object.
        max_det: Most detections of an image.

    Raises:
        ConfigError: The settings or the class names do not fit the file.
    """

    def __init__(
        self,
        facts: ProgramFacts,
        settings: Settings,
        image_size: int | list[int] | None,
        iou: float,
        max_det: int,
    ) -> None:
        if settings.preprocess != "DEFAULT":
            raise ConfigError(
                f"preprocess={settings.preprocess}: {facts.file.name} says itself how its images "
                "are prepared; leave preprocess= out."
            )
        metadata = parse_metadata(facts.metadata)
        self.layout = YoloLayout.from_facts(facts.file, metadata, facts.signature, image_size)
        self.outputs, _ = _PURPOSES[self.layout.purpose]
        self.categories = _choose_names(facts, settings, self.layout)
        self.keypoint_names = _name_keypoints(metadata, self.layout)
        floor = min(_USUAL_FLOOR, settings.lowest_min_score)
        self.thresholds = YoloThresholds(floor, iou, max_det)
        if self.layout.inner_conf is not None and self.layout.inner_conf > floor:
            log.warning(
                "%s has NMS inside with conf %s: nothing below it is reported.",
                facts.file.name,
                self.layout.inner_conf,
            )

    @classmethod
    def explain_match(cls, facts: ProgramFacts) -> str | None:
        metadata = parse_metadata(facts.metadata)
        if not metadata.get("names"):
            return None
        if "task" in metadata:
            head = metadata.get("head") or "YOLO"
            return (
                f"metadata of Ultralytics {metadata.get('version', '')}: {head}, {metadata['task']}"
            )
        return "metadata of YOLOv5: names without a task" if "stride" in metadata else None

    @classmethod
    def list_tasks(cls, facts: ProgramFacts) -> list[str]:
        purpose = parse_metadata(facts.metadata).get("task", "detect")
        if purpose not in _PURPOSES:
            raise ConfigError(
                f"{facts.file.name} is made for {purpose}, which this program does not read; "
                f"expected a file for {' or '.join(_PURPOSES)}."
            )
        return list(_PURPOSES[purpose][1])

    def describe_preprocessing(self) -> dict[str, Any]:
        layout = self.layout
        return {
            "letterbox": list(layout.target_hw),
            "stride": layout.stride,
            "stretch": layout.stretches,
            **asdict(self.thresholds),
        }

    def describe(self) -> dict[str, str]:
        height, width = self.layout.target_hw
        fit = "stretched to" if self.layout.stretches else "letterboxed into"
        return {"image size": f"{fit} {height} x {width}", "rows": str(self.layout.kind)}

    def assemble(self, program: nn.Module) -> ProgramModel:
        network = YoloNetwork(program, self.layout, self.thresholds, self._choose_decoder())
        return ProgramModel(network, self._preprocess, self._compute_bucket, self.layout.max_batch)

    def _choose_decoder(self) -> ExtraDecoder | None:
        if "keypoints" in self.outputs:
            return partial(decode_keypoints, shape=self.layout.keypoint_shape)
        return None

    def _preprocess(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        return self.layout.place((height, width)).apply(image)

    def _compute_bucket(self, size_hw: tuple[int, int]) -> Hashable:
        return self.layout.place(size_hw).input_hw


def _choose_names(facts: ProgramFacts, settings: Settings, layout: YoloLayout) -> tuple[str, ...]:
    """Return the names in the file, or those of `categories` if there are as many."""
    if not settings.categories:
        return layout.names
    names = load_categories(settings.categories)
    if len(names) != len(layout.names):
        raise ConfigError(
            f"{facts.file.name} has {len(layout.names)} classes, but "
            f"categories={settings.categories} has {len(names)} names. Leave categories= out, "
            "or name each class."
        )
    return names


def _name_keypoints(metadata: Mapping[str, Any], layout: YoloLayout) -> tuple[str, ...]:
    """Return the names of the keypoints; the file's, COCO's if there are 17, or numbers."""
    if not layout.keypoint_shape:
        return ()
    count, names = layout.keypoint_shape[0], metadata.get("kpt_names")
    if isinstance(names, Mapping) and names:  # names by class
        names = next(iter(names.values()))
    if isinstance(names, list | tuple) and len(names) == count:
        return tuple(str(name) for name in names)
    if count == len(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    return tuple(f"point_{i}" for i in range(count))
