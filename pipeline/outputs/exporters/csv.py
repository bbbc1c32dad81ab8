"""Comma-separated values, for spreadsheets and everything else that reads tables."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import CSVWriter

from pipeline.core.protocols import ExportContext
from pipeline.core.schema import make_images_schema, read_name_list
from pipeline.outputs.row_values import escape_formulas

_POINT = ("x", "y", "visibility", "score")


class Csv:
    """Leaves images.csv and predictions.csv with the columns of the run's tables, failed images included. Each keypoint has
    four columns of its own (nose_x, nose_y, ...); masks are COCO's compressed counts.

    A text that begins with = + - @ or a tab gets ' before it, so that no spreadsheet takes a file's name for a formula.
    """

    holds = frozenset(
        {"boxes", "masks", "keypoints", "labels", "further classes", "scores", "failures"}
    )
    image_folder = "images"

    @contextmanager
    def open(self, context: ExportContext) -> Iterator["_Writer"]:
        names, schema = (
            read_name_list(context.predictions_schema, "keypoint_names"),
            context.predictions_schema,
        )
        empty = (make_images_schema(schema).empty_table(), schema.empty_table())
        with (
            CSVWriter(context.folder / "images.csv", _plain(empty[0], names).schema) as images,
            CSVWriter(
                context.folder / "predictions.csv", _plain(empty[1], names).schema
            ) as predictions,
        ):
            yield _Writer(context, images, predictions, names)


class _Writer:
    def __init__(
        self,
        context: ExportContext,
        images: CSVWriter,
        predictions: CSVWriter,
        names: tuple[str, ...],
    ) -> None:
        self.context, self.images, self.predictions, self.names = (
            context,
            images,
            predictions,
            names,
        )

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        self.images.write_table(_plain(images, self.names))
        self.predictions.write_table(_plain(predictions, self.names))
        for key in images.filter(pc.is_valid(images["n_predictions"]))["key"].to_pylist():
            self.context.place_image(key, key)


def _plain(table: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """With columns of numbers and texts only."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
            columns[name] = escape_formulas(column.cast(pa.string()))
        elif name == "keypoints":
            columns |= _points(column, names)
        elif not pa.types.is_nested(column.type):
            columns[name] = column
    return pa.table(columns)


def _points(column: pa.ChunkedArray, names: tuple[str, ...]) -> dict[str, pa.ChunkedArray]:
    """Every row has a point for each name."""
    return {
        f"{name}_{part}": pc.struct_field(pc.list_element(column, i), part)
        for i, name in enumerate(names)
        for part in _POINT
    }
