"""Settings of the inputs, of the predictions to keep, and of tiles."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.declare import nested_settings, setting
from pipeline.config.validators import (
    allow_none,
    check_area,
    check_aspect,
    check_bands,
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    check_levels,
    check_min_score,
    check_names,
    check_optional_fraction,
    check_optional_integer,
    check_optional_text,
    check_utf8_path,
)

# Measured with a TorchScript detector that makes the shorter side 320 pixels: 200 to 1 takes 0.5 GB
# and two seconds. Panoramas and line scans are up to about 100 to 1.
DEFAULT_MAX_ASPECT = 200.0


@dataclass(frozen=True)
class InputSettings:
    """The images, and where results go."""

    input: str | None = setting(
        check_optional_text,
        None,
        "a folder, a file, or an address (s3://bucket/folder); null: the sample scenes in "
        "data/samples",
    )
    output: str = setting(
        check_utf8_path, "outputs", "the folder or address in which run folders are made"
    )
    limit: int | None = setting(check_optional_integer(1), None, "only the first N images")
    max_pixels: int = setting(
        check_integer(1),
        100_000_000,
        "most pixels of an image that is decoded; the status of a larger image is too_large",
    )
    levels: str | tuple[float, float] = setting(
        check_levels,
        "full",
        "images of more than 8 bits: the values that become black and white: full: all that the "
        "format can hold; auto: the range of each image; or [low,high], for example [0,4095]",
    )
    bands: tuple[int, ...] | None = setting(
        check_bands,
        None,
        "TIFF: the channels, counted from 1, to show as red, green and blue, for example [3,2,1], "
        "or as grey, [4]; null: those that the file names",
    )
    max_aspect: float = setting(
        check_aspect,
        DEFAULT_MAX_ASPECT,
        "most times that the longer side of an image may be the shorter one; the status of a "
        "thinner image is too_large, because models that enlarge the shorter side would fill the "
        "memory",
    )
    retry: str | None = setting(
        allow_none(check_choice("errors")),
        None,
        "errors: compute again only the images whose status is an error",
    )
    skip_duplicates: str | None = setting(
        allow_none(check_choice("bytes", "near")),
        None,
        "bytes: annotate only the first of several files with equal bytes; near: also only the "
        "first of images that look alike",
    )
    changed: str = setting(
        check_choice("refuse", "accept", "trust"),
        "refuse",
        "if inputs changed since the run began, refuse stops the run; accept continues and keeps "
        "the rows already written; trust uses the plan as it is, without listing the inputs",
    )


@dataclass(frozen=True)
class FilterSettings:
    """Filters of predictions."""

    classes: tuple[str, ...] | None = setting(
        check_names, None, "only these class names, for example [dog, cat]"
    )
    exclude: tuple[str, ...] | None = setting(check_names, None, "all but these class names")
    # None is replaced by the task's default. After that a mapping always has the key "default".
    min_score: float | Mapping[str, float] = setting(
        check_min_score,
        None,
        "lowest score: one number, or one for each class: {default: 0.5, person: 0.8}; null: the "
        "task's default",
    )
    min_area: float | None = setting(check_area, None, "smallest area of a box, in square pixels")
    nms_iou: float | None = setting(
        check_optional_fraction,
        None,
        "drop a box if its IoU with a box of any class and a higher score is above this",
    )
    max_detections: int | None = setting(
        check_optional_integer(1), None, "at most this many boxes for each image"
    )
    top_k: int | None = setting(
        check_optional_integer(1),
        None,
        "classify, video: this many classes for each image or clip; null: the task's default",
    )


@dataclass(frozen=True)
class TileSettings:
    """Overlapping tiles of a large image, for small objects."""

    size: int | None = setting(
        check_optional_integer(32),
        None,
        "detect, instances, keypoints: also process square tiles of each larger image; the side of "
        "a tile in pixels of the upright original, for example 640; null: no tiles",
    )
    overlap: float = setting(
        check_fraction(0.9),
        0.2,
        "least fraction of its side that a tile shares with the next one; the shared strip should "
        "be wider than a small object",
    )
    merge: str = setting(
        check_choice("nms", "nmm"),
        "nms",
        "nms: keep an object's best box; nmm: join the boxes of an object that lies on several "
        "tiles (only for tasks without masks and keypoints)",
    )
    iou: float = setting(
        check_fraction(1.0),
        0.5,
        "boxes of one class from different tiles that overlap by more than this are one object",
    )


@dataclass(frozen=True)
class ViewSettings:
    """Tiles and mirror images (each tile and each mirror image is one more model input)."""

    tiles: TileSettings = nested_settings(TileSettings, "size: 640")
    flip: bool = setting(
        check_flag,
        False,
        "also process the mirror image; boxes are merged as for tiles, probabilities are averaged",
    )
