"""Kill runs at random moments, and compare their results with an undisturbed run.

Usage: `python -m tests.faults.sigkills N SEED IMAGES FOLDER`

Two processes at a time work on one run folder and are killed, until N kills have hit an unfinished
run. A run that completes in spite of the kills is compared, and the next run begins. A line of JSON
is printed for each run.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.faults.everywhere import annotate, child, contents, differing, in_child


def killed(images: str, output: Path, moment: random.Random) -> int:
    """Start two processes on one folder, kill both; return how many were still running.

    One of them holds the lock of the folder, the other is refused.
    """
    processes = [child(lambda: annotate(images, output, "workers=2")) for _ in range(2)]
    time.sleep(moment.uniform(0, 1.5))
    hit = 0
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        finally:
            hit += os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    return hit


def main(wanted: str, seed: str, images: str, folder: str) -> None:
    moment = random.Random(seed)
    golden = Path(folder) / "golden"
    if in_child(lambda: annotate(images, golden, "workers=2")):
        raise SystemExit("the undisturbed run failed")
    expected = contents(golden)
    hits = number = 0
    while hits < int(wanted):
        output = Path(folder) / f"run-{number}"
        before, complete = hits, False
        while not complete and hits < int(wanted):
            hit = killed(images, output, moment)
            hits += hit
            complete = hit == 0
        code = in_child(lambda output=output: annotate(images, output, "workers=2"))  # type: ignore[misc]
        found = {
            "hits": hits - before,
            "code": code,
            "differing": differing(contents(output), expected),
        }
        print(json.dumps(found), flush=True)
        shutil.rmtree(output)
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
