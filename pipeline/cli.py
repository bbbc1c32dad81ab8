"""The command line: find the verb, run it, and turn its error into a message and an exit code."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.config.failures import (
    report_failure,
    report_interruption,
    report_os_error,
    report_unexpected,
)
from pipeline.config.process import prepare_process, restart_in_utf8_mode, set_log_level
from pipeline.config.signals import Terminated, install_signal_handlers
from pipeline.config.verbs import (
    CATALOGUE_VERB,
    FINISHED_RUN_VERBS,
    MODEL_VERBS,
    RESUMABLE_VERBS,
    format_usage,
)
from pipeline.core.errors import BadImages, ConfigError, PipelineError, RunDrifted, suggest_nearest
from pipeline.core.inflight import TABLE_VARIABLE
from pipeline.runs.isolation.supervisor import exit_with_supervisor, supervise

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.config.sweep_outcomes import RunResult

_HELP = {"-h", "--help"}


def entry() -> int:
    """Run the program. The verbs that may run long get a supervised process."""
    restart_in_utf8_mode()
    arguments = sys.argv[1:]
    is_long = arguments[:1] and arguments[0] in RESUMABLE_VERBS and not _HELP & set(arguments)
    if not is_long or TABLE_VARIABLE in os.environ:
        return main(arguments)

    try:
        return supervise(arguments)
    except OSError as error:
        message = f"{error}: no process could be started. TMPDIR= names another temporary folder."
        return report_failure(message, PipelineError.exit_code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb in this process and return the exit code (listed in `config/failures.py`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare_process()
    install_signal_handlers()
    exit_with_supervisor()

    try:
        return _dispatch(given)
    except Terminated:
        return report_interruption("Terminated.", 143, given)
    except KeyboardInterrupt:
        return report_interruption("Interrupted.", 130, given)
    except Exception as error:  # noqa: BLE001 - users never see a traceback
        return _report_error(error, given)


def _report_error(error: Exception, given: Sequence[str]) -> int:
    """Explain an error to the user and return the exit code."""
    if isinstance(error, PipelineError):
        return report_failure(str(error), error.exit_code)
    if isinstance(error, BrokenPipeError):
        # The reader of the output, such as `head`, is gone. The run itself is complete.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError):
        return report_os_error(error, given)
    return report_unexpected(error, given)


def _dispatch(given: list[str]) -> int:
    verb, arguments = (given[0], given[1:]) if given else ("", [])

    if verb in _EXECUTOR_VERBS:
        _EXECUTOR_VERBS[verb](arguments)
    elif verb in ("", "-h", "--help", "help"):
        print(format_usage(), end="")
        return 0 if verb else ConfigError.exit_code
    elif verb not in _VERBS:
        hint = suggest_nearest(verb, _VERBS)
        raise ConfigError(f"unknown verb {verb!r}.{hint}\n\n{format_usage()}")
    elif _HELP & set(arguments):
        print(_format_help(verb))
    else:
        _VERBS[verb](arguments)
    return 0


def _format_help(verb: str) -> str:
    """Return the help of a verb: what it does, and its settings from their declarations."""
    from pipeline.config.command_options import format_options
    from pipeline.config.help_text import format_all_settings
    from pipeline.config.verb_options import CatalogueOptions, SweepOptions

    if verb in FINISHED_RUN_VERBS:
        module = import_module(f"pipeline.results.commands.{verb}")
        return f"{module.__doc__}\n\n{format_options(module.Options)}\n"

    usage = f"usage: visionbatch {verb} key=value ..."
    if verb == CATALOGUE_VERB:
        return f"{usage}\n\n{format_options(CatalogueOptions)}\n"

    blocks = [usage, f"{verb}: {MODEL_VERBS[verb]}"]
    if verb == "sweep":
        blocks.append(format_options(SweepOptions))
    return "\n\n".join([*blocks, format_all_settings(verb)]) + "\n"


# --- verbs that annotate images


def _run(arguments: list[str]) -> None:
    from pipeline.config.compose import compose_settings

    _raise_for_bad_images(_run_settings(compose_settings(_add_task_of_file(arguments))))


def _run_settings(settings: "Settings") -> "RunResult":
    from pipeline.run import run  # imports torch, so errors in settings come first

    set_log_level(settings.log_level)
    result = run(settings)
    print(result.text, flush=True)
    return result


def _raise_for_bad_images(result: "RunResult") -> None:
    if result.bad_images:
        raise BadImages(
            f"{result.bad_images:,} images are not usable; their rows in images/ say why "
            "(status, error)."
        )


def _run_element(arguments: list[str]) -> None:
    """Run one element of an array job with the settings that the executor `slurm` composed."""
    from pipeline.config.settings import Settings

    # Slurm sends SIGUSR2 to every process before the time limit; submitit's process handles it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    settings = Settings.from_plain(json.loads(arguments[0]))
    _raise_for_bad_images(_run_settings(settings))


def _run_worker(arguments: list[str]) -> None:
    """Compute the shards that another process sends."""
    from pipeline.runs.workers.worker import run_worker

    run_worker()


def _sweep(arguments: list[str]) -> None:
    """Run each combination, then print the table. `truth=` is for the table, not for the runs."""
    from pipeline.config.command_options import read_options
    from pipeline.config.overrides import split_arguments
    from pipeline.config.sweep import run_sweep
    from pipeline.config.verb_options import SweepOptions
    from pipeline.results.commands.sweep import summarize_sweep

    words = split_arguments(arguments)
    own_words = [word for word in words if word.startswith("truth=")]
    truth = read_options("sweep", own_words, SweepOptions).truth
    if truth and not truth.exists():
        raise ConfigError(f"truth={truth}: there is no such file or folder.")

    jobs = run_sweep(
        [word for word in words if word not in own_words],
        _run_settings,
        report_error=lambda error: report_failure(str(error), error.exit_code),
    )
    if runs := [job.run for job in jobs if job.run]:
        print(summarize_sweep(jobs, truth, runs[0].parent), flush=True)

    if errors := [job.error for job in jobs if job.error]:
        raise type(errors[0])(
            f"{len(errors)} of the sweep's combinations were not run, for the reasons given above."
        )
    if n_incomplete := sum(job.result.bad_images > 0 for job in jobs if job.result):
        raise BadImages(
            f"{n_incomplete} of the sweep's combinations have images that are not usable."
        )


# --- verbs that compose settings and print a text


def _inspect(arguments: list[str]) -> None:
    from pipeline.models.model_report import format_model_report

    _print_text(format_model_report, _add_task_of_builder(arguments))


def _duplicates(arguments: list[str]) -> None:
    from pipeline.runs.duplicates.command import count_duplicates

    _print_text(count_duplicates, arguments)


def _train(arguments: list[str]) -> None:
    from pipeline.training.train import train_model

    _print_text(train_model, arguments)


def _anchors(arguments: list[str]) -> None:
    from pipeline.training.anchors.propose_anchors import propose_anchors

    _print_text(propose_anchors, arguments)


def _export_model(arguments: list[str]) -> None:
    from pipeline.training.export_model.command import export_and_compare

    _print_text(export_and_compare, _add_task_of_builder(arguments))


def _bench(arguments: list[str]) -> None:
    from pipeline.runs.bench.benchmark import run_benchmark

    _print_text(run_benchmark, _add_task_of_file(arguments))


def _print_text(action: "Callable[[Settings], str]", arguments: list[str]) -> None:
    from pipeline.config.compose import compose_settings

    settings = compose_settings(arguments)
    set_log_level(settings.log_level)
    print(action(settings), flush=True)


def _add_task_of_builder(arguments: list[str]) -> list[str]:
    """Add a task that the named model serves, if the user named no task."""
    from pipeline.config.overrides import add_task_of_model
    from pipeline.models.model_report import find_builder_tasks

    words = _add_task_of_file(arguments)
    return add_task_of_model(words, find_builder_tasks)


def _add_task_of_file(arguments: list[str]) -> list[str]:
    """Add the task that the named model file was made for, if the user named no task."""
    from pipeline.config.overrides import add_task_of_model, split_arguments

    return add_task_of_model(split_arguments(arguments), _find_file_tasks)


def _find_file_tasks(model: str) -> Sequence[str]:
    if not re.search(r"\.\w+$|:", model):  # a name, not a file: do not wait for torch
        return []
    from pipeline.models.registry import find_file_tasks

    return find_file_tasks(model)


def _models(arguments: list[str]) -> None:
    from pipeline.config.command_options import read_options
    from pipeline.config.verb_options import CatalogueOptions
    from pipeline.models.model_report import format_catalogue

    options = read_options(CATALOGUE_VERB, arguments, CatalogueOptions)
    print(format_catalogue(options.task, options.sort))


# --- verbs that read finished runs


def _review(verb: str, arguments: list[str]) -> None:
    """Run the module of pipeline/results/commands that has the verb's name."""
    from pipeline.config.command_options import read_options

    module = import_module(f"pipeline.results.commands.{verb}")
    options = read_options(verb, arguments, module.Options)

    try:
        print(module.run_command(options), flush=True)
    except RunDrifted as drifted:
        print(drifted.text, flush=True)
        raise
    except (PipelineError, OSError):
        raise
    except Exception:
        _explain_damage(options)
        raise


def _explain_damage(options: object) -> None:
    """Raise RunDamaged if one of the runs in a verb's options differs from what was committed."""
    from pipeline.results.commands.verify import verify_run

    given = vars(options)
    for run in (given.get("run"), given.get("reference"), *(given.get("runs") or ())):
        if run is not None:
            verify_run(run)


_VERBS: dict[str, Callable[[list[str]], None]] = {
    "run": _run,
    "sweep": _sweep,
    "inspect": _inspect,
    "duplicates": _duplicates,
    "train": _train,
    "anchors": _anchors,
    "export-model": _export_model,
    "bench": _bench,
    CATALOGUE_VERB: _models,
    **{verb: partial(_review, verb) for verb in FINISHED_RUN_VERBS},
}

# Verbs that executors start; users do not.
_EXECUTOR_VERBS: dict[str, Callable[[list[str]], None]] = {
    "element": _run_element,
    "worker": _run_worker,
}
