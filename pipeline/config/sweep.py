"""Run a sweep: one job for each combination of comma-separated values."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline.config.compose import CONFIG_NAME, register_defaults, translate_hydra_errors
from pipeline.config.sweep_outcomes import RunResult, load_outcomes, save_outcome
from pipeline.config.word_grammar import from_hydra
from pipeline.core.errors import PipelineError
from pipeline.core.locations import Location, Uri, parse_location
from pipeline.core.package_files import find_resource

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.config.settings import Settings


@dataclass(frozen=True)
class Job:
    """One combination of settings, and its outcome."""

    settings: Mapping[str, str]  # as typed
    result: RunResult | None = None
    error: PipelineError | None = None

    @property
    def run(self) -> Location | None:
        """The run folder. None for a dry run and for a combination that failed."""
        return self.result.run if self.result else None


def run_sweep(
    arguments: Sequence[str],
    action: "Callable[[Settings], RunResult]",
    report_error: Callable[[PipelineError], object],
) -> list[Job]:
    """Call `action` with the settings of each combination.

    A combination that raises PipelineError does not stop the others. A Hydra launcher may run jobs
    in other processes. Then `run_job` is pickled and sent there, and it returns its outcome in a
    file.

    Args:
        arguments: `key=value` words, with commas between the values of the sweep.
        action: Runs one combination.
        report_error: Called with the error of a combination.

    Returns:
        The jobs of this process, then those of other processes.

    Raises:
        ConfigError: The words cannot be parsed as settings.
    """
    from pipeline.config.overrides import prepare_overrides

    overrides = prepare_overrides(arguments, sweep=True)
    import hydra
    from hydra.core.hydra_config import HydraConfig

    jobs: list[Job] = []
    output = _find_output(overrides)
    parent, outcomes = _identify_process(), _choose_outcomes_folder(output)

    def run_job(config: "DictConfig") -> None:
        from pipeline.config.settings import Settings

        composed = HydraConfig.get()
        typed = dict(_split_override(word) for word in composed.overrides.task)
        try:
            settings = Settings.from_config(config, composed.runtime.choices["task"])
            job = Job(typed, result=action(settings))
        except PipelineError as error:
            job = Job(typed, error=error)
            report_error(error)
        except Exception as error:
            raise _CarriedError(error) from error

        if _identify_process() == parent:
            jobs.append(job)
        else:
            save_outcome(outcomes, composed.job.num, (typed, job.result, job.error))

    # Hydra writes the files of a sweep to a disk, never to an object store.
    on_disk = [f"hydra.sweep.dir='{tempfile.gettempdir()}'"] if isinstance(output, Uri) else []
    register_defaults()
    try:
        with translate_hydra_errors(), _replace_arguments(["--multirun", *on_disk, *overrides]):
            conf = str(find_resource("conf"))
            hydra.main(version_base="1.3", config_path=conf, config_name=CONFIG_NAME)(run_job)()
    except _CarriedError as carried:
        raise carried.error from None

    if outcomes.is_dir():
        jobs += [Job(*outcome) for outcome in load_outcomes(outcomes)]
    return jobs


@contextmanager
def _replace_arguments(arguments: list[str]) -> Iterator[None]:
    """Replace `sys.argv`, from which Hydra reads the overrides of a sweep."""
    original, sys.argv = sys.argv, ["visionbatch", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
    try:
        yield
    finally:
        sys.argv = original


def _identify_process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _choose_outcomes_folder(output: Location) -> Path:
    """Choose a folder below the output, because all processes of a sweep can see the output.

    If the output is an address of an object store, the folder is on this machine.
    """
    base = Path(tempfile.gettempdir()) if isinstance(output, Uri) else output.absolute() / ".hydra"
    return base / f"outcomes-{uuid4().hex}"


def _find_output(overrides: Sequence[str]) -> Location:
    values = [_split_override(word)[1] for word in overrides if word.startswith("output=")]
    return parse_location(values[-1] if values else "outputs")


def _split_override(word: str) -> tuple[str, str]:
    """Return a setting's name and its value as typed, without the quotes that Hydra needs."""
    key, _, value = word.lstrip("+~").partition("=")
    return key, from_hydra(value)


class _CarriedError(BaseException):
    """Carries an error through Hydra, which prints a traceback and exits for any `Exception`."""

    def __init__(self, error: Exception) -> None:
        self.error = error
