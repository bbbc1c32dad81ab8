"""Find the places at which boxes recur, for each camera and class of a run."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.tables import select_usable
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.results.repeats.cluster import cluster_boxes
from pipeline.runs.finished_run import FinishedRun

EXAMPLES = 6  # number of example boxes for each place


@dataclass(frozen=True)
class RunBoxes:
    """All boxes of a run, in the order of its rows."""

    cameras: Counter[str]  # folder or video -> number of usable images; in the order of `camera`
    camera: np.ndarray  # (N,) position in `cameras`
    classes: np.ndarray  # (N,) ids
    images: np.ndarray  # (N,) ids
    scores: np.ndarray  # (N,)
    # (N, 4) xyxy as fractions of the image's width and height, because a camera may change its
    # resolution.
    boxes: np.ndarray


@dataclass(frozen=True)
class RepeatedPlace:
    """A place in a camera's view that has boxes of one class in many images."""

    camera: str
    images_of_camera: int
    class_id: int
    box: np.ndarray  # (4,) xyxy as fractions of the image's width and height
    rows: np.ndarray  # row numbers in the run's predictions, ascending
    images: int  # number of images with a box at the place
    mean_score: float
    max_score: float
    examples: np.ndarray  # some of `rows`, spread evenly from the first image to the last


def read_run_boxes(run: FinishedRun) -> RunBoxes:
    """Read all boxes of a run. Each box takes 48 bytes of memory."""
    cameras: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    columns: list[tuple[np.ndarray, ...]] = []
    for shard_id in run.shard_ids:
        images = select_usable(
            run.read_table("images", shard_id, ["image_id", "key", "status", "width", "height"])
        )
        found = run.read_table(
            "predictions", shard_id, ["image_id", "class_id", "score", *BOX_COLUMNS]
        )
        folders = [key.rpartition("/")[0] for key in images["key"].to_pylist()]
        cameras.update(folders)
        number = np.array(
            [numbers.setdefault(folder, len(numbers)) for folder in folders], dtype=np.int32
        )
        ids = found["image_id"].to_numpy()
        at = np.searchsorted(images["image_id"].to_numpy(), ids)
        size = np.stack([images[name].to_numpy() for name in ("width", "height") * 2], axis=1)[at]
        shard_columns = (
            number[at],
            found["class_id"].to_numpy(),
            ids,
            found["score"].to_numpy(),
            read_boxes_xyxy(found) / size,
        )
        columns.append(shard_columns)
    return RunBoxes(
        Counter({name: cameras[name] for name in numbers}),
        *(np.concatenate(column) for column in zip(*columns, strict=True)),
    )


def find_repeated_places(
    rows: RunBoxes, least_iou: float, least_images: int
) -> list[RepeatedPlace]:
    """Find the places that have boxes in at least `least_images` images, most images first."""
    names = list(rows.cameras)
    found = []
    for members in _groups(rows):
        if len(members) < least_images:
            continue
        camera = names[rows.camera[members[0]]]
        for place in cluster_boxes(
            rows.boxes[members], rows.images[members], least_iou, least_images
        ):
            here = members[place.members]
            _, first = np.unique(rows.images[here], return_index=True)
            spread = np.unique(np.linspace(0, len(first) - 1, EXAMPLES).round().astype(int))
            found.append(
                RepeatedPlace(
                    camera=camera,
                    images_of_camera=rows.cameras[camera],
                    class_id=int(rows.classes[here[0]]),
                    box=place.box_xyxy,
                    rows=here,
                    images=len(first),
                    mean_score=float(rows.scores[here].mean()),
                    max_score=float(rows.scores[here].max()),
                    examples=here[first[spread]],
                )
            )
    return sorted(
        found, key=lambda place: (-place.images, place.camera, place.class_id, place.rows[0])
    )


def _groups(rows: RunBoxes) -> Iterator[np.ndarray]:
    """Yield the row numbers of each combination of camera and class, in ascending order."""
    order = np.lexsort((rows.classes, rows.camera))
    ends = (np.diff(rows.camera[order]) != 0) | (np.diff(rows.classes[order]) != 0)
    yield from np.split(order, np.flatnonzero(ends) + 1) if len(order) else ()
