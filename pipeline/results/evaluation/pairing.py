"""Pair the images and classes of a run with those of the truth (the annotations)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import ConfigError, shorten_list
from pipeline.core.tables import mark_duplicates, mark_failed
from pipeline.ops.filters import PLACEHOLDERS, make_score_thresholds
from pipeline.results.evaluation.result import ImageCounts
from pipeline.runs.finished_run import FinishedRun

_SHOWN = 3
Spelling = Callable[[pa.Array], pa.Array]


def keep_name(names: pa.Array) -> pa.Array:
    """Return names unchanged."""
    return names


def drop_folders(names: pa.Array) -> pa.Array:
    """Return the last part of each name: a/b/c.jpg -> c.jpg."""
    return pc.replace_substring_regex(names, r"^.*/", "")


def drop_suffix(names: pa.Array) -> pa.Array:
    """Return names without their suffix: a/b.c/d.jpg -> a/b.c/d."""
    return pc.replace_substring_regex(names, r"\.[^./]*$", "")


@dataclass(frozen=True)
class ImagePairs:
    """The images of a run, paired with those of the truth."""

    number_of: np.ndarray  # (images of the run,) int64: image_id -> number in truth, -1 for none
    # (images of truth, 2) int64 pixels, from truth or else from the run; -1 if neither knows them.
    sizes_hw: np.ndarray
    evaluated: np.ndarray  # (images of truth,) bool: False for the run's duplicates
    images: ImageCounts
    notes: tuple[str, ...]


def pair_images(
    run: FinishedRun,
    names: pa.Array,
    sizes_hw: np.ndarray | None = None,
    spellings: Sequence[tuple[Spelling, Spelling]] = (
        (keep_name, keep_name),
        (drop_folders, drop_folders),
    ),
) -> ImagePairs:
    """Pair truth's images with the run's.

    Two images are a pair if their names are equal in the first spelling. The images that are left
    are compared in the next spelling. A spelling that several names or keys share makes no pair.

    Args:
        names: Names of truth's images, all different.
        sizes_hw: (names, 2) pixels, -1 where truth does not state a size.
        spellings: Pairs of functions, one for names and one for keys, that make both comparable.
            They are tried in this order.

    Raises:
        ConfigError: there are no pairs, an image has another size in the run, or all pairs are
            duplicates.
    """
    table = run.read_columns("images", ["image_id", "key", "width", "height", "status"])
    keys = table["key"].combine_chunks()
    found = _meet(names, keys, spellings)
    paired = found >= 0
    if not paired.any():
        raise ConfigError(
            f"None of truth's {len(names):,} images is in the run. Truth: {_some(names)}. The "
            f"run: {_some(keys)}."
        )
    seen = np.stack([table[name].fill_null(-1).to_numpy() for name in ("height", "width")], axis=1)
    sizes = np.full((len(names), 2), -1) if sizes_hw is None else sizes_hw.copy()
    _check_sizes(keys.filter(pa.array(paired)), sizes[found[paired]], seen[paired])
    sizes[found[paired]] = np.where(sizes[found[paired]] < 0, seen[paired], sizes[found[paired]])
    number_of = np.full(run.plan.n_images, -1)
    number_of[table["image_id"].to_numpy()] = found
    twins = paired & mark_duplicates(table).to_numpy()
    evaluated = np.full(len(names), True)
    evaluated[found[twins]] = False
    if not evaluated.any():
        raise ConfigError(
            "All of truth's images are duplicates that the run did not look at. Give truth of the "
            "first ones."
        )
    lost, left = (
        keys.filter(pa.array(paired & mark_failed(table).to_numpy())),
        keys.filter(pa.array(~paired)),
    )
    absent = names.take(pa.array(np.setdiff1d(np.arange(len(names)), found)))
    unsure = absent.filter(pc.is_in(drop_folders(absent), value_set=drop_folders(left)))
    notes = (
        _note(
            keys.filter(pa.array(twins)),
            "images of truth are duplicates that were not looked at; they are not evaluated",
        ),
        _note(
            lost, "of truth's images failed in the run; they count as images without predictions"
        ),
        _note(
            absent, "of truth's images are not in the run; they count as images without predictions"
        ),
        _note(unsure, "of truth's images could be any of several of one file name"),
        _note(left, "images of the run are not in truth and left out"),
    )
    images = ImageCounts(len(names), int(twins.sum()), len(lost), len(absent), len(left))
    return ImagePairs(number_of, sizes, evaluated, images, tuple(note for note in notes if note))


def _check_sizes(keys: pa.Array, truth_hw: np.ndarray, seen_hw: np.ndarray) -> None:
    """Raise ConfigError if both sides know the size of an image and the sizes differ."""
    differ = np.flatnonzero(((truth_hw != seen_hw) & (truth_hw >= 0) & (seen_hw >= 0)).any(axis=1))
    if len(differ):
        (height, width), (seen_height, seen_width) = truth_hw[differ[0]], seen_hw[differ[0]]
        raise ConfigError(
            f"{keys[differ[0]].as_py()}: {width}x{height} pixels in truth, "
            f"{seen_width}x{seen_height} in the run, upright "
            f"({len(differ):,} such images). Expected truth of the same images, turned as their "
            "EXIF says."
        )


def _meet(
    names: pa.Array, keys: pa.Array, spellings: Sequence[tuple[Spelling, Spelling]]
) -> np.ndarray:
    """Return (keys,) the number of the name that matches each key, -1 for none."""
    numbers = np.full(len(keys), -1)
    for of_name, of_key in spellings:
        free_names, free_keys = (
            np.setdiff1d(np.arange(len(names)), numbers),
            np.flatnonzero(numbers < 0),
        )
        spelled, seen = of_name(names), of_key(keys)
        left, right = spelled.take(pa.array(free_names)), seen.take(pa.array(free_keys))
        sure = pc.and_(
            pc.is_in(left, value_set=_once(spelled)), pc.is_in(left, value_set=_once(seen))
        )
        at = pc.index_in(right, value_set=pc.if_else(sure, left, pa.scalar(None, left.type)))
        hit = pc.is_valid(at).to_numpy(zero_copy_only=False)
        numbers[free_keys[hit]] = free_names[at.drop_null().to_numpy()]
    return numbers


def _once(values: pa.Array) -> pa.Array:
    """Return the values that occur exactly once."""
    counted = pc.value_counts(values)
    return counted.field("values").filter(pc.equal(counted.field("counts"), 1))


def _note(names: pa.Array, what: str) -> str:
    """Return a sentence about these names; empty if there are none."""
    return f"{len(names):,} {what}: {_some(names)}" if len(names) else ""


def _some(names: pa.Array) -> str:
    """Return the first few names as text."""
    return ", ".join(names.slice(0, _SHOWN).to_pylist()) + (", ..." if len(names) > _SHOWN else "")


@dataclass(frozen=True)
class ClassPairs:
    """The classes of truth that are evaluated, in the order of their ids."""

    ids: tuple[int, ...]  # category ids in truth
    names: tuple[str, ...]
    index_of: np.ndarray  # (the model's class ids,) position in `names`, -1 for none
    notes: tuple[str, ...]


def pair_classes(run: FinishedRun, truth: Mapping[int, str]) -> ClassPairs:
    """Pair truth's classes with the model's by name. The comparison ignores case.

    A class that the run's filters leave out is not evaluated. A class that the model does not know
    is evaluated as if it was never found.

    Raises:
        ConfigError: there are no pairs, or two of truth's categories have the same name.
    """
    model, kept = run.categories, find_requested_classes(run)
    left_out = [name for i, name in enumerate(model) if i not in kept and name not in PLACEHOLDERS]
    unwanted = {name.casefold() for name in left_out}
    ids = [i for i in sorted(truth) if truth[i].casefold() not in unwanted]
    names = [truth[i] for i in ids]
    by_name = {name.casefold(): k for k, name in enumerate(names)}
    if len(by_name) < len(names):
        raise ConfigError(
            f"truth has several categories of one name among {shorten_list(names)}. Give each a "
            "name of its own."
        )
    index_of = np.array(
        [by_name.get(name.casefold(), -1) if i in kept else -1 for i, name in enumerate(model)]
    )
    if not (index_of >= 0).any():
        raise ConfigError(
            f"None of truth's classes is one of the run's. Truth has {shorten_list(names)}; the "
            f"run {shorten_list(_real(model))}."
        )
    unknown = [name for k, name in enumerate(names) if k not in index_of]
    more = [model[i] for i in sorted(kept) if index_of[i] < 0 and model[i] not in PLACEHOLDERS]
    notes = [
        f"{len(unknown)} classes of truth are unknown to the model, so never found: "
        f"{shorten_list(unknown)}."
        if unknown
        else "",
        f"{len(more)} classes of the model are not in truth and left out: {shorten_list(more)}."
        if more
        else "",
        "The run was told to leave out classes; they are not evaluated." if left_out else "",
    ]
    return ClassPairs(tuple(ids), tuple(names), index_of, tuple(note for note in notes if note))


def find_requested_classes(run: FinishedRun) -> set[int]:
    """Return the ids of the classes that the run's filters keep."""
    filters = run.record["fingerprint_of"]["filters"]
    thresholds = make_score_thresholds(run.categories, filters["classes"], filters["exclude"], 0.0)
    return {i for i, least in enumerate(thresholds) if least == 0}


def describe_filters(run: FinishedRun, *more: str) -> tuple[str, ...]:
    """Return a sentence about the run's filters, because they limit what can be measured.

    `more` holds the names of further filters to mention.
    """
    filters = run.record["fingerprint_of"]["filters"]
    names = ("min_score", "min_area", "nms_iou", "max_detections", *more)
    active = [f"{name}={filters[name]}" for name in names if filters.get(name)]
    if not active:
        return ()
    return (
        f"The run was filtered by {', '.join(active)}; the figures are of what that left. "
        "min_score=0 shows the model alone.",
    )


def _real(names: Sequence[str]) -> list[str]:
    """Return the names without placeholders."""
    return [name for name in names if name not in PLACEHOLDERS]
