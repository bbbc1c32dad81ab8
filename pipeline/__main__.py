"""`python -m pipeline`, the same program as `visionbatch`."""

import sys

from pipeline.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
