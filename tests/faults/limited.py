"""`python -m tests.faults.limited FSIZE|NOFILE|AS NUMBER run ...`: the runner with a limit of the system, set after imports:
libraries take room before a byte of ours is written."""

import resource
import sys

import pipeline.run
from pipeline.cli import main

__all__ = ["pipeline"]

if __name__ == "__main__":
    which = getattr(resource, f"RLIMIT_{sys.argv[1]}")
    resource.setrlimit(which, (int(sys.argv[2]), resource.getrlimit(which)[1]))
    sys.exit(main(sys.argv[3:]))
