"""Convert a run to Pascal VOC: one XML file for each image."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TextIO
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import pyarrow as pa

from pipeline.core.output_protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.outputs.file_names import (
    replace_invalid_xml,
    reserve_label_file,
    warn_of_new_names,
)
from pipeline.outputs.row_values import list_class_names
from pipeline.outputs.text_files import open_text_file

log = logging.getLogger(__name__)


class Voc:
    """Exporter that writes one file for each image, and a list of the images.

    The images themselves belong into the folder JPEGImages/; they are not copied.

    Annotations/desk/cat.xml:

        <object>
          <name>dog</name>
          <pose>Unspecified</pose>
          <truncated>0</truncated>
          <difficult>0</difficult>
          <bndbox>
            <xmin>65.0000</xmin>
            <ymin>49.0000</ymin>
            <xmax>320.0000</xmax>
            <ymax>240.0000</ymax>
          </bndbox>
        </object>

    ImageSets/Main/trainval.txt:

        desk/cat

    labelmap.txt, by which CVAT and datumaro know the classes:

        # label:color_rgb:parts:actions
        background:::
        dog:::

    VOC counts pixels from 1, and a box's last pixel belongs to the box. So xmin and ymin are x_min
    and y_min plus 1, and xmax and ymax are x_max and y_max; decimals are kept. A side shorter than
    a pixel becomes one pixel, because VOC has no shorter box. Where the names of two inputs
    differ only by the suffix, the suffix stays in the file's name (a.png.xml for a.png.png).
    """

    holds = frozenset({"boxes"})
    image_folder = "JPEGImages"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        sets = context.folder / "ImageSets" / "Main"
        sets.mkdir(parents=True)
        (context.folder / "Annotations").mkdir()
        classes = list_class_names(context.predictions_schema)
        _write_label_map(context.folder / "labelmap.txt", classes)
        with open_text_file(sets / "trainval.txt") as names:
            writer = _Writer(context, names)
            yield writer
        warn_of_new_names(writer.n_renamed, "VOC")


def _write_label_map(path: Path, classes: list[str]) -> None:
    """Write CVAT's list of the classes. It has no place for some names, which are warned of."""
    unfit = [name for name in classes if _is_unfit_for_label_map(name)]
    with open_text_file(path) as file:
        file.write("# label:color_rgb:parts:actions\n")
        for name in dict.fromkeys(["background", *classes]):
            if name not in unfit:
                file.write(f"{replace_invalid_xml(name)}:::\n")
    if unfit:
        log.warning(
            "labelmap.txt cannot hold the class names %s, so CVAT and datumaro do not read their "
            "boxes. Use to=cvat or to=coco.",
            ", ".join(map(repr, unfit)),
        )


def _is_unfit_for_label_map(name: str) -> bool:
    """Return whether the line of a name would be read as something else: `a:b`, `#a`, ` a`."""
    return (
        ":" in name or name.startswith("#") or name != name.strip() or len(name.splitlines()) != 1
    )


class _Writer:
    def __init__(self, context: ExportContext, names: TextIO) -> None:
        self.context, self.names = context, names
        self.n_renamed = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        folder = self.context.folder / "Annotations"
        for image, rows in group_by_image(images, predictions):
            name, file = reserve_label_file(folder, image["key"], ".xml")
            file_name = name + PurePosixPath(image["key"]).suffix
            self.context.place_image(image["key"], file_name)
            self.n_renamed += file_name != image["key"]
            self.names.write(name + "\n")
            _write_annotation(file, file_name, image, rows)


def _write_annotation(
    file: Path, file_name: str, image: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    root = Element("annotation")
    _add_texts(root, folder="JPEGImages", filename=file_name)
    size = {"width": image["width"], "height": image["height"], "depth": 3}
    _add_texts(SubElement(root, "size"), **size)
    _add_texts(root, segmented=0)
    for row in rows:
        element = SubElement(root, "object")
        _add_texts(element, name=row["class_name"], pose="Unspecified", truncated=0, difficult=0)
        corners = {name: f"{value:.4f}" for name, value in _convert_corners(row).items()}
        _add_texts(SubElement(element, "bndbox"), **corners)
    indent(root)
    with open_text_file(file) as text:
        ElementTree(root).write(text, encoding="unicode")
        text.write("\n")


def _convert_corners(row: dict[str, Any]) -> dict[str, float]:
    x, y = row["x_min"] + 1, row["y_min"] + 1
    return {"xmin": x, "ymin": y, "xmax": max(x, row["x_max"]), "ymax": max(y, row["y_max"])}


def _add_texts(parent: Element, **texts: Any) -> None:
    """Add one child element for each text."""
    for name, text in texts.items():
        SubElement(parent, name).text = replace_invalid_xml(str(text))
