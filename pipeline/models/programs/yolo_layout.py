"""Inputs and outputs of a YOLO file, found from its metadata and shapes."""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.models.programs.signature import ProgramSignature
from pipeline.ops.letterbox import Letterbox

_DEFAULT_SIZE = 640
_INNER_CONF = 0.25  # what an export with NMS inside uses if it does not say


class RowKind(StrEnum):
    """Kind of rows that a program returns for an image."""

    ANCHORS = "one column per anchor: cxcywh in pixels, class scores"  # (4 + C, A)
    OBJECTNESS = "one row per anchor: cxcywh in pixels, objectness, class scores"  # (A, 5 + C)
    DETECTIONS = "final detections: xyxy in pixels, score, class"  # (N, 6)
    QUERIES = "one row per query: cxcywh in 0..1, class scores"  # (Q, 4 + C)
    QUERY_DETECTIONS = "one row per query: cxcywh in 0..1, score, class"  # (Q, 6)


@dataclass(frozen=True)
class YoloLayout:
    """The input and the rows of a YOLO program.

    Attributes:
        purpose: What the file was made for, as Ultralytics calls it: detect, segment ...
        names: Class names; index = class id.
        kind: What a row of the main output is.
        target_hw: The rectangle that images are fitted into.
        stride: The input's sides are multiples of this; None: the input is `target_hw`.
        stretches: Images fill the input, whatever their aspect ratio.
        max_batch: Most images of a call; None: no limit.
        min_batch: Fewest images of a call.
        inner_conf: Lowest score that a program with NMS inside reports; None: no NMS inside.
        keypoint_shape: The number of keypoints of an object, and of numbers for each; empty: none.
    """

    purpose: str
    names: tuple[str, ...]
    kind: RowKind
    target_hw: tuple[int, int]
    stride: int | None
    stretches: bool = False
    max_batch: int | None = None
    min_batch: int = 1
    inner_conf: float | None = None
    keypoint_shape: tuple[int, ...] = ()

    @classmethod
    def from_facts(
        cls,
        file: Path,
        metadata: Mapping[str, Any],
        signature: ProgramSignature | None,
        image_size: int | list[int] | None = None,
    ) -> "YoloLayout":
        """Read the layout.

        Args:
            file: The program's file, for messages.
            metadata: Result of `parse_metadata`.
            signature: Shapes of the input and the outputs; None if the format does not hold them.
            image_size: Side of the input, or (height, width); None: the file's own.

        Raises:
            ConfigError: The metadata and the shapes contradict each other or `image_size`.
        """
        names = _read_names(file, metadata)
        arguments = metadata.get("args") or {}
        stretches = metadata.get("head") == "RTDETRDecoder"
        has_nms = bool(arguments.get("nms"))
        keypoint_shape = tuple(metadata.get("kpt_shape") or ())
        n_extra = _count_extra(metadata, signature, keypoint_shape)
        kind = _find_kind(metadata, has_nms, stretches, signature, len(names), n_extra)
        _check_channels(file, kind, signature, len(names), n_extra)
        is_dynamic = _is_dynamic(arguments, signature)
        target_hw = _find_target(file, metadata, signature, is_dynamic, image_size)
        batch = int(metadata.get("batch") or 1)
        lowest, most = signature.batch if signature else (batch, None if is_dynamic else batch)
        return cls(
            purpose=str(metadata.get("task", "detect")),
            names=names,
            kind=kind,
            target_hw=target_hw,
            stride=_read_stride(metadata) if is_dynamic and not stretches else None,
            stretches=stretches,
            max_batch=most,
            min_batch=1 if is_dynamic else lowest,
            inner_conf=float(arguments.get("conf") or _INNER_CONF) if has_nms else None,
            keypoint_shape=keypoint_shape,
        )

    def place(self, image_hw: tuple[int, int]) -> Letterbox:
        """Return where an image of this size lies in the network's input."""
        if self.stretches:
            return Letterbox.stretch(image_hw, self.target_hw)
        return Letterbox.fit(image_hw, self.target_hw, self.stride)


def parse_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata with Python literals in place of their texts, as ONNX files hold them."""
    return {key: _parse_literal(value) for key, value in metadata.items()}


def _parse_literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _read_names(file: Path, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    names = metadata.get("names")
    if isinstance(names, Mapping):
        by_id = {int(class_id): str(name) for class_id, name in names.items()}
        if sorted(by_id) == list(range(len(by_id))):
            return tuple(by_id[class_id] for class_id in range(len(by_id)))
    elif isinstance(names, list | tuple) and names:
        return tuple(str(name) for name in names)
    raise ConfigError(f"{file.name}: its metadata's names are not a list of class names.")


def _find_kind(
    metadata: Mapping[str, Any],
    has_nms: bool,
    stretches: bool,
    signature: ProgramSignature | None,
    n_classes: int,
    n_extra: int | None,
) -> RowKind:
    """Return what a row is. Older files say it by their shapes only."""
    if stretches:
        last = _get_size(signature, -1)
        return RowKind.QUERY_DETECTIONS if last == 6 and n_classes != 2 else RowKind.QUERIES
    if has_nms or metadata.get("end2end") is True:
        return RowKind.DETECTIONS
    if "task" not in metadata:
        return RowKind.OBJECTNESS
    if n_extra is not None and _get_size(signature, -1) == 6 + n_extra:
        is_anchors = _get_size(signature, 1) == 4 + n_classes + n_extra
        return RowKind.ANCHORS if is_anchors else RowKind.DETECTIONS
    return RowKind.ANCHORS


def _count_extra(
    metadata: Mapping[str, Any], signature: ProgramSignature | None, keypoint_shape: tuple[int, ...]
) -> int | None:
    """Return how many numbers a row has beside box and scores; None where the file is silent."""
    if keypoint_shape:
        return math.prod(keypoint_shape)
    if metadata.get("task") != "segment":
        return 0
    shapes = signature.outputs.values() if signature else ()
    return next((shape[1] for shape in shapes if len(shape) == 4), None)


def _check_channels(
    file: Path,
    kind: RowKind,
    signature: ProgramSignature | None,
    n_classes: int,
    n_extra: int | None,
) -> None:
    axis, base = {
        RowKind.ANCHORS: (1, 4),
        RowKind.OBJECTNESS: (-1, 5),
        RowKind.QUERIES: (-1, 4),
    }.get(kind, (-1, 0))
    channels = _get_size(signature, axis)
    if base and n_extra is not None and channels not in (None, base + n_classes + n_extra):
        raise ConfigError(
            f"{file.name}: {channels} channels, but names has {n_classes}: "
            f"expected {base} + {n_classes}{f' + {n_extra}' if n_extra else ''}."
        )


def _get_size(signature: ProgramSignature | None, axis: int) -> int | None:
    shape = signature.main if signature else ()
    return shape[axis] if len(shape) > 2 else None


def _is_dynamic(arguments: Mapping[str, Any], signature: ProgramSignature | None) -> bool:
    if signature and len(signature.input) == 4:
        return signature.input[-2:] == (None, None)
    return bool(arguments.get("dynamic"))


def _find_target(
    file: Path,
    metadata: Mapping[str, Any],
    signature: ProgramSignature | None,
    is_dynamic: bool,
    image_size: int | list[int] | None,
) -> tuple[int, int]:
    own = metadata.get("imgsz") or (metadata.get("shape") or [])[-2:] or [_DEFAULT_SIZE]
    if signature and not is_dynamic and len(signature.input) == 4:
        own = [size or _DEFAULT_SIZE for size in signature.input[-2:]]
    own_hw = _read_size(own)
    if image_size is None:
        return own_hw
    given_hw, stride = _read_size(image_size), _read_stride(metadata)
    if not is_dynamic and given_hw != own_hw:
        raise ConfigError(
            f"image_size={image_size}: {file.name} takes {own_hw[0]} x {own_hw[1]} only. "
            "Export it with dynamic=True, or leave image_size out."
        )
    if any(side % stride or side <= 0 for side in given_hw):
        raise ConfigError(f"image_size={image_size}: expected multiples of {stride}.")
    return given_hw


def _read_size(given: Any) -> tuple[int, int]:
    sides = [int(side) for side in (given if isinstance(given, list | tuple) else [given])]
    return sides[0], sides[-1]


def _read_stride(metadata: Mapping[str, Any]) -> int:
    return max(32, int(metadata.get("stride") or 32))
