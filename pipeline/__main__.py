"""Run the program as `python -m pipeline`; `visionbatch` is the same."""

import sys

from pipeline.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
