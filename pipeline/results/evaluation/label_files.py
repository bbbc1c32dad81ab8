"""Read true labels of whole images from a table, or from folders named after the classes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.annotations.class_folder_reader import find_class_parts
from pipeline.annotations.file_finder import list_files
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path, path_to_key
from pipeline.inputs.decoding.formats import IMAGE_SUFFIXES
from pipeline.inputs.decoding.video_container import VIDEO_SUFFIXES
from pipeline.results.evaluation.pairing import count_pairs, name_in_run
from pipeline.runs.finished_run import FinishedRun

_SCHEMA = pa.schema([("key", pa.string()), ("label", pa.string())])


def read_label_file(run: FinishedRun, path: Path) -> pa.Table:
    """Read a table with the columns key and label. No key repeats.

    Args:
        path: a CSV, Parquet or JSON file with these two columns, or a folder. A JSON file may also
            be an object {key: label}. Below a folder, the label of an image is the name of the
            first sub-folder in its path.

    Raises:
        ConfigError: the labels cannot be read, there are none, or an image has several.
    """
    try:
        table = (
            _in_folders(run, path)
            if path.is_dir()
            else _in_file(path).select(_SCHEMA.names).cast(_SCHEMA)
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ConfigError(
            f"truth={path}: expected a CSV, Parquet or JSON file with the columns key and label, "
            "or a folder with a "
            f"sub-folder for each class ({str(error).splitlines()[0]})."
        ) from None
    table = table.filter(pc.and_(pc.is_valid(table["key"]), pc.is_valid(table["label"])))
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


def _in_file(path: Path) -> pa.Table:
    """Read a table from a file, whose suffix determines the format."""
    if path.suffix.casefold() == ".parquet":
        return pq.read_table(path, columns=_SCHEMA.names, partitioning=None)
    if path.suffix.casefold() == ".json":
        content = json.loads(path.read_bytes())
        rows = (
            [{"key": key, "label": label} for key, label in content.items()]
            if isinstance(content, dict)
            else content
        )
        return pa.table(
            {name: [str(row[name]) for row in rows] for name in _SCHEMA.names}, schema=_SCHEMA
        )
    if path.suffix.casefold() == ".csv":
        text = pyarrow.csv.ConvertOptions(column_types=_SCHEMA, strings_can_be_null=False)
        return pyarrow.csv.read_csv(path, convert_options=text)
    raise ValueError(f"{path.suffix or 'no suffix'} is none of .csv, .parquet, .json")


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
    return pa.table([inside, labels], schema=_SCHEMA)


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
