"""The shards of a run as work: for a runner in this process, or for workers elsewhere."""

import logging
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.config.settings import Settings
from pipeline.core.inflight import InFlightTable
from pipeline.core.locations import parse_location
from pipeline.core.types import ExcludedInput, Writer
from pipeline.inference.precision_check import measure_agreement
from pipeline.inference.predictor import Predictor
from pipeline.runs.components import Components, load_predictor, load_reference
from pipeline.runs.duplicates.skip import load_or_find_duplicates
from pipeline.runs.fingerprint import collect_determinants, make_run_name
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.retry import retry_failed_images
from pipeline.runs.run_folder import RunFolder, update_latest
from pipeline.runs.run_record import make_record, merge_record
from pipeline.runs.shard_writer import ShardRunner

log = logging.getLogger(__name__)
_COMPARED = 32  # images on which an engine that is not exact is compared with fp32


@dataclass
class RunSession:
    """What of a run is to be done, and after it, what was."""

    settings: Settings
    parts: Components
    determined_by: Mapping[str, Any]
    folder: RunFolder
    plan: Plan  # empty until it is frozen
    retry_shards: list[int] = field(
        default_factory=list
    )  # committed shards whose failed images are to be tried again
    runner: ShardRunner | None = field(
        default=None, init=False
    )  # of this process, when it has begun
    images: int = field(default=0, init=False)  # of this session
    seconds: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, settings: Settings, parts: Components, writer: Writer) -> "RunSession":
        """Nothing is written or read yet but names, and a plan if there is one."""
        determined_by = collect_determinants(settings, parts.spec, parts.source, parts.engine)
        folder = RunFolder(parse_location(settings.output) / make_run_name(determined_by), writer)
        return cls(settings, parts, determined_by, folder, load_plan(folder))

    def remaining(self, index: int = 0, count: int = 1) -> list[int]:
        """The shards without a marker, in order: all, or every `count`-th."""
        done = self.folder.committed_shards()
        return [
            shard_id for shard_id in range(index, self.plan.n_shards, count) if shard_id not in done
        ]

    def run_locally(self, shard_ids: Iterable[int]) -> None:
        """Do these shards in this process, and then what is to be tried again."""
        self.runner = runner = self.open(self.progress)
        with self.going(runner.progress):
            runner.run(shard_ids)
            retry_failed_images(runner, self.retry_shards)

    def plain(self) -> dict[str, Any]:
        """What a process elsewhere needs to do shards of it, as JSON can hold it."""
        return {
            "settings": self.settings.to_plain(),
            "run": self.folder.path.name,
            "folder": str(Path.cwd()),
        }

    def progress(self) -> ProgressBar:
        """A bar over the shards of this process, which begins with what is committed."""
        shard, committed = self.settings.shard, self.folder.committed_shards()
        mine = [(i, size) for i, size in self.plan.shard_sizes() if i % shard.count == shard.index]
        done = sum(size for shard_id, size in mine if shard_id in committed)
        quiet = self.settings.log_level in ("warning", "error")
        return ProgressBar(done, sum(size for _, size in mine), quiet, InFlightTable.attach())

    @contextmanager
    def going(self, progress: ProgressBar | None = None) -> Iterator[ProgressBar]:
        """While shards are being done, by whomever: the bar, and the time it takes."""
        progress, start = progress or self.progress(), perf_counter()
        try:
            with progress:
                yield progress
        finally:
            self.images, self.seconds = progress.images, perf_counter() - start

    def open(self, progress: Callable[[], ProgressBar]) -> ShardRunner:
        """Load the weights, write run.json, and put the runner together; the bar begins then."""
        settings, parts, folder, plan = self.settings, self.parts, self.folder, self.plan
        first, board = plan.read_shard(0), InFlightTable.attach()
        suspects = Quarantine(folder)
        if settings.retry == "errors" and not board.progress:
            suspects.release_all()
        suspects.record_death(board.start_run(folder.path.name), board)
        with folder.critical_section():
            duplicates = load_or_find_duplicates(settings, parts.source, plan, folder, suspects)
        given_up: Mapping[int, ExcludedInput] = ChainMap(suspects.excluded, duplicates)  # type: ignore[arg-type]  # nobody writes to it
        predictor = load_predictor(settings, parts, plan.n_images, first.entries, given_up)
        suspects.try_suspects(plan, predictor)
        self._record(predictor)
        if not parts.engine.is_exact:
            self._measure(predictor)
        return ShardRunner(plan, folder, predictor, parts.sinks, progress())

    def _record(self, predictor: Predictor) -> None:
        sha256 = predictor.weights_sha256
        this = make_record(
            self.settings,
            self.parts.spec,
            dict(self.determined_by),
            sha256,
            self.parts.engine.device,
        )
        with self.folder.critical_section():
            self.folder.publish_json("run.json", merge_record(self.folder.local("run.json"), this))
            update_latest(self.folder.path)

    def _measure(self, predictor: Predictor) -> None:
        """How far the engine is from fp32, on the plan's first images."""
        first = self.plan.read_shard(0)
        sample = replace(first, entries=first.entries[:_COMPARED])
        agreement = measure_agreement(
            predictor, load_reference(self.settings, self.parts, predictor), sample
        )
        self.folder.publish_json("agreement.json", agreement.to_record())
        log.info("%s", agreement.describe())
