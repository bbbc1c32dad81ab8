"""Run the program under a system limit (`setrlimit`).

Usage: `python -m tests.faults.limited FSIZE|NOFILE|AS NUMBER run ...`

The limit is set after all imports, because libraries need memory and files themselves.
"""

import resource
import sys

import pipeline.run
from pipeline.cli import main

__all__ = ["pipeline"]

if __name__ == "__main__":
    which = getattr(resource, f"RLIMIT_{sys.argv[1]}")
    resource.setrlimit(which, (int(sys.argv[2]), resource.getrlimit(which)[1]))
    sys.exit(main(sys.argv[3:]))
