"""The supervised program, with a runner that has faults: `python -m tests.faults.watched run ...`

The environment variable GRACE_S sets the seconds between a signal and the end of the program.
"""

import os
import sys

from pipeline.runs.isolation import supervisor as supervise

if __name__ == "__main__":
    supervise._GRACE_S = float(os.environ.get("GRACE_S", supervise._GRACE_S))
    sys.exit(supervise.supervise(sys.argv[1:], (sys.executable, "-m", "tests.faults.runner")))
