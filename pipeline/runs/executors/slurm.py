"""Shards as an array job of a Slurm cluster: each element is the program that a user starts, with `shard.index`."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.locations import Uri, parse_location
from pipeline.core.protocols import Work
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Writer
from pipeline.runs.isolation.supervisor import supervise

_TIMEOUTS = 100  # how often an element is queued again: each time it commits more of its shards
_COMPLETE = (0, 5)  # exit codes; 5: with bad images
_ROOT = Path(__file__).parents[3]  # where this package is, if it is not installed


@dataclass(frozen=True)
class ArrayElement:
    """What submitit starts on a node, by its pickle; queued again as it is."""

    settings: str  # as JSON

    def __call__(self) -> int:
        """The exit code. Raises PipelineError where the part is not complete, so that Slurm says that the element failed."""
        code = supervise(["element", self.settings])
        if code not in _COMPLETE:
            raise PipelineError(f"The element ended with exit code {code}; its log says why.")
        return code

    def checkpoint(self) -> Any:
        """Asked for by submitit before the time is over or the node is taken away; what is committed is kept."""
        return _submitit().helpers.DelayedSubmission(self)


class Slurm:
    """This process plans, submits, and ends."""

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
        options = {"gpus_per_node": gpus_per_node, "cpus_per_task": cpus_per_task, "mem_gb": mem_gb}
        options |= {"partition": partition, "account": account}  # type: ignore[dict-item]
        self.options = {name: value for name, value in options.items() if value is not None}
        # a name among those of the elements, which may begin while this process still holds the folder
        self.writer = Writer(f"planner-of-{nodes}")
        _submitit()

    def preview(self, work: Work) -> str:
        """The script, as it would be submitted."""
        from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

        names: Any = SlurmExecutor._equivalence_dict()
        options: dict[str, Any] = {
            names.get(name, name): value for name, value in self._options(work).items()
        }
        if "mem" in options:
            options["mem"] = f"{options['mem']}GB"
        if self.nodes > 1:
            options["map_count"] = self.nodes
        folder = _folder(work)
        command = (
            f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
        )
        return "\n\n" + _make_sbatch_string(command=command, folder=folder, **options)

    def run(self, shard_ids: Sequence[int], work: Work) -> str:
        submitit = _submitit()
        folder = _folder(work)
        try:
            executor = submitit.AutoExecutor(
                folder, cluster=self.cluster, slurm_max_num_timeout=_TIMEOUTS
            )
            own = {
                "timeout_min",
                "name",
                "nodes",
                "gpus_per_node",
                "cpus_per_task",
                "mem_gb",
                "tasks_per_node",
            }
            options = self._options(work).items()
            executor.update_parameters(
                **{name if name in own else f"slurm_{name}": value for name, value in options}
            )
            with executor.batch():
                jobs = [executor.submit(element) for element in self._elements(work)]
        except (
            RuntimeError,
            submitit.core.utils.FailedSubmissionError,
            submitit.core.utils.FailedJobError,
        ) as error:
            raise ConfigError(f"executor=slurm: nothing was submitted: {error}") from None
        job = jobs[0].job_id.partition("_")[0]
        rows = {
            "script, logs": f"{folder}/",
            "watch": f"squeue --job {job}",
            "stop": f"scancel {job}",
            "afterwards": "the same command again: it says Complete, or submits what is still missing",
        }
        if self.cluster == "local":
            rows = {"logs": rows["script, logs"], "processes": " ".join(one.job_id for one in jobs)}
        return f"Submitted: job {job}, {self.nodes} elements for {len(shard_ids):,} shards\n{format_pairs(rows)}"

    def _elements(self, work: Work) -> Iterator[ArrayElement]:
        settings = work.plain()["settings"]
        components = {
            **settings["parts"],
            "executor": {"_target_": "pipeline.runs.executors.local.Local"},
        }
        for index in range(self.nodes):
            own = {
                "parts": components,
                "changed": "trust",
                "shard": {"index": index, "count": self.nodes},
            }
            yield ArrayElement(json.dumps({**settings, **own}))

    def _options(self, work: Work) -> dict[str, Any]:
        """By submitit's names."""
        path = f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{shlex.quote(str(_ROOT))}'
        fixed = {
            "name": work.plain()["run"],
            "nodes": 1,
            "tasks_per_node": 1,
            "timeout_min": self.minutes,
        }
        return {**fixed, **self.options, "setup": [*self.setup, path]}


def _folder(work: Work) -> Path:
    """Beside the run folder, not in it; of a run in a store below ./outputs, which the nodes must share then. Absolute: the
    job may begin elsewhere."""
    plain = work.plain()
    output = parse_location(plain["settings"]["output"])
    return (
        (Path("outputs") if isinstance(output, Uri) else output).absolute()
        / ".slurm"
        / plain["run"]
    )


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ConfigError(
            "executor=slurm needs submitit: pip install 'visionbatch[slurm]', or say executor=local."
        ) from None
    return submitit
