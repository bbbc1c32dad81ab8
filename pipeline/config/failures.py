"""Turn errors into one message for the user and an exit code.

Exit codes: 0 complete, 1 failed, 2 refused, 3 locked, 4 out of space, 5 complete with unusable
images, 6 damaged (verify), 7 drift, 130 and 143 interrupted. Each error class in `core/errors.py`
has its own.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb

from pipeline.config.verbs import FINISHED_RUN_VERBS, RESUMABLE_VERBS
from pipeline.core.errors import OutOfSpace, PipelineError, is_disk_full
from pipeline.core.locations import redact_secrets

log = logging.getLogger(__name__)
_MAX_REASON = 500  # characters


def report_failure(message: str, exit_code: int) -> int:
    """Print a message to stderr, without secrets of signed addresses, and return the exit code."""
    print(f"visionbatch: {redact_secrets(message)}", file=sys.stderr)
    sys.stderr.flush()
    return exit_code


def report_os_error(error: OSError, arguments: Sequence[str]) -> int:
    """Print an explanation of an error of the operating system, and return the exit code."""
    log.debug("the traceback", exc_info=error)
    verb = arguments[0] if arguments else ""
    failure: PipelineError

    if is_disk_full(error):
        failure = OutOfSpace(f"The disk or quota is full ({error}). Free space and run again.")
    elif verb in FINISHED_RUN_VERBS:
        failure = PipelineError(f"{error}.")
    else:
        failure = PipelineError(f"{error}. log_level=debug shows where it happened.")

    intact = " Committed shards are intact." if verb in RESUMABLE_VERBS else ""
    return report_failure(f"{failure}{intact}", failure.exit_code)


def report_unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """Print that the program has a fault, and where, and return the exit code of a failure."""
    log.debug("the traceback", exc_info=error)
    frames = [frame for frame in extract_tb(error.__traceback__) if "pipeline" in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    verb = arguments[0] if arguments else ""
    intact = " Committed shards are intact." if verb in RESUMABLE_VERBS else ""
    reason = " ".join(str(error).split())[:_MAX_REASON]
    return report_failure(
        f"unexpected {type(error).__name__}{place}: {reason}. This is a fault of the program; "
        f"please report it.{intact}",
        PipelineError.exit_code,
    )


def report_interruption(message: str, exit_code: int, arguments: Sequence[str]) -> int:
    """Print the message of an interruption and how to resume, and return the exit code."""
    verb = arguments[0] if arguments else ""
    if verb == "train":
        message += " The same command resumes from the last checkpoint."
    elif verb in RESUMABLE_VERBS:
        message += " Committed shards are kept; the same command resumes from there."
    return report_failure(message, exit_code)
