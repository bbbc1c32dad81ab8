"""The words by which a task declares what its rows hold and how other code handles them.

A task only names a role; the code of the role is in other rooms. So a new task needs no edit
in them.
"""

from enum import StrEnum

import pyarrow as pa

from pipeline.core.schema import BOX_COLUMNS


class Content(StrEnum):
    """One kind of information in prediction rows. It always has the same columns.

    Every task has the columns of SCORES and LABELS. A task declares LABELS only if a row says
    something about the whole image. It declares at least one content besides SCORES, or else
    `export` finds nothing to export. If rows have LABELS, `drift` uses only
    the first row of each image.
    """

    SCORES = "scores"
    LABELS = "labels"  # a row is a class of the whole image or clip, the best first
    RANKS = "further classes"  # the second-best class and so on have rows too
    BOXES = "boxes"  # a row is an object in the image
    MASKS = "masks"  # COCO's run lengths, in the frame of the upright original
    KEYPOINTS = "keypoints"
    EMBEDDINGS = "embeddings"
    AREAS = "areas"  # how many pixels belong to a class, and their share of the image

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of `predictions` that hold this content."""
        return _COLUMNS[self]

    def is_in(self, schema: pa.Schema) -> bool:
        """Return whether a schema has all columns of this content."""
        return set(self.columns) <= set(schema.names)


_COLUMNS = {
    Content.SCORES: ("score",),
    Content.LABELS: ("class_id", "class_name"),
    Content.RANKS: ("rank",),
    Content.BOXES: BOX_COLUMNS,
    Content.MASKS: ("mask_rle", "mask_height", "mask_width"),
    Content.KEYPOINTS: ("keypoints",),
    Content.EMBEDDINGS: ("embedding",),
    Content.AREAS: ("pixels", "share"),
}


class ViewMerging(StrEnum):
    """Method that merges a model's outputs for several views (tiles, mirror images) of an image."""

    BOXES = "boxes"  # boxes of one object are joined, by suppression (nms) or by union (nmm)
    SHAPES = "shapes"  # as BOXES, but without nmm, because masks and keypoints cannot be joined
    MEAN = "mean"  # outputs for the image and its mirror image are averaged; no tiles
    NONE = "none"  # the model sees the whole image only


class RowComparison(StrEnum):
    """Method by which `compare` matches the rows of two runs."""

    BOXES = "boxes"  # boxes that overlap, matched one to one
    REGIONS = "regions"  # masks of the same class; an image has at most one mask of a class
    LABELS = "labels"  # the first row of an image, and its embedding if both runs have one
    NONE = "none"  # `compare` refuses such runs

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `predictions` that it needs."""
        return _COMPARED_COLUMNS[self]


_COMPARED_COLUMNS = {
    RowComparison.BOXES: _COLUMNS[Content.BOXES],
    RowComparison.REGIONS: _COLUMNS[Content.MASKS],
    RowComparison.LABELS: _COLUMNS[Content.LABELS],
    RowComparison.NONE: (),
}


class EvaluationMethod(StrEnum):
    """Method that measures rows against annotations."""

    DETECTION = "detection"  # boxes, masks, keypoints; truth is a file in COCO's format
    CLASSIFICATION = "classification"  # best classes; truth is a table or class folders
    SEGMENTATION = "segmentation"  # classes of pixels; truth is a folder of label maps

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `predictions` that it needs."""
        return _EVALUATED_COLUMNS[self]


_EVALUATED_COLUMNS = {
    EvaluationMethod.DETECTION: _COLUMNS[Content.BOXES],  # the confusion matrix pairs boxes
    EvaluationMethod.CLASSIFICATION: _COLUMNS[Content.LABELS],
    EvaluationMethod.SEGMENTATION: _COLUMNS[Content.MASKS],
}
