"""Verbs -> functions. Errors become one message and an exit code here, and nowhere else."""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.config.compose import apply_process_settings, run_jobs
from pipeline.config.overrides import split_arguments
from pipeline.core.errors import (
    BadImages,
    ConfigError,
    OutOfSpace,
    PipelineError,
    RunDrifted,
    is_disk_full,
    suggest_nearest,
)
from pipeline.core.inflight import TABLE_VARIABLE
from pipeline.core.locations import redact_secrets
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.package_files import find_resource
from pipeline.runs.isolation.supervisor import exit_with_supervisor, supervise

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.config.sweep_outcomes import RunResult

log = logging.getLogger(__name__)

USAGE = """usage: visionbatch VERB key=value ...

  run         annotate images, or go on where an interrupted run stopped
  sweep       one run per combination of comma-separated values, and a table of them all
  inspect     what a model sees, costs and was measured to be: inspect task=detect model=NAME classes=[dog]
  models      the catalogue as a table: models task=segment sort=accuracy (or gflops, params, size, name)
  duplicates  the same picture twice in an input: duplicates input=~/photos
  train       learn the classes of your own annotated images: train task=detect model=NAME train.data=instances.json
  anchors     anchor boxes that fit such data: anchors model=NAME train.data=instances.json
  export-model  a model as an ONNX, torch.export or TorchScript program: export-model model=NAME to=onnx
  bench       how fast this machine is at it, beside plain loops and what its hardware allows: bench task=classify

Of a finished run, without its model:

  report      one HTML page, with a gallery to search: report run=outputs/latest
  evaluate    how right it is, beside annotations: evaluate run=outputs/latest truth=instances.json
  compare     what changed between two runs of the same images: compare runs=[outputs/a,outputs/b]
  drift       whether images and detections are still like those of an earlier run: drift run=NEW reference=OLD
  repeats     boxes that come again and again at one place of a camera: repeats run=outputs/latest
  refilter    with a stricter filter, as a run of its own: refilter run=outputs/latest min_score=0.7
  export      into another program's format: export run=outputs/latest to=coco
  crops       each box as a picture, in its class's folder: crops run=outputs/latest
  verify      whether the folder holds what was committed: verify run=outputs/latest

visionbatch VERB --help lists the settings. Example: visionbatch run task=detect input=~/photos
"""
REVIEW = (
    "compare",
    "crops",
    "drift",
    "evaluate",
    "export",
    "refilter",
    "repeats",
    "report",
    "verify",
)  # modules below review/


def entry() -> int:
    """The program: what computes for long runs in a process that is watched."""
    arguments = sys.argv[1:]
    watched = _computes(arguments) and not {"-h", "--help"} & set(arguments)
    if not watched or TABLE_VARIABLE in os.environ:
        return main(arguments)
    try:
        return supervise(arguments)
    except OSError as error:
        return _fail(
            f"{error}: no runner could be started. TMPDIR= names another folder for temporary files.",
            1,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 complete, 1 failed, 2 refused, 3 locked, 4 out of space, 5 complete with bad images,
    6 damaged (verify), 7 drift, 130 and 143 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        format="%(levelname)s: %(message)s", stream=sys.stderr, level=logging.WARNING
    )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a file's name still gets the text
    logging.captureWarnings(True)  # libraries' warnings are for log_level=debug
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
    # How long OpenMP's threads spin for more work before they sleep: a fraction of a millisecond instead of several, in
    # which they would keep a core from the decoding threads whose turn it is.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    exit_with_supervisor()
    try:
        return _dispatch(given)
    except PipelineError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        if isinstance(
            error, BrokenPipeError
        ):  # the summary went to `head`; the run itself is complete
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        log.debug("the traceback", exc_info=error)
        where = (
            "" if given[:1] and given[0] in REVIEW else " log_level=debug shows where it happened."
        )
        intact = " Committed shards are intact." if _computes(given) else ""
        if is_disk_full(error):
            failure: PipelineError = OutOfSpace(
                f"The disk or quota is full ({error}). Free space and run again."
            )
        else:
            failure = PipelineError(f"{error}.{where}")
        return _fail(f"{failure}{intact}", failure.exit_code)
    except _Terminated:
        return _fail("Terminated." + _kept(given), 143)
    except KeyboardInterrupt:
        return _fail("Interrupted." + _kept(given), 130)


def _kept(arguments: list[str]) -> str:
    if arguments[:1] == ["train"]:
        return " The same command goes on from the last checkpoint."
    return (
        " Committed shards are kept; the same command goes on from there."
        if _computes(arguments)
        else ""
    )


def _computes(arguments: list[str]) -> bool:
    """Whether it commits shards, which a later call goes on from."""
    return arguments[:1] in (["run"], ["sweep"], ["element"])


def _dispatch(given: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], None]] = {
        verb: partial(_review, verb) for verb in REVIEW
    } | {
        "run": _run,
        "sweep": _sweep,
        "inspect": _inspect,
        "models": _models,
        "bench": _bench,
        "duplicates": _duplicates,
        "train": _train,
        "anchors": _anchors,
        "export-model": _export_model,
    }
    if given and given[0] in _FOR_EXECUTORS:
        _FOR_EXECUTORS[given[0]](given[1:])
        return 0
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if given else 2
    if given[0] not in verbs:
        raise ConfigError(
            f"unknown verb {given[0]!r}.{suggest_nearest(given[0], verbs)}\n\n{USAGE}"
        )
    if any(argument in ("-h", "--help") for argument in given[1:]):
        print(_help(given[0]))
        return 0
    verbs[given[0]](given[1:])
    return 0


def _run(arguments: list[str]) -> None:
    (job,) = run_jobs(arguments, _run_one)
    _check_images(job.ended)


def _check_images(ended: "RunResult") -> None:
    if ended.bad_images:
        said = f"{ended.bad_images:,} images are not usable; their rows in images/ say why (status, error)."
        raise BadImages(said)


def _element(arguments: list[str]) -> None:
    """`run` with settings that are complete: the element of an array job, which the executor `slurm` has made."""
    from pipeline.config.settings import Settings

    signal.signal(
        signal.SIGUSR2, signal.SIG_IGN
    )  # Slurm sends it to every process before the time is over; submitit acts
    _check_images(_run_one(apply_process_settings(Settings.from_plain(json.loads(arguments[0])))))


def _worker(arguments: list[str]) -> None:
    from pipeline.runs.workers.worker import run_worker

    run_worker()


_FOR_EXECUTORS = {"element": _element, "worker": _worker}


def _sweep(arguments: list[str]) -> None:
    """`truth=` is the sweep's own: what its runs are measured by at the end."""
    from pipeline.results.commands.sweep import summarize_sweep

    words = split_arguments(arguments)
    truths = [
        Path(word.removeprefix("truth=")).expanduser()
        for word in words
        if word.startswith("truth=")
    ]
    if truths and not truths[-1].exists():
        raise ConfigError(f"truth={truths[-1]}: there is no such file or folder.")
    jobs = run_jobs(
        [word for word in words if not word.startswith("truth=")],
        _run_one,
        refuse=lambda e: _fail(str(e), e.exit_code),
    )
    if runs := [job.run for job in jobs if job.run]:
        print(summarize_sweep(jobs, truths[-1] if truths else None, runs[0].parent), flush=True)
    if refused := [job.refused for job in jobs if job.refused]:
        raise type(refused[0])(
            f"{len(refused)} of the sweep's combinations were not run, for the reasons given above."
        )
    if incomplete := sum(job.ended.bad_images > 0 for job in jobs if job.ended):
        raise BadImages(
            f"{incomplete} of the sweep's combinations have images that are not usable."
        )


def _bench(arguments: list[str]) -> None:
    from pipeline.runs.bench.benchmark import run_benchmark

    run_jobs(arguments, _printed(run_benchmark))


def _duplicates(arguments: list[str]) -> None:
    from pipeline.runs.duplicates.skip import count_duplicates

    run_jobs(arguments, _printed(count_duplicates))


def _train(arguments: list[str]) -> None:
    from pipeline.training.train import train_model

    run_jobs(arguments, _printed(train_model))


def _anchors(arguments: list[str]) -> None:
    from pipeline.training.anchors.propose_anchors import propose_anchors

    run_jobs(arguments, _printed(propose_anchors))


def _export_model(arguments: list[str]) -> None:
    from pipeline.models.model_report import add_task_override
    from pipeline.training.export_model.command import export_and_compare

    run_jobs(add_task_override(split_arguments(arguments)), _printed(export_and_compare))


def _inspect(arguments: list[str]) -> None:
    from pipeline.models.model_report import add_task_override, format_model_report

    run_jobs(add_task_override(split_arguments(arguments)), _printed(format_model_report))


def _models(arguments: list[str]) -> None:
    from pipeline.models.model_report import format_catalogue

    given = dict(word.partition("=")[::2] for word in split_arguments(arguments))
    unknown = set(given) - {"task", "sort"}
    if unknown:
        raise ConfigError(f"models takes task= and sort=, not {', '.join(sorted(unknown))}.")
    print(format_catalogue(given.get("task"), given.get("sort", "accuracy")))


def _review(verb: str, arguments: list[str]) -> None:
    """A verb that reads finished runs: the module of its name below `review/`."""
    from pipeline.config.command_options import read_options

    module = import_module(f"pipeline.results.commands.{verb}")
    options = read_options(verb, arguments, module.Options)
    try:
        print(module.run_command(options), flush=True)
    except RunDrifted as drifted:
        print(drifted.text, flush=True)
        raise


def _help(verb: str) -> str:
    from pipeline.config.command_options import format_options

    if verb not in REVIEW:
        return (find_resource("conf") / "config.yaml").read_text()
    module = import_module(f"pipeline.results.commands.{verb}")
    return f"{module.__doc__}\n\n{format_options(module.Options)}\n"


def _run_one(settings: "Settings") -> "RunResult":
    from pipeline.run import run  # late: torch is not imported for a typo

    ended = run(settings)
    print(ended.text, flush=True)
    return ended


def _printed(action: "Callable[[Settings], str]") -> "Callable[[Settings], None]":
    return lambda settings: print(action(settings), flush=True)


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread so that everything is left in order."""


def _terminate(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise _Terminated


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """A terminal's Ctrl-C reaches this process twice, by itself and by the watcher; one is enough."""
    if TABLE_VARIABLE in os.environ:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _fail(message: str, code: int) -> int:
    print(f"visionbatch: {redact_secrets(message)}", file=sys.stderr)
    sys.stderr.flush()
    return code
