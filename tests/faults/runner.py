"""The runner, with faults: `python -m tests.faults.runner run ...`, as `supervise` starts it.

A picture with the comment `fault=segv` kills the process that decodes it, `fault=once_segv` the first such process only;
likewise kill, abort, hang, and slow (two seconds). In the environment FAULT_AT_LOAD=segv is one while the model is loaded;
FAULT_ONCE is a file that says that a fault with `once` was.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path

from torch import Tensor

from pipeline.cli import main
from pipeline.core.types import Model
from pipeline.inputs.decoding import image as images
from pipeline.models.formats.builder import TorchvisionBuilder

_FAULT = re.compile(rb"fault=(once_)?([a-z]+)")


def act(name: str) -> None:
    if name in ("hang", "slow"):
        time.sleep(10**6 if name == "hang" else 2)
    else:
        os.kill(os.getpid(), signal.Signals[f"SIG{name.upper()}"])
        time.sleep(10)  # a signal takes a moment


def with_faults() -> None:
    decode, load = images.decode_image, TorchvisionBuilder.load

    def faulty_decode(data: bytes, max_pixels: int) -> Tensor:
        found = _FAULT.search(data[:2000])
        if found and not (found[1] and done()):
            act(found[2].decode())
        return decode(data, max_pixels)

    def faulty_load(self: TorchvisionBuilder) -> Model:
        if "FAULT_AT_LOAD" in os.environ:
            act(os.environ["FAULT_AT_LOAD"])
        return load(self)

    images.decode_image, TorchvisionBuilder.load = faulty_decode, faulty_load


def done() -> bool:
    """Whether it was done before."""
    path = Path(os.environ["FAULT_ONCE"])
    if path.exists():
        return True
    path.touch()
    return False


if __name__ == "__main__":
    with_faults()
    sys.exit(main())
