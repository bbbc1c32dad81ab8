"""What can go wrong before or outside a single image, each with its exit code. A bad image is a row, not one of these."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches


class PipelineError(Exception):
    """A failure with a message for the user: what was expected, what came, what to do."""

    exit_code = 1


class ConfigError(PipelineError):
    """The settings, the model or the input were refused before anything was computed."""

    exit_code = 2


class InputChanged(ConfigError):
    """The input is not the one that the run's frozen plan names."""


class RunLocked(PipelineError):
    """Another process writes to the same run folder."""

    exit_code = 3


class OutOfSpace(PipelineError):
    """The disk or the quota is full. Committed shards are intact; the same command resumes."""

    exit_code = 4


class BadImages(PipelineError):
    """A run is complete, and some of its images are rows with an error: no failure, but not for a script to miss."""

    exit_code = 5


class RunDamaged(PipelineError):
    """A run folder does not hold what its markers say."""

    exit_code = 6


class RunDrifted(PipelineError):
    """A run's images or detections are not like those of its reference."""

    exit_code = 7

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text  # what there is to read, as without drift


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, the quota or the file size limit is what stopped a write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_persistent_failure(error: BaseException) -> bool:
    """Whether a picture failed for a reason that the next file will meet too: no room, or a failing device."""
    return isinstance(error, OSError) and (is_disk_full(error) or error.errno == errno.EIO)


def suggest_nearest(name: str, choices: Iterable[str], most: int = 3) -> str:
    """` Did you mean 'a' or 'b'?`, or an empty string when nothing is near."""
    known = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(name.casefold(), known, n=most, cutoff=0.5)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(known[match]) for match in close) + "?"


def shorten_list(names: Iterable[str], most: int = 12) -> str:
    """`a, b, c ... and 80 more`: a list that fits in a message."""
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" ... and {rest} more" if rest > 0 else "")
