"""The table of duplicates, which a run writes beside its plan and `duplicates` for the user."""

from collections.abc import Callable, Iterable

import pyarrow as pa

from pipeline.core.types import Entry
from pipeline.runs.duplicates.find import Duplicates

DUPLICATES_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("key", pa.string()),
        ("first_key", pa.string()),
        ("same_bytes", pa.bool_()),
    ]
)


def make_duplicates_table(
    duplicates: Duplicates, list_entries: Callable[[], Iterable[Entry]]
) -> pa.Table:
    """Return a row for each duplicate, with the key of the first image that it duplicates."""
    indices = duplicates.indices
    firsts = duplicates.first[indices]
    needed = set(indices.tolist()) | set(firsts.tolist())
    keys = {i: entry.key for i, entry in enumerate(list_entries()) if i in needed}
    columns = [
        indices,
        [keys[i] for i in indices.tolist()],
        [keys[i] for i in firsts.tolist()],
        duplicates.same_bytes[indices],
    ]
    return pa.table(columns, schema=DUPLICATES_SCHEMA)
