"""`python -m pipeline`, the same program as `visionbatch`."""

import sys

from pipeline.cli import main

sys.exit(main())
