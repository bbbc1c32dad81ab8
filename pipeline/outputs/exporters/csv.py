"""Convert a run to comma-separated values, for spreadsheets and other programs that read tables."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import CSVWriter

from pipeline.core.output_protocols import ExportContext
from pipeline.core.schema import make_images_schema, read_name_list
from pipeline.outputs.row_values import escape_formulas

_POINT_FIELDS = ("x", "y", "visibility", "score")


class Csv:
    """Exporter that writes the two tables of a run, failed images included.

    images.csv:

        "image_id","key","width","height","status","error","n_predictions"
        0,"desk/cat.jpg",640,480,"ok",,1

    predictions.csv:

        "image_id","key","class_id","class_name","score","x_min","y_min","x_max","y_max"
        0,"desk/cat.jpg",1,"dog",0.5,64,48,320,240

    Each keypoint has four columns (nose_x, nose_y, nose_visibility, nose_score). Masks are COCO's
    compressed counts. A ' is put before a text that begins with = + - @ or a tab, because
    spreadsheets would treat it as a formula.
    """

    holds = frozenset(
        {"boxes", "masks", "keypoints", "labels", "further classes", "scores", "failures"}
    )
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        predictions_schema = context.predictions_schema
        point_names = read_name_list(predictions_schema, "keypoint_names")
        images_schema = make_images_schema(predictions_schema)
        columns = [
            _flatten(schema.empty_table(), point_names).schema
            for schema in (images_schema, predictions_schema)
        ]
        with (
            CSVWriter(context.folder / "images.csv", columns[0]) as images,
            CSVWriter(context.folder / "predictions.csv", columns[1]) as predictions,
        ):
            yield _Writer(context, images, predictions, point_names)


class _Writer:
    def __init__(
        self,
        context: ExportContext,
        images: CSVWriter,
        predictions: CSVWriter,
        point_names: tuple[str, ...],
    ) -> None:
        self.context, self.point_names = context, point_names
        self.images, self.predictions = images, predictions

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        self.images.write_table(_flatten(images, self.point_names))
        self.predictions.write_table(_flatten(predictions, self.point_names))
        for key in images.filter(pc.is_valid(images["n_predictions"]))["key"].to_pylist():
            self.context.place_image(key, key)


def _flatten(table: pa.Table, point_names: tuple[str, ...]) -> pa.Table:
    """Return the table with columns of numbers and texts only."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
            columns[name] = escape_formulas(column.cast(pa.string()))
        elif name == "keypoints":
            columns |= _split_keypoints(column, point_names)
        elif not pa.types.is_nested(column.type):
            columns[name] = column
    return pa.table(columns)


def _split_keypoints(
    column: pa.ChunkedArray, point_names: tuple[str, ...]
) -> dict[str, pa.ChunkedArray]:
    """Return one column for each field of each point. Every row must have all points."""
    return {
        f"{name}_{field}": pc.struct_field(pc.list_element(column, i), field)
        for i, name in enumerate(point_names)
        for field in _POINT_FIELDS
    }
