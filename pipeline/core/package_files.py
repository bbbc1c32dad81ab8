"""Where the files that ship with the project are: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path


def find_resource(name: str) -> Path:
    """The folder `conf` or `data`."""
    package = Path(__file__).resolve().parent.parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
