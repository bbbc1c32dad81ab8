"""Pair the images and classes of a run with those of the truth (the annotations)."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import ConfigError, shorten_list
from pipeline.core.keys import key_to_listed_path, path_to_key
from pipeline.core.lookalikes import describe_lookalikes
from pipeline.core.name_matching import match_paths, match_texts
from pipeline.core.tables import mark_duplicates, mark_failed
from pipeline.ops.filters import PLACEHOLDERS, make_score_thresholds
from pipeline.results.evaluation.result import ImageCounts
from pipeline.runs.finished_run import FinishedRun

_SHOWN = 3
_COMPARED = 1000  # names of truth that are compared with those of the run for a hint


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
    by_stem: bool = False,
    any_suffix: bool = False,
) -> ImagePairs:
    """Pair truth's images with the run's, by the rule of `core/name_matching.py`.

    Args:
        names: Names of truth's images, all different.
        sizes_hw: (names, 2) pixels, -1 where truth does not state a size.
        by_stem: Whether names that are left are also compared with keys without their suffix.
        any_suffix: Whether names that are left are then compared without their own suffix.

    Raises:
        ConfigError: there are no pairs, an image has another size in the run, or all pairs are
            duplicates.
    """
    table = run.read_columns("images", ["image_id", "key", "width", "height", "status"])
    keys = table["key"].combine_chunks()
    found, unsure = _match_keys(names, keys, by_stem, any_suffix)
    paired = found >= 0
    if not paired.any():
        raise ConfigError(_describe_no_pair(names, keys, unsure))

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

    lost = keys.filter(pa.array(paired & mark_failed(table).to_numpy()))
    left = keys.filter(pa.array(~paired))
    absent = names.take(pa.array(np.setdiff1d(np.arange(len(names)), found)))
    notes = _list_notes(keys.filter(pa.array(twins)), lost, absent, left, unsure)
    images = ImageCounts(len(names), int(twins.sum()), len(lost), len(absent), len(left))
    return ImagePairs(number_of, sizes, evaluated, images, notes)


def _describe_no_pair(names: pa.Array, keys: pa.Array, unsure: dict[str, list[str]]) -> str:
    """Return the message for truth without an image of the run."""
    hint = f" {_describe_unsure(unsure)}" if unsure else ""
    lookalikes = describe_lookalikes(names.to_pylist()[:_COMPARED], keys.to_pylist())
    return (
        f"None of truth's {len(names):,} images is in the run. Truth: {_some(names)}. The run: "
        f"{_some(keys)}.{hint} {lookalikes}"
    ).rstrip()


def _list_notes(
    twins: pa.Array, lost: pa.Array, absent: pa.Array, left: pa.Array, unsure: dict[str, list[str]]
) -> tuple[str, ...]:
    """Return a note about each kind of image that is not evaluated as usual.

    Args:
        twins: Keys of truth's images that the run skipped as duplicates.
        lost: Keys of truth's images that failed in the run.
        absent: Names of truth's images that are not in the run.
        left: Keys of the run's images that are not in truth.
        unsure: By name without a match, the keys that it could mean.
    """
    counted = "they count as images without predictions"
    notes = (
        _note(
            twins, "images of truth are duplicates that were not looked at; they are not evaluated"
        ),
        _note(lost, f"of truth's images failed in the run; {counted}"),
        _note(absent, f"of truth's images are not in the run; {counted}"),
        describe_lookalikes(absent.to_pylist()[:_COMPARED], left.to_pylist()),
        _describe_unsure(unsure),
        _note(left, "images of the run are not in truth and left out"),
    )
    return tuple(note for note in notes if note)


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


def _match_keys(
    names: pa.Array, keys: pa.Array, by_stem: bool, any_suffix: bool = False
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Match truth's names with the run's keys.

    Returns:
        (keys,) the number of the name that matches each key, -1 for none; and by name, the keys
        that a name without a match could mean.
    """
    numbers = pc.fill_null(pc.index_in(keys, value_set=names), -1).to_numpy().astype(np.int64)
    if (numbers >= 0).sum() == min(len(names), len(keys)):
        return numbers, {}

    written, paths = names.to_pylist(), [key_to_listed_path(key) for key in keys.to_pylist()]
    pairs: dict[int, int] = {}
    ambiguous: dict[int, tuple[int, ...]] = {}
    steps = [(_keep, _keep), (_keep, _drop_suffix)][: 1 + (by_stem or any_suffix)]
    steps += [(_drop_suffix, _keep), (_drop_suffix, _drop_suffix)] * any_suffix
    for spell_name, spell_path in steps:
        left = [i for i in range(len(written)) if i not in pairs]
        taken = set(pairs.values())
        free = [k for k in range(len(paths)) if k not in taken]
        matches = match_paths(
            [spell_name(written[i]) for i in left], [spell_path(paths[k]) for k in free]
        )
        pairs |= {left[i]: free[k] for i, k in matches.found.items()}
        for i, candidates in matches.ambiguous.items():
            ambiguous.setdefault(left[i], tuple(free[k] for k in candidates))

    numbers[list(pairs.values())] = list(pairs)
    unsure = {
        written[i]: [keys[k].as_py() for k in candidates if numbers[k] < 0]
        for i, candidates in ambiguous.items()
        if i not in pairs
    }
    return numbers, {name: candidates for name, candidates in unsure.items() if candidates}


def count_pairs(run: FinishedRun, names: Sequence[str]) -> int:
    """Count the names that the run has images of."""
    keys = run.read_columns("images", ["key"])["key"].combine_chunks()
    found, _ = _match_keys(pa.array(names, pa.string()), keys, by_stem=True, any_suffix=True)
    return int((found >= 0).sum())


def name_in_run(run: FinishedRun, path: Path, name: str) -> str:
    """Return the key of a file below the run's input folder; another file keeps its name."""
    if not isinstance(run.input, Path) or not path.is_absolute():
        return name
    folder = _resolve(path.parent)
    root = _resolve(run.input)
    if not folder.is_relative_to(root):
        return name
    return path_to_key((folder / path.name).relative_to(root).as_posix())


@lru_cache(maxsize=4096)
def _resolve(folder: Path) -> Path:
    return folder.resolve()


def _keep(path: str) -> str:
    return path


def _drop_suffix(path: str) -> str:
    """Return a path without its suffix: a/b.c/d.jpg -> a/b.c/d."""
    return re.sub(r"\.[^./]*\Z", "", path)


def _describe_unsure(unsure: Mapping[str, Sequence[str]]) -> str:
    """Return sentences about names that could mean several keys; empty if there are none."""
    if not unsure:
        return ""
    note = _note(pa.array(unsure), "of truth's images could be any of several of one file name")
    name, candidates = next(iter(unsure.items()))
    could_be = shorten_list(candidates, _SHOWN)
    return f"{note}. {name} could be {could_be}; give truth's names the run's folders."


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
    """Pair truth's classes with the model's, by the rule of `core/name_matching.py`.

    A class that the run's filters leave out is not evaluated. A class that the model does not know
    is evaluated as if it was never found.

    Raises:
        ConfigError: there are no pairs, two of truth's categories have the same name, or a name
            could be any of several.
    """
    model, kept = run.categories, find_requested_classes(run)
    left_out = {name for i, name in enumerate(model) if i not in kept and name not in PLACEHOLDERS}
    model_name = _match_class_names(truth, model)
    ids = [i for i in sorted(truth) if model_name.get(i) not in left_out]
    names = [truth[i] for i in ids]
    position = {model_name[i]: k for k, i in enumerate(ids) if i in model_name}
    index_of = np.array(
        [position.get(name, -1) if i in kept else -1 for i, name in enumerate(model)]
    )
    if not (index_of >= 0).any():
        raise ConfigError(
            f"None of truth's classes is one of the run's. Truth has {shorten_list(names)}; the "
            f"run {shorten_list(_real(model))}. {describe_lookalikes(names, _real(model))}".rstrip()
        )
    unknown = [name for k, name in enumerate(names) if k not in index_of]
    more = [model[i] for i in sorted(kept) if index_of[i] < 0 and model[i] not in PLACEHOLDERS]
    notes = [
        f"{len(unknown)} classes of truth are unknown to the model, so never found: "
        f"{shorten_list(unknown)}. {describe_lookalikes(unknown, _real(model))}".rstrip()
        if unknown
        else "",
        f"{len(more)} classes of the model are not in truth and left out: {shorten_list(more)}."
        if more
        else "",
        "The run was told to leave out classes; they are not evaluated." if left_out else "",
    ]
    return ClassPairs(tuple(ids), tuple(names), index_of, tuple(note for note in notes if note))


def _match_class_names(truth: Mapping[int, str], model: Sequence[str]) -> dict[int, str]:
    """Return the model's spelling of truth's classes by their ids, without unknown classes."""
    counts = Counter(truth.values())
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(
            f"truth has several categories of one name: {shorten_list(twice)}. Give each a name of "
            "its own."
        )

    ids, known = list(truth), list(dict.fromkeys(model))
    matches = match_texts([truth[i] for i in ids], known)
    if matches.ambiguous:
        candidates = next(iter(matches.ambiguous.values()))
        alike = [truth[ids[i]] for i, same in matches.ambiguous.items() if same == candidates]
        raise ConfigError(
            f"truth's {_join_names(alike)} and the run's "
            f"{_join_names(known[k] for k in candidates)} differ only in spelling, so it is not "
            "clear which are the same class. Give truth's categories the names that the run has. "
            f"{describe_lookalikes(alike, [known[k] for k in candidates])}".rstrip()
        )
    return {ids[i]: known[k] for i, k in matches.found.items()}


def _join_names(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


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
