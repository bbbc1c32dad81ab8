"""The class that stands for the background of an image."""

BACKGROUND = "__background__"


def is_background(name: str) -> bool:
    """Return whether a class name is one of the usual names of the background."""
    return name.casefold() in (BACKGROUND, "_background_", "background")
