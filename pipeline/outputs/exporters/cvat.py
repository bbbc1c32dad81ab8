"""Convert a run to CVAT's own XML, "CVAT for images 1.1"."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import numpy as np
import pyarrow as pa

from pipeline.core.output_protocols import ExportContext
from pipeline.core.tables import group_by_image
from pipeline.outputs.file_names import (
    ImageNames,
    make_safe_name,
    replace_invalid_xml,
    warn_of_new_names,
)
from pipeline.outputs.row_values import decode_row_mask, encode_run_lengths, list_class_names
from pipeline.outputs.text_files import JsonItemWriter, open_text_file


class Cvat:
    """Exporter that writes the annotations and the labels.

    Paste the labels into the constructor ("Raw") of the CVAT task before you import annotations.

    annotations.xml:

        <image id="0" name="desk/cat.jpg" width="640" height="480">
          <box label="dog" source="auto" occluded="0" z_order="0"
               xtl="64.000" ytl="48.000" xbr="320.000" ybr="240.000">
            <attribute name="score">0.5</attribute>
          </box>
        </image>

    labels.json:

        {"name": "dog", "attributes": [{"name": "score", "mutable": false,
         "input_type": "text", "default_value": "", "values": [""]}]},

    CVAT finds images by their names without suffix. So of a.jpg and a.png the second is called
    a.png.png. The box, mask and points of an object are shapes of one group.
    A class of the whole image is a tag. Points are in the model's order, without their names.
    """

    holds = frozenset({"boxes", "masks", "keypoints", "labels", "further classes", "scores"})
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        names = list_class_names(context.predictions_schema)
        with open_text_file(context.folder / "labels.json") as file:
            labels = JsonItemWriter(file)
            file.write("[")
            for name in names:
                labels.add(_make_label(name))
            file.write("]\n")

        with (
            closing(ImageNames()) as image_names,
            (context.folder / "annotations.xml").open("wb") as file,
        ):
            xml = _XmlWriter(XMLGenerator(file, "utf-8", short_empty_elements=True))
            file.write(b'<?xml version="1.0" encoding="utf-8"?>')
            with xml.open_element("annotations"):
                xml.write_element("version", "1.1")
                with xml.open_element("meta"), xml.open_element("task"):
                    xml.write_element("name", context.run_name)
                    with xml.open_element("labels"):
                        for name in names:
                            _write_label(xml, name)
                writer = _Writer(context, xml, image_names)
                yield writer
            file.write(b"\n")
        warn_of_new_names(writer.n_renamed, "CVAT")


class _XmlWriter:
    """Writer of indented XML elements, which are not kept in memory."""

    def __init__(self, generator: XMLGenerator) -> None:
        self.generator, self.depth = generator, 0

    @contextmanager
    def open_element(self, tag: str, /, **attributes: Any) -> Iterator[None]:
        """Write an element. What is written inside the `with` block becomes its content."""
        self._begin_line()
        texts = {key: replace_invalid_xml(str(value)) for key, value in attributes.items()}
        self.generator.startElement(tag, AttributesImpl(texts))
        self.depth += 1
        yield
        self.depth -= 1
        self._begin_line()
        self.generator.endElement(tag)

    def write_element(self, tag: str, text: str, /, **attributes: str) -> None:
        """Write an element that holds a text."""
        self._begin_line()
        self.generator.startElement(tag, AttributesImpl(attributes))
        self.generator.characters(replace_invalid_xml(text))
        self.generator.endElement(tag)

    def _begin_line(self) -> None:
        self.generator.ignorableWhitespace("\n" + "  " * self.depth)


def _make_label(name: str) -> dict[str, Any]:
    score = {
        "name": "score",
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
    }
    return {"name": replace_invalid_xml(name), "attributes": [score]}


def _write_label(xml: _XmlWriter, name: str) -> None:
    with xml.open_element("label"):
        xml.write_element("name", name)
        with xml.open_element("attributes"), xml.open_element("attribute"):
            xml.write_element("name", "score")
            xml.write_element("mutable", "False")
            xml.write_element("input_type", "text")


class _Writer:
    def __init__(self, context: ExportContext, xml: _XmlWriter, names: ImageNames) -> None:
        self.context, self.xml, self.names = context, xml, names
        self.n_renamed = 0

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image, rows in group_by_image(images, predictions):
            safe_name = make_safe_name(image["key"])
            name = self.names.reserve(safe_name)
            self.n_renamed += name != safe_name
            self.context.place_image(image["key"], name)
            size = {"width": image["width"], "height": image["height"]}
            with self.xml.open_element("image", id=image["image_id"], name=name, **size):
                for group_id, row in enumerate(rows, start=1):
                    self._write_prediction(row, group_id)

    def _write_prediction(self, row: dict[str, Any], group_id: int) -> None:
        shapes = list(_list_shapes(row))
        common: dict[str, Any] = {"label": row["class_name"], "source": "auto"}
        if len(shapes) > 1:
            common["group_id"] = group_id
        for tag, attributes in shapes or [("tag", {})]:
            with self.xml.open_element(tag, **common, **attributes):
                self.xml.write_element("attribute", f"{row['score']:.6g}", name="score")


def _list_shapes(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tag and attributes of an object's box, points and non-empty mask."""
    common = {"occluded": 0, "z_order": 0}
    if "x_min" in row:
        corners = {
            "xtl": row["x_min"],
            "ytl": row["y_min"],
            "xbr": row["x_max"],
            "ybr": row["y_max"],
        }
        yield "box", common | {name: f"{value:.3f}" for name, value in corners.items()}
    if "mask_rle" in row and (mask := decode_row_mask(row)).any():
        yield "mask", common | _make_mask_attributes(mask)
    if "keypoints" in row:
        points = ";".join(f"{point['x']:.3f},{point['y']:.3f}" for point in row["keypoints"])
        yield "points", common | {"points": points}


def _make_mask_attributes(mask: np.ndarray) -> dict[str, Any]:
    """Return the mask's bounding box, and the row-major run lengths of the mask inside it.

    Args:
        mask: (H, W) bool.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cropped = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return {
        "rle": ", ".join(map(str, encode_run_lengths(cropped.ravel()))),
        "left": xs[0],
        "top": ys[0],
        "width": cropped.shape[1],
        "height": cropped.shape[0],
    }
