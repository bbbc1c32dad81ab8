"""Make settings as the command line makes them, and read what runs leave."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir

from pipeline.config.overrides import prepare_overrides
from pipeline.config.settings import Settings
from pipeline.core.package_files import find_resource


def settings_for(*overrides: str) -> Settings:
    """Compose the shipped conf/ with these overrides, as the command line does."""
    with initialize_config_dir(version_base="1.3", config_dir=str(find_resource("conf"))):
        words = prepare_overrides(overrides, sweep=False)
        cfg = compose("config", overrides=words, return_hydra_config=True)
    task = cfg.hydra.runtime.choices["task"]
    del cfg.hydra
    return Settings.from_config(cfg, task)


def read(run_folder: Path, kind: str) -> pa.Table:
    """Read all committed rows of `images` or `predictions`, in input order."""
    parts = sorted((run_folder / kind).glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
