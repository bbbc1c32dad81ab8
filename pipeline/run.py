"""READ THIS FIRST: a run from settings to committed files.

settings -> model (names only) -> source -> run folder -> plan -> model (weights) -> shards -> summary
"""

import logging
from collections import ChainMap
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import Any

from pipeline.addresses import place
from pipeline.agreement import measure
from pipeline.assemble import Parts, assemble, load_predictor, load_reference
from pipeline.board import Board
from pipeline.commit import RunFolder, point_latest
from pipeline.errors import ConfigError
from pipeline.identity import determinants, merge_record, record, run_name
from pipeline.parts import build
from pipeline.plan import Plan, freeze, load_plan, nothing_found
from pipeline.progress import Progress
from pipeline.report.write import leave_report
from pipeline.retry import retry_errors, with_errors
from pipeline.settings import Settings
from pipeline.shard import ShardRunner
from pipeline.skipping import skipped
from pipeline.summary import Ended, plan_text, summary
from pipeline.suspects import Suspects
from pipeline.timing import StageTimer
from pipeline.types import GivenUp

log = logging.getLogger(__name__)
_COMPARED = 32  # images on which an engine that is not exact is compared with fp32


def run(settings: Settings) -> Ended:
    """Annotate, or resume, or find it complete."""
    parts = assemble(settings)
    with closing(parts.source):
        return annotate(settings, parts)


def annotate(settings: Settings, parts: Parts) -> Ended:
    """The run folder, the plan, and the shards that are not complete yet."""
    determined_by = determinants(settings, parts.spec, parts.source, parts.engine)
    folder = RunFolder(place(settings.output) / run_name(determined_by))
    if settings.dry_run:
        return Ended(plan_text(settings, parts, load_plan(folder), folder))
    if not folder.exists() and next(parts.source.entries(), None) is None:
        raise ConfigError(nothing_found(parts.source))
    with folder.locked():
        plan = freeze(folder, parts.source, settings.shard_size, settings.limit, settings.changed == "accept")
        todo = remaining(plan, folder)
        again = with_errors(folder, plan) if settings.retry == "errors" else []
        runner = prepare(settings, parts, determined_by, plan, folder) if todo or again else None
        point_latest(folder.path)
        start = perf_counter()
        if runner:
            with runner.progress:
                build(settings.parts["executor"]).run(todo, runner.run)
                retry_errors(runner, again)
        seconds = perf_counter() - start
        if runner or not folder.store.has("report.html"):
            leave_report(folder)
    return summary(plan, folder, runner, seconds)


def remaining(plan: Plan, folder: RunFolder) -> list[int]:
    """The shards without a marker, in order."""
    folder.check_parts()
    done = folder.committed()
    return [shard_id for shard_id in range(plan.n_shards) if shard_id not in done]


def prepare(settings: Settings, parts: Parts, determined_by: dict[str, Any], plan: Plan, folder: RunFolder) -> ShardRunner:
    """Load the weights, write run.json, and put the runner together."""
    first, board = plan.shard(0), Board.here()
    suspects = Suspects(folder)
    if settings.retry == "errors" and not board.progress:
        suspects.forgive()
    suspects.learn(board.begin(folder.path.name), board)
    twins = skipped(settings, parts.source, plan, folder, suspects)
    given_up: Mapping[int, GivenUp] = ChainMap(suspects.given_up, twins)  # type: ignore[arg-type]  # nobody writes to it
    predictor = load_predictor(settings, parts, plan.n_images, first.entries, given_up)
    sha256 = predictor.loader.model.weights_sha256
    suspects.try_each(plan, predictor)
    this = record(settings, parts.spec, determined_by, sha256, parts.engine.device)
    folder.publish_json("run.json", merge_record(folder.local("run.json"), this))
    if not parts.engine.exact:
        sample = replace(first, entries=first.entries[:_COMPARED])
        agreement = measure(predictor, load_reference(settings, parts, predictor.loader), sample)
        folder.publish_json("agreement.json", agreement.record())
        log.info("%s", agreement.text())
    predictor.loader.timer = StageTimer()  # what follows is the run
    committed = folder.committed()
    done = sum(size for shard_id, size in plan.shard_sizes() if shard_id in committed)
    progress = Progress(done, plan.n_images, quiet=settings.log_level in ("warning", "error"), board=board)
    return ShardRunner(plan, folder, predictor, parts.sinks, progress)
