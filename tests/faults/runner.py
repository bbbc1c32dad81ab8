"""The runner with faults, as the supervisor starts it: `python -m tests.faults.runner run ...`

An image with the comment `fault=segv` kills the process that decodes it. With `fault=once_segv`
only the first such process is killed. Other faults are `kill`, `abort`, `hang`, and `slow` (two
seconds).

Environment variables: FAULT_AT_LOAD=segv causes the fault while the model is loaded. FAULT_ONCE is
the path of a file that is created when a fault with `once` has happened.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.cli import main
from pipeline.core.types import Model
from pipeline.inputs.decoding import image as images
from pipeline.models.formats.builder import TorchvisionBuilder

_FAULT = re.compile(rb"fault=(once_)?([a-z]+)")


def cause_fault(name: str) -> None:
    if name in ("hang", "slow"):
        time.sleep(10**6 if name == "hang" else 2)
    else:
        os.kill(os.getpid(), signal.Signals[f"SIG{name.upper()}"])
        time.sleep(10)  # until the signal arrives


def install_faults() -> None:
    """Replace the decoder and the loading of models by versions with faults."""
    decode, load = images.decode_image, TorchvisionBuilder.load

    def faulty_decode(data: bytes, *more: Any) -> Tensor:
        found = _FAULT.search(data[:2000])
        if found and not (found[1] and has_happened()):
            cause_fault(found[2].decode())
        return decode(data, *more)

    def faulty_load(self: TorchvisionBuilder) -> Model:
        if "FAULT_AT_LOAD" in os.environ:
            cause_fault(os.environ["FAULT_AT_LOAD"])
        return load(self)

    images.decode_image, TorchvisionBuilder.load = faulty_decode, faulty_load


def has_happened() -> bool:
    """Return whether a fault with `once` has happened, and record that it has now."""
    path = Path(os.environ["FAULT_ONCE"])
    if path.exists():
        return True
    path.touch()
    return False


if __name__ == "__main__":
    install_faults()
    sys.exit(main())
