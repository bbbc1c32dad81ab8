"""`python -m tests.faults.watched run ...`: the program that a user starts, with a runner that has faults. GRACE_S in the
environment is the time between a signal and the end."""

import os
import sys

from pipeline.runs.isolation import supervisor as supervise

if __name__ == "__main__":
    supervise._GRACE_S = float(os.environ.get("GRACE_S", supervise._GRACE_S))
    sys.exit(supervise.supervise(sys.argv[1:], (sys.executable, "-m", "tests.faults.runner")))
