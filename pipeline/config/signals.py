"""Turn SIGINT and SIGTERM into exceptions in the main thread, so that `with` blocks clean up."""

import os
import signal
from types import FrameType

from pipeline.core.inflight import TABLE_VARIABLE


class Terminated(BaseException):
    """The process received SIGTERM."""


def install_signal_handlers() -> None:
    """Raise Terminated for SIGTERM and KeyboardInterrupt for SIGINT."""
    signal.signal(signal.SIGTERM, _raise_terminated)
    signal.signal(signal.SIGINT, _raise_interrupt)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    _ignore_repeated_signals()
    raise Terminated


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_repeated_signals()
    raise KeyboardInterrupt


def _ignore_repeated_signals() -> None:
    """Ignore further signals in a supervised process.

    Ctrl-C in a terminal reaches it twice: from the terminal and from the supervisor.
    """
    if TABLE_VARIABLE in os.environ:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
