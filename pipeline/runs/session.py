"""The session of one call of `run`: holds settings, components, run folder and plan."""

import logging
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline.config.settings import Settings
from pipeline.core.inflight import InFlightTable
from pipeline.core.locations import parse_location
from pipeline.core.protocols import ExecutionResult, ShardJob
from pipeline.core.types import ExcludedInput, Shard, Writer
from pipeline.inference.precision_check import measure_agreement
from pipeline.inference.predictor import Predictor
from pipeline.runs.components import Components, load_predictor, load_reference
from pipeline.runs.duplicates.skip import load_or_find_duplicates
from pipeline.runs.fingerprint import collect_determinants, make_run_name
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.pictures import PictureDrawer, ShardPictures, find_lacking_pictures
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.progress import ProgressBar
from pipeline.runs.retry import retry_failed_images
from pipeline.runs.run_folder import RunFolder, update_latest
from pipeline.runs.run_record import make_record, merge_record
from pipeline.runs.shard_writer import ShardRunner

log = logging.getLogger(__name__)
_COMPARED_IMAGES = 32  # images on which an inexact engine is compared with fp32


@dataclass(frozen=True)
class RunSession:
    """The settings, components, run folder and plan of a run, in one process."""

    settings: Settings
    parts: Components
    determined_by: Mapping[str, Any]  # the content of the fingerprint
    folder: RunFolder
    plan: Plan  # without parts until it is frozen

    @classmethod
    def create(cls, settings: Settings, parts: Components, writer: Writer) -> "RunSession":
        """Find the run folder and read its plan if there is one. Writes nothing."""
        determined_by = collect_determinants(settings, parts.spec, parts.source, parts.engine)
        folder = RunFolder(parse_location(settings.output) / make_run_name(determined_by), writer)
        return cls(settings, parts, determined_by, folder, load_plan(folder))

    def freeze_plan(self) -> "RunSession":
        """Return this session with a plan that is new, compared with the input, or trusted."""
        settings = self.settings
        if settings.changed == "trust":
            return self
        accept_changes = settings.changed == "accept"
        plan = freeze_plan(
            self.folder, self.parts.source, settings.shard_size, settings.limit, accept_changes
        )
        if passed_over := self.parts.source.passed_over.describe():
            log.info("Passed over in the input: %s", passed_over)
        return replace(self, plan=plan)

    def list_uncommitted(self, index: int = 0, count: int = 1) -> list[int]:
        """Return the shards without a marker, in order.

        Only every `count`-th shard is looked at, beginning with `index`.
        """
        committed = self.folder.committed_shards()
        shard_ids = range(index, self.plan.n_shards, count)
        return [shard_id for shard_id in shard_ids if shard_id not in committed]

    def make_order(self) -> dict[str, Any]:
        """Describe the run for a worker in another process, with JSON types only."""
        return {
            "settings": self.settings.to_plain(),
            "run": self.folder.path.name,
            "folder": str(Path.cwd()),
        }

    def make_job(self, retry_shards: Sequence[int]) -> ShardJob:
        """Return what an executor needs.

        `retry_shards` are computed after its shards, in this process.
        """
        run_here = partial(self.run_shards, retry_shards=retry_shards)
        return ShardJob(run_here, self.make_order(), self.create_progress_bar)

    def run_shards(
        self, shard_ids: Iterable[int], retry_shards: Sequence[int] = ()
    ) -> ExecutionResult:
        """Load the model in this process, compute these shards, then retry failed images."""
        runner = self.open_runner(self.create_progress_bar)
        start = perf_counter()
        with runner.progress:
            runner.run(shard_ids)
            retry_failed_images(runner, retry_shards)
        return ExecutionResult(
            images=runner.progress.images,
            seconds=perf_counter() - start,
            stage_seconds=runner.timer.total_seconds(),
            decode_workers=runner.predictor.decode_workers,
        )

    def find_lacking_pictures(self) -> list[ShardPictures]:
        """Return which committed shards of this process lack pictures that the settings ask for."""
        shard = self.settings.shard
        return find_lacking_pictures(
            self.folder, self.plan, self.parts.sinks, shard.index, shard.count
        )

    def draw_pictures(self, lacking: Sequence[ShardPictures]) -> int:
        """Draw lacking pictures from committed rows. Returns the number of images drawn."""
        if not lacking:
            return 0
        log.info("Drawing pictures of %d committed shards; no model is loaded.", len(lacking))
        n_images = sum(pictures.n_images for pictures in lacking)
        progress = ProgressBar(0, n_images, self._is_quiet(), InFlightTable.attach())
        drawer = PictureDrawer(self.settings, self.parts, self.folder, self.plan)
        return drawer.draw(lacking, progress)

    def create_progress_bar(self) -> ProgressBar:
        """Return a progress bar over the shards of this process, committed ones included."""
        shard, committed = self.settings.shard, self.folder.committed_shards()
        sizes = {i: n for i, n in self.plan.shard_sizes() if i % shard.count == shard.index}
        done = sum(n for shard_id, n in sizes.items() if shard_id in committed)
        return ProgressBar(done, sum(sizes.values()), self._is_quiet(), InFlightTable.attach())

    def open_runner(self, create_progress_bar: Callable[[], ProgressBar]) -> ShardRunner:
        """Load the model, write run.json and return a runner whose progress bar begins now."""
        settings, parts, plan = self.settings, self.parts, self.plan
        quarantine = self._open_quarantine()
        with self.folder.critical_section():
            duplicates = load_or_find_duplicates(
                settings, parts.source, plan, self.folder, quarantine
            )
        # ChainMap only reads its mappings here, although its type asks for mutable ones.
        excluded: Mapping[int, ExcludedInput] = ChainMap(quarantine.excluded, duplicates)  # type: ignore[arg-type]

        first_entries = plan.read_shard(0).entries
        predictor = load_predictor(settings, parts, plan.n_images, first_entries, excluded)
        quarantine.try_suspects(plan, partial(_predict_alone, predictor))

        self._write_record(predictor)
        if not parts.engine.is_exact:
            self._measure_agreement(predictor)
        return ShardRunner(plan, self.folder, predictor, parts.sinks, create_progress_bar())

    def _open_quarantine(self) -> Quarantine:
        """Return the quarantine, with the inputs that killed the previous process of this run."""
        in_flight, quarantine = InFlightTable.attach(), Quarantine(self.folder)
        if self.settings.retry == "errors" and not in_flight.progress:
            quarantine.release_all()
        quarantine.record_death(in_flight.start_run(self.folder.path.name), in_flight)
        return quarantine

    def _write_record(self, predictor: Predictor) -> None:
        """Write run.json, or add the differences of this session, and point `latest` to the run."""
        record = make_record(
            self.settings,
            self.parts.spec,
            dict(self.determined_by),
            predictor.weights_sha256,
            self.parts.engine.device,
        )
        with self.folder.critical_section():
            merged = merge_record(self.folder.local("run.json"), record)
            self.folder.publish_json("run.json", merged)
            update_latest(self.folder.path)

    def _measure_agreement(self, predictor: Predictor) -> None:
        """Compare the engine with fp32 on the plan's first images and record the differences."""
        first = self.plan.read_shard(0)
        sample = replace(first, entries=first.entries[:_COMPARED_IMAGES])
        reference = load_reference(self.settings, self.parts, predictor)
        agreement = measure_agreement(predictor, reference, sample)
        self.folder.publish_json("agreement.json", agreement.to_record())
        log.info("%s", agreement.describe())

    def _is_quiet(self) -> bool:
        return self.settings.log_level in ("warning", "error")


def _predict_alone(predictor: Predictor, alone: Shard) -> None:
    with closing(predictor.predict([alone])) as outcomes:
        for _ in outcomes:
            pass
