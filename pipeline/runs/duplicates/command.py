"""The verb `duplicates`: count and list the duplicates of an input, without a run."""

from collections.abc import Iterator
from itertools import islice

import pyarrow.parquet as pq

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_text
from pipeline.core.locations import parse_location
from pipeline.core.protocols import Source
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Entry
from pipeline.runs.duplicates.find import ImageScan, find_duplicates, require_image_files
from pipeline.runs.duplicates.table import make_duplicates_table
from pipeline.storage.publish import publish_folder


def count_duplicates(settings: Settings) -> str:
    """Write the duplicates of an input to a table, and return the counts as text.

    The table is `<output>/duplicates/<hash of the input>/duplicates.parquet`.
    """
    if settings.input is None:
        raise ConfigError("duplicates needs input=FOLDER.")
    source: Source = instantiate(settings.components["source"])

    def list_entries() -> Iterator[Entry]:
        return islice(source.entries(), settings.limit)

    near = settings.skip_duplicates != "bytes"
    scan = ImageScan(require_image_files(source), list_entries, settings.max_pixels)
    duplicates = find_duplicates(scan, near)

    target = parse_location(settings.output) / "duplicates" / hash_text(source.identity)
    with publish_folder(target.absolute(), replace=True) as stage:
        table = make_duplicates_table(duplicates, list_entries)
        pq.write_table(table, stage / "duplicates.parquet", compression="zstd")

    n_equal = int(duplicates.same_bytes[duplicates.indices].sum())
    counts = {"images": len(duplicates.first), "of equal bytes to one before": n_equal}
    if near:
        counts["that look like one before"] = len(duplicates.indices) - n_equal
    lines = format_pairs({name: f"{count:,}" for name, count in counts.items()})
    return f"{lines}\n\n  {target}/duplicates.parquet"
