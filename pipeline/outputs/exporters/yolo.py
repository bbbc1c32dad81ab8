"""Convert a run to the layout of Ultralytics' YOLO: one text file for each image."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any, TextIO

import pyarrow as pa
import yaml

from pipeline.core.errors import ConfigError
from pipeline.core.output_protocols import ExportContext
from pipeline.core.schema import read_name_list
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.outputs.file_names import reserve_label_file, warn_of_new_names
from pipeline.outputs.mask_outlines import trace_outline
from pipeline.outputs.row_values import clip_box, decode_row_mask, list_classes
from pipeline.outputs.text_files import open_text_file

log = logging.getLogger(__name__)
_VALIDATION_SHARE = 10  # one image in ten
_SIDES = (("left", "right"), ("Left", "Right"))


class Yolo:
    """Exporter that writes the class names, and one label file for each image.

    The file of an image without predictions is empty.

    data.yaml:

        train: train.txt
        val: val.txt
        names:
          0: dog
          1: cat

    train.txt:

        ./images/desk/cat.jpg

    labels/desk/cat.txt, for images/desk/cat.jpg:

        0 0.30000000 0.30000000 0.40000000 0.40000000

    A line holds the class, then centre x, centre y, width and height as fractions of the image,
    then x, y, v of each keypoint. v is 2 for a point that is probably visible (score above 0), else
    1. An object with a mask has x, y of each corner of a polygon instead. Parts and holes of a mask
    are joined by seams that enclose nothing. The class is the index in `names`, not the model's
    class id. Boxes and points are clipped to the image, because YOLO rejects coordinates outside
    it.

    One image in ten is for validation. Its key decides, so that it is the same in every export.

    YOLO finds an image's labels by its name without the suffix, and by the last folder `images` in
    its path. So where the names of two inputs differ only by the suffix, the suffix stays in the
    label file's name (a.png.txt for images/a.png.png). A folder `images` in a key becomes
    `images_`.
    """

    holds = frozenset({"boxes", "masks", "keypoints"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        (context.folder / "labels").mkdir()
        with open_text_file(context.folder / "data.yaml") as file:
            data = _make_data(context.predictions_schema)
            yaml.safe_dump(data, file, sort_keys=False, allow_unicode=True)
        with (
            open_text_file(context.folder / "train.txt") as training,
            open_text_file(context.folder / "val.txt") as validation,
        ):
            split = _Split(training, validation)
            writer = _Writer(context, split)
            yield writer
            split.finish()
        warn_of_new_names(writer.n_renamed, "YOLO")
        if writer.n_empty:
            log.warning("%s masks have no pixels; they are left out.", f"{writer.n_empty:,}")


class _Split:
    """Divides the images into lists for training and validation, each with an image if possible."""

    def __init__(self, training: TextIO, validation: TextIO) -> None:
        self.files = {False: training, True: validation}
        self.counts = {False: 0, True: 0}
        # The last image and whether it is for validation. Not written yet: see `finish`.
        self.last: tuple[str, bool] | None = None

    def add(self, key: str, name: str) -> None:
        """Add an image. Its key decides the list."""
        if self.last:
            self._write(*self.last)
        digest = blake2b(key.encode(), digest_size=8).digest()
        self.last = name, int.from_bytes(digest, "big") % _VALIDATION_SHARE == 0

    def finish(self) -> None:
        """Write the last image, to a list that has no image yet if there is one."""
        if self.last:
            name, in_validation = self.last
            in_validation = self.counts[False] > 0 and (in_validation or not self.counts[True])
            self._write(name, in_validation)

    def _write(self, name: str, in_validation: bool) -> None:
        self.files[in_validation].write(f"./images/{name}\n")
        self.counts[in_validation] += 1


class _Writer:
    def __init__(self, context: ExportContext, split: _Split) -> None:
        self.context, self.split = context, split
        self.has_masks = Content.MASKS in context.contents
        class_ids = list_classes(context.predictions_schema)
        self.index_of_class = {class_id: i for i, class_id in enumerate(class_ids)}
        self.n_renamed = self.n_empty = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        folder = self.context.folder / "labels"
        for image, rows in group_by_image(images, predictions):
            key = image["key"]
            name, labels = reserve_label_file(folder, _rename_image_folders(key), ".txt")
            image_name = name + PurePosixPath(key).suffix
            self.context.place_image(key, image_name)
            self.split.add(key, image_name)
            self.n_renamed += image_name != key
            with open_text_file(labels) as file:
                file.writelines(self._format_lines(image, rows))

    def _format_lines(self, image: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
        for row in rows:
            values = _format_polygon(row, image) if self.has_masks else _format_box(row, image)
            if values:
                yield f"{self._find_index(row)} {values}\n"
            else:
                self.n_empty += 1

    def _find_index(self, row: dict[str, Any]) -> int:
        """Return the index of a row's class in `names`."""
        if row["class_id"] not in self.index_of_class:
            raise ConfigError(
                f"to=yolo: {row['key']} has a prediction of class id {row['class_id']}, "
                f"{row['class_name']!r}, which stands for no class. A trained model has none of "
                "these; to=jsonl holds them."
            )
        return self.index_of_class[row["class_id"]]


def _rename_image_folders(key: str) -> str:
    *folders, name = key.split("/")
    return "/".join([*("images_" if folder == "images" else folder for folder in folders), name])


def _format_polygon(row: dict[str, Any], image: dict[str, Any]) -> str:
    """Return x, y of each corner as fractions; empty for a mask without pixels."""
    corners = trace_outline(decode_row_mask(row)) / (image["width"], image["height"])
    return " ".join(f"{value:.8f}" for value in corners.ravel().tolist())


def _format_box(row: dict[str, Any], image: dict[str, Any]) -> str:
    width, height = image["width"], image["height"]
    x_min, y_min, x_max, y_max = clip_box(row, image)
    box = (
        (x_min + x_max) / 2 / width,
        (y_min + y_max) / 2 / height,
        (x_max - x_min) / width,
        (y_max - y_min) / height,
    )
    values = [f"{value:.8f}" for value in box]  # exact to 1/1000 pixel at a side of 100,000 pixels
    for point in row.get("keypoints", ()):
        x, y = min(max(point["x"], 0.0), width), min(max(point["y"], 0.0), height)
        values += [f"{x / width:.8f}", f"{y / height:.8f}", "2" if point["score"] > 0 else "1"]
    return " ".join(values)


def _make_data(schema: pa.Schema) -> dict[str, Any]:
    """Return the content of data.yaml. Without `path`, its paths are relative to its folder."""
    points = read_name_list(schema, "keypoint_names")
    data: dict[str, Any] = {"train": "train.txt", "val": "val.txt"}
    if points:
        data |= {"kpt_shape": [len(points), 3], "flip_idx": _find_mirrored_points(points)}
    return data | {"names": dict(enumerate(list_classes(schema).values()))}


def _find_mirrored_points(names: Sequence[str]) -> list[int]:
    """Return the index of each point's mirrored point, for example right_eye for left_eye."""
    indices = []
    for i, name in enumerate(names):
        mirrored = _swap_sides(name)
        indices.append(names.index(mirrored) if mirrored in names else i)
    return indices


def _swap_sides(name: str) -> str:
    for left, right in _SIDES:
        if left in name:
            return name.replace(left, right)
        if right in name:
            return name.replace(right, left)
    return name
