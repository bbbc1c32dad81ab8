"""Set up the process of a verb: logging, output streams, libraries and the memory allocator."""

import logging
import os
import sys

from pipeline.core.malloc import keep_freed_memory


def prepare_process() -> None:
    """Set up this process before any heavy library is imported."""
    logging.basicConfig(
        format="%(levelname)s: %(message)s", stream=sys.stderr, level=logging.WARNING
    )
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)

    # If a terminal cannot show a character of a file name, the rest of the text is still printed.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    # torch reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # With this value an idle OpenMP thread spins for a fraction of a millisecond before it sleeps.
    # By default it spins for several milliseconds, and decoding threads cannot use that core.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    keep_freed_memory()


def restart_in_utf8_mode() -> None:
    """Start this program again if the locale is not UTF-8; return if it is.

    Under the locale C, Python would take the letters of file names on the command line for bytes
    that are not text. With its UTF-8 mode, they are read as users and file systems mean them.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding().casefold() in ("utf-8", "utf8"):
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def set_log_level(level: str) -> None:
    """Show this program's messages of `level` and above. Libraries' warnings need `debug`."""
    logging.getLogger("pipeline").setLevel(level.upper())
    libraries = logging.DEBUG if level == "debug" else logging.ERROR
    logging.getLogger("py.warnings").setLevel(libraries)
