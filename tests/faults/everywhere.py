"""Fail a run at every operation on the disk, and compare its results with an undisturbed run.

Usage: `python -m tests.faults.everywhere exit|EIO|ENOSPC IMAGES FOLDER [EVERY]`

For every n (or each EVERY-th n), a run fails at its n-th operation on the disk. The same command is
run again and fails again at its n-th operation. Then it is run without faults. A line of JSON is
printed for each n.

Runs are forked from this process, because importing takes longer than the runs. This process must
not compute anything before a fork, because OpenMP does not survive it. The model is tiny, because
only the disk is tested.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config.settings import Settings
from pipeline.core.errors import PipelineError
from pipeline.results.report.page import load_template
from pipeline.run import run
from tests.faults.disk import failing
from tests.helpers.own_files import CLASSIFIER, Classifier, save
from tests.helpers.runs import settings_for

GAVE_UP, DIED = 7, 9  # exit codes of a forked run: it raised an error, or it was stopped


def annotate(images: str, output: Path, *own: str) -> None:
    run(
        settings_for(
            "model=codes",
            f"input={images}",
            f"output={output}",
            "shard_size=4",
            "log_level=error",
            *own,
        )
    )


def settings_of_tiny(images: str, folder: Path) -> Settings:
    """Return settings with a tiny model and without `output`."""
    names = folder / "names.txt"
    names.write_text("a\nb\nc\nd\ne\n")
    if in_child(
        lambda: save(Classifier(), "torchscript", folder, torch.zeros(2, 3, 224, 224), {0: "batch"})
    ):
        raise SystemExit("the model was not made")
    model = (
        "task=classify",
        "model=torchscript",
        f"weights={folder / 'own.pt'}",
        f"categories={names}",
        CLASSIFIER,
    )
    return settings_for(
        *model, "trust_code=true", "workers=1", "shard_size=4", "log_level=error", f"input={images}"
    )


def child(work: Callable[[], object]) -> int:
    """Fork a process that does the work and exits; return its id."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except (OSError, PipelineError):
        os._exit(GAVE_UP)
    except BaseException as error:  # noqa: BLE001
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def in_child(work: Callable[[], object]) -> int:
    """Do the work in a forked process; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child(work), 0)[1])


def disturbed(kind: str, at: int, settings: Settings) -> Callable[[], object]:
    """Return a function that runs with a fault at the n-th operation on the disk."""

    def fail(name: str) -> None:
        if kind == "exit":
            os._exit(DIED)
        raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))

    def work() -> None:
        with failing(at, fail, Path(settings.output)):
            run(settings)

    return work


def contents(output: Path) -> dict[str, bytes]:
    """Return name -> bytes of the files of the only run below a folder.

    The lock, the timings and the report (which shows the timings) are left out: they are no
    results.
    """
    (folder,) = (path.parent for path in output.glob("*/.lock") if not path.parent.is_symlink())
    others = (".lock", "timing.jsonl", "report.html")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in others)
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return found | {"run.json": found["run.json"].replace(str(output).encode(), b"OUTPUT")}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return the names of the files that differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def main(kind: str, images: str, folder: str, every: str = "1") -> None:
    load_template()  # once here, instead of in each fork
    golden, tiny = Path(folder) / "golden", settings_of_tiny(images, Path(folder))
    if in_child(lambda: run(replace(tiny, output=str(golden)))):
        raise SystemExit("the undisturbed run failed")
    expected = contents(golden)
    at = 1
    while True:
        output = Path(folder) / f"disturbed-{at}"
        settings = replace(tiny, output=str(output))
        codes = [in_child(disturbed(kind, at, settings)) for _ in range(2)]
        codes.append(in_child(lambda settings=settings: run(settings)))  # type: ignore[misc]
        print(
            json.dumps(
                {"at": at, "codes": codes, "differing": differing(contents(output), expected)}
            ),
            flush=True,
        )
        shutil.rmtree(output)
        if codes[0] == 0:
            return
        at += int(every)


if __name__ == "__main__":
    main(*sys.argv[1:])
