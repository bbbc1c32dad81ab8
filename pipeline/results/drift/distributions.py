"""Measure the distributions of a finished run's images and detections."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError
from pipeline.core.tables import mark_duplicates, select_usable
from pipeline.core.task_roles import Content
from pipeline.core.types import InputError
from pipeline.results.input_reader import InputReader, iterate_entries
from pipeline.runs.finished_run import FinishedRun

log = logging.getLogger(__name__)
STATUS, CLASS, BRIGHTNESS = "image status", "class", "brightness"
_LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue, from ITU-R BT.601
_LOOKED_AT = 1 << 16  # pixels of an image that are sampled for its brightness


@dataclass(frozen=True)
class Distributions:
    """Distributions of the images and detections of one run."""

    shares: dict[str, Counter[str]]  # name of the distribution -> how often each value occurs
    # Name -> (N,) the values of all images or detections. Brightness is measured on a sample.
    numbers: dict[str, np.ndarray]


def measure_distributions(run: FinishedRun, brightness: int) -> Distributions:
    """Measure the distributions of a run's usable images and their rows.

    If the rows are classes of whole images, only the best class of each image is counted.

    Args:
        brightness: the number of images to read again to measure their brightness; 0 for none. If
            the input no longer exists, a warning is logged and no brightness is measured.
    """
    shares: dict[str, Counter[str]] = {STATUS: Counter(), CLASS: Counter()}
    numbers: dict[str, list[np.ndarray]] = defaultdict(list)
    image_ids = []
    for shard_id in run.shard_ids:
        every = run.read_table(
            "images", shard_id, ["image_id", "status", "width", "height", "n_predictions"]
        )
        # A duplicate says nothing new about what the images look like.
        seen = every.filter(pc.invert(mark_duplicates(every)))
        images = select_usable(seen)
        found = _found(run, shard_id)
        shares[STATUS].update(_counts(seen["status"]))
        shares[CLASS].update(_counts(found["class_name"]))
        for name, values in _numbers(images, found, _has_labels(run)).items():
            numbers[name].append(values)
        image_ids.append(images["image_id"].to_numpy())
    samples = {name: np.concatenate(values) for name, values in numbers.items()}
    looked_at = (
        {BRIGHTNESS: _brightness(run, np.concatenate(image_ids), brightness)} if brightness else {}
    )
    return Distributions(shares, samples | looked_at)


def _found(run: FinishedRun, shard_id: int) -> pa.Table:
    """Read a shard's predictions. Of ranked classes of a whole image, keep only the best."""
    rows = run.read_table("predictions", shard_id, ["image_id", "class_name", "score"])
    if not _has_labels(run):
        return rows
    return rows.filter(pa.array(np.diff(rows["image_id"].to_numpy(), prepend=-1) != 0))


def _has_labels(run: FinishedRun) -> bool:
    """Return whether the run's rows are ranked classes of whole images."""
    return Content.LABELS in find_task(run.task).contents


def _numbers(images: pa.Table, found: pa.Table, labels: bool) -> dict[str, np.ndarray]:
    """Return the numeric samples of one shard, by name."""
    width, height = (images[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    numbers = {
        "width": width,
        "height": height,
        "width / height": width / height,
        "score": found["score"].to_numpy(),
    }
    return (
        numbers
        if labels
        else numbers | {"detections per image": images["n_predictions"].to_numpy()}
    )


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    """Count the values of a column."""
    return Counter(
        {
            row["values"]: row["counts"]
            for row in column.cast(pa.string()).value_counts().to_pylist()
        }
    )


def _brightness(run: FinishedRun, image_ids: np.ndarray, most: int) -> np.ndarray:
    """Return (N,) mean luma, 0 to 255, of at most `most` images.

    The images are chosen at random with a fixed seed, so each call chooses the same ones.
    """
    chosen = np.random.default_rng(0).permutation(image_ids)[:most]
    try:
        inputs = InputReader(run)
    except ConfigError as error:
        log.warning("brightness: %s", error)
        return np.zeros(0)
    with closing(inputs):
        found = list(_lumas(run, inputs, chosen))
    if len(found) < len(chosen):
        log.warning(
            "brightness: %d of %d images in %s cannot be read any more.",
            len(chosen) - len(found),
            len(chosen),
            run.input,
        )
    return np.array(found)


def _lumas(run: FinishedRun, inputs: InputReader, image_ids: np.ndarray) -> Iterator[float]:
    """Yield the mean luma of each image that can still be read."""
    for _, entry, size_hw in iterate_entries(run, image_ids.tolist()):
        try:
            pixels = inputs.read(entry, size_hw)  # (H, W, 3)
        except (InputError, OSError):
            continue
        step = max(1, int((pixels.shape[0] * pixels.shape[1] / _LOOKED_AT) ** 0.5))
        yield float((pixels[::step, ::step].reshape(-1, 3).mean(axis=0) * _LUMA).sum())
