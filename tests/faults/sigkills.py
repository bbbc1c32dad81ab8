"""`python -m tests.faults.sigkills N SEED IMAGES FOLDER`: runs that are killed at random moments, two processes at a time on
one folder, until N kills have hit an unfinished run. One that completes in spite of them is compared with an undisturbed
run, and the next begins. Prints a JSON line for each."""

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
    """How many of two processes, of which one holds the folder, were killed at their work."""
    numbers = [child(lambda: annotate(images, output, "workers=2")) for _ in range(2)]
    time.sleep(moment.uniform(0, 1.5))
    hit = 0
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        finally:
            hit += os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL
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
