"""From words on the command line to checked settings, by way of Hydra: one job, or a sweep's."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import Uri, parse_location
from pipeline.core.package_files import find_resource

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.config.settings import Settings
    from pipeline.core.locations import Location


@dataclass(frozen=True)
class Job:
    """One combination of settings, and what became of it."""

    settings: Mapping[str, str]  # as given
    ended: Any = None  # what the action returned
    refused: PipelineError | None = None

    @property
    def run(self) -> "Location | None":
        """The run folder that it has become."""
        return self.ended.run if self.ended else None


def run_jobs(
    arguments: Sequence[str],
    action: "Callable[[Settings], Any]",
    refuse: Callable[[PipelineError], object] | None = None,
) -> list[Job]:
    """Do it with the settings that the arguments make. With `refuse` commas make a sweep; a combination that fails is
    told to it and does not keep the others from being done. Raises what the action raises, and ConfigError.

    A launcher of Hydra's may do a sweep's jobs in processes of its own: `job` is sent there, and its outcome comes back as
    a file."""
    from pipeline.config.overrides import prepare_overrides

    sweep = refuse is not None
    overrides = prepare_overrides(arguments, sweep)
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    jobs: list[Job] = []
    output = _output(overrides)
    this, elsewhere = _process(), _shared_folder(output)

    def job(cfg: "DictConfig") -> None:
        composed = HydraConfig.get()
        given = dict(_plain(word) for word in composed.overrides.task)
        try:
            done = Job(given, action(_settings(cfg, composed.runtime.choices["task"])))
        except Exception as error:
            if refuse is None or not isinstance(error, PipelineError):
                raise _Carried(error) from error
            done = Job(given, refused=error)
            refuse(error)
        if _process() == this:
            jobs.append(done)
        else:
            from pipeline.config.sweep_outcomes import save_outcome

            save_outcome(elsewhere, composed.job.num, (given, done.ended, done.refused))

    # Hydra can note a sweep in files only
    noted = [f"hydra.sweep.dir='{tempfile.gettempdir()}'"] if isinstance(output, Uri) else []
    own = ["--multirun", *noted] if sweep else []
    program, sys.argv = sys.argv, ["visionbatch", *own, *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors then, and the messages are ours
    try:
        hydra.main(
            version_base="1.3", config_path=str(find_resource("conf")), config_name="config"
        )(job)()
    except _Carried as carried:
        raise carried.error from None
    except (HydraException, OmegaConfBaseException) as error:
        hint = " For a list write classes=[dog,cat]." if "Ambiguous value" in str(error) else ""
        raise ConfigError(
            f"The settings cannot be read: {str(error).splitlines()[0].rstrip('.')}.{hint}"
        ) from None
    finally:
        sys.argv = program
    if elsewhere.is_dir():
        from pipeline.config.sweep_outcomes import load_outcomes

        jobs += [Job(*outcome) for outcome in load_outcomes(elsewhere)]
    return jobs


def _process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _shared_folder(output: "Location") -> Path:
    """Below the output, which all processes of a sweep see; for an address on this machine, as Hydra's own notes."""
    base = Path(tempfile.gettempdir()) if isinstance(output, Uri) else output.absolute() / ".hydra"
    return base / f"outcomes-{uuid4().hex}"


def _output(words: Sequence[str]) -> "Location":
    given = [_plain(word)[1] for word in words if word.startswith("output=")]
    return parse_location(given[-1] if given else "outputs")


def _plain(word: str) -> tuple[str, str]:
    """A setting as it was typed, without the quotes that Hydra needs."""
    key, _, value = word.lstrip("+~").partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] == "'"
    return key, value[1:-1].replace("\\'", "'") if quoted else value


def _settings(cfg: "DictConfig", task: str) -> "Settings":
    from pipeline.config.settings import Settings

    return apply_process_settings(Settings.from_config(cfg, task))


def apply_process_settings(settings: "Settings") -> "Settings":
    """What of the settings holds for the process as a whole."""
    logging.getLogger("pipeline").setLevel(settings.log_level.upper())
    logging.getLogger("py.warnings").setLevel(
        logging.DEBUG if settings.log_level == "debug" else logging.ERROR
    )
    return settings


class _Carried(BaseException):
    """Takes an error through Hydra, which would print a traceback for an Exception and exit."""

    def __init__(self, error: Exception) -> None:
        self.error = error
