"""Find the files that ship with the project."""

from pathlib import Path


def find_resource(name: str) -> Path:
    """Return the path of the folder `conf` or `data`.

    It is inside the package in an installed wheel, and beside the package in a checkout.
    """
    package = Path(__file__).resolve().parent.parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
