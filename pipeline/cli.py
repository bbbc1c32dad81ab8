"""Verbs -> functions. Errors become one message and an exit code here, and nowhere else."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.board import VARIABLE
from pipeline.errors import BadImages, ConfigError, OutOfSpace, PipelineError, is_full, nearest
from pipeline.memory import keep_freed_memory
from pipeline.resources import resource
from pipeline.supervise import end_with_the_watcher, supervise

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.settings import Settings
    from pipeline.summary import Ended

    Action = Callable[[Settings], str | Ended]

log = logging.getLogger(__name__)

USAGE = """usage: visionbatch VERB key=value ...

  run     annotate images, or go on where an interrupted run stopped
  sweep   one run per combination of comma-separated values
  inspect what a model sees, costs and was measured to be: inspect task=detect model=NAME classes=[dog]
  bench   how fast this machine is at it, beside plain loops and what its hardware allows: bench task=classify
  models  the catalogue as a table: models task=segment sort=accuracy (or gflops, params, size, name)

Of a finished run, without its model:

  compare  what changed between two runs: compare runs=[A,B]
  crops    each box as a picture, in a folder for each class: crops run=outputs/latest margin=0.1
  drift    are images and detections still like those of a reference? drift run=NEW reference=OLD
  export   into another program's format: export run=outputs/latest to=coco
  refilter with a stricter filter, as a run of its own: refilter run=outputs/latest min_score=0.7
  repeats  boxes that come again and again at one place of a camera's images: repeats run=outputs/latest
  verify   whether the folder holds what was committed: verify run=outputs/latest

visionbatch VERB --help lists the settings. Example: visionbatch run task=detect input=~/photos
"""
REVIEW = ("compare", "crops", "drift", "export", "refilter", "repeats", "verify")  # modules below review/


def entry() -> int:
    """The program: what computes for long runs in a process that is watched."""
    arguments = sys.argv[1:]
    watched = arguments[:1] in (["run"], ["sweep"]) and not {"-h", "--help"} & set(arguments)
    if not watched or VARIABLE in os.environ:
        return main(arguments)
    try:
        return supervise(arguments)
    except OSError as error:
        return _fail(f"{error}: no runner could be started. TMPDIR= names another folder for temporary files.", 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 complete, 1 failed, 2 refused, 3 locked, 4 out of space, 5 complete with bad images,
    6 damaged (verify), 7 drift, 130 and 143 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr, level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a file's name still gets the text
    logging.captureWarnings(True)  # libraries' warnings are for log_level=debug
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch is imported
    # How long OpenMP's threads spin for more work before they sleep: a fraction of a millisecond instead of several, in
    # which they would keep a core from the decoding threads whose turn it is.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    end_with_the_watcher()
    try:
        return _dispatch(given)
    except PipelineError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the summary went to `head`; the run itself is complete
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        log.debug("the traceback", exc_info=error)
        if is_full(error):
            failure: PipelineError = OutOfSpace(f"The disk or quota is full ({error}). Free space and run again.")
        else:
            failure = PipelineError(f"{error}. log_level=debug shows where it happened.")
        return _fail(f"{failure} Committed shards are intact.", failure.exit_code)
    except _Terminated:
        return _fail("Terminated. Committed shards are kept; the same command goes on from there.", 143)
    except KeyboardInterrupt:
        return _fail("Interrupted. Committed shards are kept; the same command goes on from there.", 130)


def _dispatch(given: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], None]] = {verb: partial(_review, verb) for verb in REVIEW} | {
        "run": _run,
        "sweep": _sweep,
        "inspect": _inspect,
        "models": _models,
        "bench": _bench,
    }
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if given else 2
    if given[0] not in verbs:
        raise ConfigError(f"unknown verb {given[0]!r}.{nearest(given[0], verbs)}\n\n{USAGE}")
    if any(argument in ("-h", "--help") for argument in given[1:]):
        print(_help(given[0]))
        return 0
    verbs[given[0]](given[1:])
    return 0


def _run(arguments: list[str]) -> None:
    _hydra(arguments, _run_one)


def _sweep(arguments: list[str]) -> None:
    _hydra(arguments, _run_one, sweep=True)


def _bench(arguments: list[str]) -> None:
    from pipeline.bench.measure import bench_text

    _hydra(arguments, bench_text)


def _inspect(arguments: list[str]) -> None:
    from pipeline.inspect import inspect_text, with_task
    from pipeline.overrides import split_arguments

    _hydra(with_task(split_arguments(arguments)), inspect_text)


def _models(arguments: list[str]) -> None:
    from pipeline.inspect import catalogue_text
    from pipeline.overrides import split_arguments

    given = dict(word.partition("=")[::2] for word in split_arguments(arguments))
    unknown = set(given) - {"task", "sort"}
    if unknown:
        raise ConfigError(f"models takes task= and sort=, not {', '.join(sorted(unknown))}.")
    print(catalogue_text(given.get("task"), given.get("sort", "accuracy")))


def _review(verb: str, arguments: list[str]) -> None:
    """A verb that reads finished runs: the module of its name below `review/`."""
    from pipeline.options import read_options

    module = import_module(f"pipeline.review.{verb}")
    print(module.review(read_options(verb, arguments, module.Options)), flush=True)


def _help(verb: str) -> str:
    from pipeline.options import options_text

    if verb not in REVIEW:
        return (resource("conf") / "config.yaml").read_text()
    module = import_module(f"pipeline.review.{verb}")
    return f"{module.__doc__}\n\n{options_text(module.Options)}\n"


def _hydra(arguments: list[str], action: "Action", sweep: bool = False) -> None:
    from pipeline.overrides import prepare

    overrides = prepare(arguments, sweep)
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    refused: list[PipelineError] = []
    incomplete: list[PipelineError] = []

    def job(cfg: "DictConfig") -> None:
        try:
            _act(cfg, HydraConfig.get().runtime.choices["task"], action)
        except Exception as error:
            if not sweep or not isinstance(error, PipelineError):
                raise _Carried(error) from error
            ended = incomplete if isinstance(error, BadImages) else refused
            ended.append(error)  # the other combinations are not to blame
            _fail(str(error), error.exit_code)

    program, sys.argv = sys.argv, ["visionbatch", *(["--multirun"] if sweep else []), *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors then, and the messages are ours
    try:
        hydra.main(version_base="1.3", config_path=str(resource("conf")), config_name="config")(job)()
    except _Carried as carried:
        raise carried.error from None
    except (HydraException, OmegaConfBaseException) as error:
        hint = " For a list write classes=[dog,cat]." if "Ambiguous value" in str(error) else ""
        raise ConfigError(f"The settings cannot be read: {str(error).splitlines()[0].rstrip('.')}.{hint}") from None
    finally:
        sys.argv = program
    if refused:
        raise type(refused[0])(f"{len(refused)} of the sweep's combinations were not run, for the reasons given above.")
    if incomplete:
        raise BadImages(f"{len(incomplete)} of the sweep's combinations have images that are not usable.")


def _run_one(settings: "Settings") -> "Ended":
    from pipeline.run import run  # late: torch is not imported for a typo

    return run(settings)


def _act(cfg: "DictConfig", task: str, action: "Action") -> None:
    from pipeline.settings import Settings

    settings = Settings.from_config(cfg, task)
    logging.getLogger("pipeline").setLevel(settings.log_level.upper())
    logging.getLogger("py.warnings").setLevel(logging.DEBUG if settings.log_level == "debug" else logging.ERROR)
    ended = action(settings)
    if isinstance(ended, str):
        print(ended, flush=True)
        return
    print(ended.text, flush=True)
    if ended.bad_images:
        raise BadImages(f"{ended.bad_images:,} images are not usable; their rows in images/ say why (status, error).")


class _Carried(BaseException):
    """Takes an error of ours through Hydra, which would print a traceback for an Exception and exit."""

    def __init__(self, error: Exception) -> None:
        self.error = error


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
    if VARIABLE in os.environ:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _fail(message: str, code: int) -> int:
    print(f"visionbatch: {message}", file=sys.stderr)
    sys.stderr.flush()
    return code
