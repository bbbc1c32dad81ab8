"""Make a program slow without work for the processor, so that it can be disturbed while it runs.

`write_slow_commits(folder, seconds)` writes a module that Python imports when it starts, if
`PYTHONPATH` names the folder. Each commit of a shard then takes at least so long.
"""

from pathlib import Path

_MODULE = """
import os, time

_replace = os.replace

def replace_slowly(source, target, **options):
    if "_committed" in os.fspath(target):
        time.sleep({seconds})
    return _replace(source, target, **options)

os.replace = replace_slowly
"""


def write_slow_commits(folder: Path, seconds: float) -> Path:
    """Return the folder, which contains the module."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_MODULE.format(seconds=seconds))
    return folder
