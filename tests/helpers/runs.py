"""Make settings as the command line makes them, and read what runs leave."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.compose import compose_settings
from pipeline.config.settings import Settings


def settings_for(*overrides: str) -> Settings:
    """Compose the shipped conf/ with these overrides, as the command line does."""
    return compose_settings(overrides)


def read(run_folder: Path, kind: str) -> pa.Table:
    """Read all committed rows of `images` or `predictions`, in input order."""
    parts = sorted((run_folder / kind).glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
