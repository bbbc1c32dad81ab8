"""Names of the files and folders that belong to one shard of a run.

Shard numbers have eight digits, so that names sort like numbers up to 99,999,999 shards. Runs of
earlier versions have five digits; `parse_shard_number` reads any number of digits.
"""

import re

_NUMBERED = re.compile(r"(?:part-|shard-)?([0-9]+)(?:\..+|-page-.+)?")


def format_shard_number(number: int) -> str:
    """Return a shard number as text of eight digits."""
    return f"{number:08d}"


def make_part_name(number: int) -> str:
    """Return the name of a Parquet file of one shard, such as `part-00000012.parquet`."""
    return f"part-{format_shard_number(number)}.parquet"


def make_shard_name(number: int) -> str:
    """Return the name of a shard's staging folder, such as `shard-00000012`.

    The names of its pictures begin in the same way.
    """
    return f"shard-{format_shard_number(number)}"


def make_marker_name(number: int) -> str:
    """Return the path of a shard's marker in the run folder, such as `_committed/00000012.json`."""
    return f"_committed/{format_shard_number(number)}.json"


def parse_shard_number(name: str) -> int | None:
    """Return the number in a file name made by this module, or None for any other name."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else None
