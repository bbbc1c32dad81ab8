"""Pascal VOC: an XML file for each image."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TextIO
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import pyarrow as pa

from pipeline.core.protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.outputs.file_names import replace_invalid_xml, reserve_label_file
from pipeline.outputs.text_files import open_text_file


class Voc:
    """Leaves Annotations/<the input's name>.xml, ImageSets/Main/trainval.txt with these names, and images in JPEGImages/.

    VOC counts pixels from 1 and a box's last pixel belongs to it, so xmin and ymin are ours plus 1, xmax and ymax ours as
    they are; decimals are kept. A side shorter than a pixel becomes one, because VOC has no such box. Inputs that differ
    only by extension keep theirs in the name (a.png.xml, for a.png.png)."""

    holds = frozenset({"boxes"})
    image_folder = "JPEGImages"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        sets = context.folder / "ImageSets" / "Main"
        sets.mkdir(parents=True)
        (context.folder / "Annotations").mkdir()
        with open_text_file(sets / "trainval.txt") as names:
            yield _Writer(context, names)


class _Writer:
    def __init__(self, context: ExportContext, names: TextIO) -> None:
        self.context, self.names = context, names

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            name, file = reserve_label_file(
                self.context.folder / "Annotations", image["key"], ".xml"
            )
            file_name = name + PurePosixPath(image["key"]).suffix
            self.context.place_image(image["key"], file_name)
            self.names.write(name + "\n")
            _write_annotation(file, file_name, image, rows)


def _write_annotation(
    file: Path, file_name: str, image: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    root = Element("annotation")
    _add(root, folder="JPEGImages", filename=file_name)
    _add(SubElement(root, "size"), width=image["width"], height=image["height"], depth=3)
    _add(root, segmented=0)
    for row in rows:
        found = SubElement(root, "object")
        _add(found, name=row["class_name"], pose="Unspecified", truncated=0, difficult=0)
        _add(
            SubElement(found, "bndbox"),
            **{name: f"{value:.4f}" for name, value in _corners(row).items()},
        )
    indent(root)
    with open_text_file(file) as text:
        ElementTree(root).write(text, encoding="unicode")
        text.write("\n")


def _corners(row: dict[str, Any]) -> dict[str, float]:
    x, y = row["x_min"] + 1, row["y_min"] + 1
    return {"xmin": x, "ymin": y, "xmax": max(x, row["x_max"]), "ymax": max(y, row["y_max"])}


def _add(parent: Element, **texts: Any) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = replace_invalid_xml(str(text))
