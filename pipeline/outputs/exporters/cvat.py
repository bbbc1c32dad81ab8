"""CVAT's own XML, "CVAT for images 1.1"."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import numpy as np
import pyarrow as pa

from pipeline.core.protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.outputs.file_names import make_safe_name, replace_invalid_xml
from pipeline.outputs.row_values import decode_row_mask, encode_run_lengths, list_classes
from pipeline.outputs.text_files import JsonItemWriter, open_text_file


class Cvat:
    """Leaves annotations.xml and labels.json, the labels to paste into the task's constructor ("Raw") before the XML is
    uploaded. Images are found by their names. An object's box, mask and points are shapes of one group; a class of the whole
    image is a tag. Each has its score as the attribute `score`. Points are in the model's order, without their names."""

    holds = frozenset({"boxes", "masks", "keypoints", "labels", "further classes", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        names = list(dict.fromkeys(list_classes(context.predictions_schema).values()))
        with open_text_file(context.folder / "labels.json") as file:
            labels = JsonItemWriter(file)
            file.write("[")
            for name in names:
                labels.add(_label(name))
            file.write("]\n")
        with (context.folder / "annotations.xml").open("wb") as file:
            xml = _Xml(XMLGenerator(file, "utf-8", short_empty_elements=True))
            file.write(b'<?xml version="1.0" encoding="utf-8"?>')
            with xml.element("annotations"):
                xml.text("version", "1.1")
                with xml.element("meta"), xml.element("task"):
                    xml.text("name", context.run_name)
                    with xml.element("labels"):
                        for name in names:
                            xml.label(name)
                yield _Writer(context, xml)
            file.write(b"\n")


def _label(name: str) -> dict[str, Any]:
    score = {
        "name": "score",
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
    }
    return {"name": replace_invalid_xml(name), "attributes": [score]}


class _Xml:
    def __init__(self, generator: XMLGenerator) -> None:
        self.generator, self.depth = generator, 0

    @contextmanager
    def element(self, tag: str, /, **attributes: Any) -> Iterator[None]:
        self._new_line()
        self.generator.startElement(
            tag,
            AttributesImpl(
                {key: replace_invalid_xml(str(value)) for key, value in attributes.items()}
            ),
        )
        self.depth += 1
        yield
        self.depth -= 1
        self._new_line()
        self.generator.endElement(tag)

    def text(self, tag: str, text: str, /, **attributes: str) -> None:
        self._new_line()
        self.generator.startElement(tag, AttributesImpl(attributes))
        self.generator.characters(replace_invalid_xml(text))
        self.generator.endElement(tag)

    def label(self, name: str) -> None:
        with self.element("label"):
            self.text("name", name)
            with self.element("attributes"), self.element("attribute"):
                for field, value in (
                    ("name", "score"),
                    ("mutable", "False"),
                    ("input_type", "text"),
                ):
                    self.text(field, value)

    def _new_line(self) -> None:
        self.generator.ignorableWhitespace("\n" + "  " * self.depth)


class _Writer:
    def __init__(self, context: ExportContext, xml: _Xml) -> None:
        self.context, self.xml = context, xml

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            name = make_safe_name(image["key"])
            self.context.place_image(image["key"], name)
            size = {"width": image["width"], "height": image["height"]}
            with self.xml.element("image", id=image["image_id"], name=name, **size):
                for group, row in enumerate(rows, start=1):
                    shapes = list(_shapes(row))
                    common = {"label": row["class_name"], "source": "auto"}
                    common |= {"group_id": group} if len(shapes) > 1 else {}
                    for shape, values in shapes or [("tag", {})]:
                        with self.xml.element(shape, **common, **values):
                            self.xml.text("attribute", f"{row['score']:.6g}", name="score")


def _shapes(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(element, its attributes) of everything that says where the object is. A mask without a pixel is none."""
    seen = {"occluded": 0, "z_order": 0}
    if "x_min" in row:
        corners = {
            "xtl": row["x_min"],
            "ytl": row["y_min"],
            "xbr": row["x_max"],
            "ybr": row["y_max"],
        }
        yield "box", seen | {name: f"{value:.3f}" for name, value in corners.items()}
    if "mask_rle" in row and (mask := decode_row_mask(row)).any():
        yield "mask", seen | _mask(mask)
    if "keypoints" in row:
        yield (
            "points",
            seen
            | {"points": ";".join(f"{one['x']:.3f},{one['y']:.3f}" for one in row["keypoints"])},
        )


def _mask(mask: np.ndarray) -> dict[str, Any]:
    """CVAT counts along the rows of the mask's own box, (H, W) bool."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    rle = ", ".join(map(str, encode_run_lengths(part.ravel())))
    return {
        "rle": rle,
        "left": xs[0],
        "top": ys[0],
        "width": part.shape[1],
        "height": part.shape[0],
    }
