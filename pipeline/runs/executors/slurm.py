"""Compute shards in an array job of a Slurm cluster.

Each element of the array runs the program that a user starts, with a `shard.index` of its own.
"""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.locations import Uri, parse_location
from pipeline.core.protocols import ExecutionResult, ShardJob
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Writer
from pipeline.runs.isolation.supervisor import supervise

_MAX_REQUEUES = 100  # of an element; each time it commits more of its shards
# Slurm warns an element so long before its time limit, but a quarter of a shorter limit: an element
# that is warned as it starts would be queued again and again.
_WARNING_S = 90
_COMPLETE_EXIT_CODES = (0, 5)  # 5: some images failed
_PACKAGE_PARENT = Path(__file__).parents[3]  # for PYTHONPATH, where the package is not installed
# Options that submitit takes under the same name for every cluster. Others get the prefix `slurm_`.
_COMMON_OPTIONS = (
    "name",
    "nodes",
    "tasks_per_node",
    "timeout_min",
    "gpus_per_node",
    "cpus_per_task",
    "mem_gb",
)


@dataclass(frozen=True)
class ArrayElement:
    """The callable that submitit pickles, starts on a node and queues again after a timeout.

    Attributes:
        settings: The settings of the element, as JSON.
    """

    settings: str

    def __call__(self) -> int:
        """Compute the element's shards and return the exit code.

        Raises:
            SystemExit: The part is not complete. Slurm then shows the element as failed, with this
                exit code.
        """
        code = supervise(["element", self.settings])
        if code not in _COMPLETE_EXIT_CODES:
            message = f"visionbatch: The element ended with exit code {code}; its log says why."
            print(message, file=sys.stderr, flush=True)
            raise SystemExit(code)
        return code

    def checkpoint(self) -> Any:
        """Return the job to queue again after the time limit or the loss of the node."""
        return _import_submitit().helpers.DelayedSubmission(self)


class Slurm:
    """Plans the run in this process, submits an array job, and ends.

    Args:
        nodes: Number of array elements.
        minutes: Time limit of an element; it is queued again when the time is over.
        cluster: `slurm`, or `local` for processes on this machine.
        setup: Shell lines that run before the program.
        gpus_per_node, cpus_per_task, mem_gb, partition, account: Slurm's options. None leaves an
            option out.

    Raises:
        ConfigError: A setting is impossible, or submitit is not installed.
    """

    def __init__(
        self,
        nodes: int,
        minutes: int,
        cluster: str,
        setup: Sequence[str],
        gpus_per_node: int | None,
        cpus_per_task: int | None,
        mem_gb: int | None,
        partition: str | None,
        account: str | None,
    ) -> None:
        for name, value in {"nodes": nodes, "minutes": minutes}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(
                    f"executor.{name}={value}: expected a whole number, 1 or more, got {value!r}."
                )
        if cluster not in ("slurm", "local"):
            raise ConfigError(
                f"executor.cluster={cluster}: expected slurm or local, got {cluster!r}."
            )
        if isinstance(setup, str) or not all(isinstance(line, str) for line in setup):
            raise ConfigError(
                f"executor.setup={setup}: expected a list of lines of shell, got {setup!r}."
            )
        self.nodes, self.minutes, self.cluster, self.setup = nodes, minutes, cluster, setup
        options: dict[str, Any] = {
            "gpus_per_node": gpus_per_node,
            "cpus_per_task": cpus_per_task,
            "mem_gb": mem_gb,
            "partition": partition,
            "account": account,
        }
        self.options = {name: value for name, value in options.items() if value is not None}
        # The elements accept this name beside them, because they may start before this process
        # ends.
        self.writer = Writer(f"planner-of-{nodes}")
        _import_submitit()

    def preview(self, order: Mapping[str, Any]) -> str:
        """Return the script that would be submitted."""
        from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

        names: Any = SlurmExecutor._equivalence_dict()
        options: dict[str, Any] = {
            names.get(name, name): value for name, value in self._make_options(order).items()
        }
        if "mem" in options:
            options["mem"] = f"{options['mem']}GB"
        if self.nodes > 1:
            options["map_count"] = self.nodes
        folder = _get_job_folder(order)
        command = (
            f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
        )
        return "\n\n" + _make_sbatch_string(command=command, folder=folder, **options)

    def run(self, shard_ids: Sequence[int], job: ShardJob) -> ExecutionResult:
        """Submit the array job. Raises ConfigError where nothing could be submitted."""
        submitit, folder = _import_submitit(), _get_job_folder(job.order)
        try:
            executor = submitit.AutoExecutor(
                folder, cluster=self.cluster, slurm_max_num_timeout=_MAX_REQUEUES
            )
            options = self._make_options(job.order).items()
            executor.update_parameters(
                **{
                    name if name in _COMMON_OPTIONS else f"slurm_{name}": value
                    for name, value in options
                }
            )
            with executor.batch():
                jobs = [executor.submit(element) for element in self._make_elements(job.order)]
        except (
            RuntimeError,
            submitit.core.utils.FailedSubmissionError,
            submitit.core.utils.FailedJobError,
        ) as error:
            raise ConfigError(f"executor=slurm: nothing was submitted: {error}") from None
        job_ids = [element.job_id for element in jobs]
        return ExecutionResult(message=self._describe_job(job_ids, folder, len(shard_ids)))

    def _describe_job(self, job_ids: Sequence[str], folder: Path, n_shards: int) -> str:
        """Tell the user how to watch and stop the job."""
        array_id = job_ids[0].partition("_")[0]
        if self.cluster == "local":
            rows = {"logs": f"{folder}/", "processes": " ".join(job_ids)}
        else:
            rows = {
                "script, logs": f"{folder}/",
                "watch": f"squeue --job {array_id}",
                "stop": f"scancel {array_id}",
                "afterwards": "the same command again: it says Complete, or submits what is still "
                "missing",
            }
        title = f"Submitted: job {array_id}, {self.nodes} elements for {n_shards:,} shards"
        return f"{title}\n{format_pairs(rows)}"

    def _make_elements(self, order: Mapping[str, Any]) -> Iterator[ArrayElement]:
        """Yield one element per node: a local run of every `nodes`-th shard of the frozen plan."""
        settings = order["settings"]
        components = {
            **settings["parts"],
            "executor": {"_target_": "pipeline.runs.executors.local.Local"},
        }
        for index in range(self.nodes):
            changes = {
                "parts": components,
                "changed": "trust",
                "shard": {"index": index, "count": self.nodes},
            }
            yield ArrayElement(json.dumps({**settings, **changes}))

    def _make_options(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return the job's options under submitit's names."""
        package = shlex.quote(str(_PACKAGE_PARENT))
        path = f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{package}'
        fixed = {
            "name": order["run"],
            "nodes": 1,
            "tasks_per_node": 1,
            "timeout_min": self.minutes,
            "signal_delay_s": min(_WARNING_S, self.minutes * 60 // 4),
        }
        return {**fixed, **self.options, "setup": [*self.setup, path]}


def _get_job_folder(order: Mapping[str, Any]) -> Path:
    """Return the absolute path of the folder for the script and the logs.

    It is beside the run folder. For a run in an object store it is below ./outputs, which the nodes
    must share. The path is absolute because jobs start in another folder.
    """
    output = parse_location(order["settings"]["output"])
    parent = Path("outputs") if isinstance(output, Uri) else output
    return parent.absolute() / ".slurm" / order["run"]


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "executor=slurm needs submitit: pip install 'visionbatch[slurm]', or say "
            "executor=local."
        ) from None
    return submitit
