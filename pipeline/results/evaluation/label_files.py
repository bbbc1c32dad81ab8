"""Read true labels of whole images from a table, or from folders named after the classes."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotations.class_folder_reader import find_class_parts
from pipeline.annotations.file_finder import list_files
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path, path_to_key
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.decoding.video_container import VIDEO_SUFFIXES
from pipeline.results.evaluation.label_tables import LABEL_SCHEMA, read_label_table
from pipeline.results.evaluation.pairing import count_pairs, name_in_run
from pipeline.runs.finished_run import FinishedRun

log = logging.getLogger(__name__)


def read_label_file(run: FinishedRun, path: Path) -> pa.Table:
    """Read a table with the columns key and label. No key repeats.

    Args:
        path: a table as `read_label_table` reads it, or a folder. Rows without a label are left
            out. Below a folder, the label of an image is the name of the
            first sub-folder in its path.

    Raises:
        ConfigError: the labels cannot be read, there are none, or an image has several.
    """
    try:
        table = _in_folders(run, path) if path.is_dir() else read_label_table(path, run.categories)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        pa.ArrowException,
    ) as error:
        raise ConfigError(
            f"truth={path}: expected a CSV, TSV, Parquet, JSON or JSONL file with the columns key "
            "and label, or a folder with a "
            f"sub-folder for each class ({str(error).splitlines()[0]})."
        ) from None
    n_rows = len(table)
    table = table.filter(pc.and_(pc.is_valid(table["key"]), pc.is_valid(table["label"])))
    if len(table) < n_rows:
        log.warning("truth=%s: %d rows without a label are left out.", path, n_rows - len(table))
    counted = pc.value_counts(table["key"])
    twice = counted.filter(pc.greater(counted.field("counts"), 1))
    if len(twice):
        raise ConfigError(
            f"truth={path}: {twice[0]['values'].as_py()!r} has several labels; expected one an "
            "image."
        )
    if not len(table):
        raise ConfigError(
            f"truth={path}: no labels in it. Expected the columns key and label, or a folder for "
            "each class."
        )
    return table


def _in_folders(run: FinishedRun, folder: Path) -> pa.Table:
    """Take the labels from the names of the sub-folders, or of those in train/, val/ and test/.

    If the folder is the run's own input, the keys are those of the run. This way frames and clips
    of videos in the sub-folders get labels too.
    """
    parts = find_class_parts(folder)
    is_input = folder.resolve() == (run.input.resolve() if isinstance(run.input, Path) else None)
    if is_input:
        keys = run.read_columns("images", ["key"])["key"].combine_chunks()
    else:
        files = list_files(folder, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        keys = pa.array([path_to_key(str(file.relative_to(folder))) for file in files], pa.string())
    below = rf"^(?:{'|'.join(parts)})/" if parts else "^"
    inside = keys.filter(pc.match_substring_regex(keys, rf"{below}[^/]+/"))
    labels = pc.replace_substring_regex(pc.replace_substring_regex(inside, below, ""), r"/.*$", "")
    if parts and not is_input:
        inside, labels = _select_parts(run, folder, parts, inside, labels)
    return pa.table([inside, labels], schema=LABEL_SCHEMA)


def _select_parts(
    run: FinishedRun, folder: Path, parts: Sequence[str], keys: pa.Array, labels: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """Keep the images of the parts that the run has images of, under the keys of the run."""
    names = pa.array(
        [name_in_run(run, (folder / key_to_path(key)).absolute(), key) for key in keys.to_pylist()],
        pa.string(),
    )
    chosen = [
        part
        for part in parts
        if count_pairs(run, names.filter(pc.starts_with(keys, f"{part}/")).to_pylist())
    ]
    if not chosen:
        return names, labels
    kept = pc.match_substring_regex(keys, rf"^(?:{'|'.join(chosen)})/")
    return names.filter(kept), labels.filter(kept)
