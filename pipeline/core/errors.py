"""Errors that end a command, each with its exit code.

An image that cannot be used is not such an error: it becomes a row with a status (`InputError`).
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

ErrorT = TypeVar("ErrorT", bound=Exception)


class PipelineError(Exception):
    """A failure whose message tells the user what was expected, what came and what to do."""

    exit_code = 1


class ConfigError(PipelineError):
    """The settings, the model or the input were refused before anything was computed."""

    exit_code = 2


class InputChanged(ConfigError):
    """The input is not the one that the run's frozen plan lists."""


class RunLocked(PipelineError):
    """Another process writes to the same run folder."""

    exit_code = 3


class OutOfSpace(PipelineError):
    """The disk or the quota is full.

    Committed shards are intact. Running the same command again resumes.
    """

    exit_code = 4


class BadImages(PipelineError):
    """A run is complete, but some of its images have an error row.

    The run did not fail. The exit code tells a script that some images need attention.
    """

    exit_code = 5


class RunDamaged(PipelineError):
    """A run folder does not hold the parts that its commit markers describe."""

    exit_code = 6


class RunDrifted(PipelineError):
    """The images or detections of a run differ from those of its reference run."""

    exit_code = 7

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text  # the whole drift report


def is_disk_full(error: OSError) -> bool:
    """Return whether a full disk, a quota or a file size limit stopped a write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_persistent_failure(error: BaseException) -> bool:
    """Return whether the next file would fail too: the disk is full or the device is failing."""
    return isinstance(error, OSError) and (is_disk_full(error) or error.errno == errno.EIO)


def suggest_nearest(name: str, choices: Iterable[str], most: int = 3) -> str:
    """Return ` Did you mean 'a' or 'b'?`, or an empty string when no choice is similar."""
    known = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(name.casefold(), known, n=most, cutoff=0.5)
    if not close:
        return ""
    return " Did you mean " + " or ".join(repr(known[match]) for match in close) + "?"


def shorten_list(names: Iterable[str], most: int = 12) -> str:
    """Return names as a list that fits in a message: `a, b, c ... and 80 more`."""
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" ... and {rest} more" if rest > 0 else "")


def detach_error(error: ErrorT) -> ErrorT:
    """Return an error without its traceback and its cause, so that it can be kept as a value.

    Both refer to the frames of the functions that raised, and so keep their images in memory.
    """
    error.__context__ = None
    return error.with_traceback(None)
