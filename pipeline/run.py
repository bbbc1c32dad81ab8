"""READ THIS FIRST: a run from settings to committed files.

settings -> model (names only) -> source -> run folder -> plan -> [executor: shards] -> report -> summary
"""

from contextlib import closing

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.config.sweep_outcomes import RunResult
from pipeline.core.errors import ConfigError
from pipeline.core.protocols import Executor
from pipeline.core.types import Writer
from pipeline.results.report.write import publish_report
from pipeline.runs.components import Components, build_components
from pipeline.runs.plan import Plan, describe_empty_input, freeze_plan
from pipeline.runs.retry import find_shards_with_errors
from pipeline.runs.session import RunSession
from pipeline.runs.summary import describe_plan, summarize_run


def run(settings: Settings) -> RunResult:
    """Annotate, or resume, or find it complete."""
    parts = build_components(settings)
    with closing(parts.source):
        return annotate(settings, parts)


def annotate(settings: Settings, parts: Components) -> RunResult:
    """The run folder, the plan, and the shards that are not complete yet, in the hands of the executor."""
    index, count = settings.shard.index, settings.shard.count
    executor: Executor = instantiate(settings.components["executor"])
    if executor.writer and (count > 1 or settings.retry):
        raise ConfigError(
            "shard= and retry= are for executor=local; leave them out, or say executor=local."
        )
    work = RunSession.of(settings, parts, executor.writer or Writer.for_shards(index, count))
    folder = work.folder
    if settings.dry_run:
        return RunResult(describe_plan(settings, parts, work.plan, folder) + executor.preview(work))
    check_input(work)
    with folder.lock():
        with folder.critical_section():
            work.plan = frozen(work)
        folder.check_parts()
        todo = work.remaining(index, count)
        work.retry_shards = (
            find_shards_with_errors(folder, work.plan, index, count)
            if settings.retry == "errors"
            else []
        )
        said = executor.run(todo, work) if todo or work.retry_shards else None
        with folder.critical_section():
            report(work, anew=bool(todo or work.retry_shards))
    return summarize_run(work, said)


def check_input(work: RunSession) -> None:
    """Before anything is written. Raises ConfigError where there is nothing to be done."""
    if work.settings.changed == "trust":
        if not work.plan.parts:
            raise ConfigError(
                f"changed=trust: {work.folder.path} has no plan to trust yet; leave it out once, and one is made. If one "
                "was made on a machine of another kind, say precision= and device= on both: they decide the folder's name."
            )
    elif not work.folder.exists() and next(work.parts.source.entries(), None) is None:
        raise ConfigError(describe_empty_input(work.parts.source))


def frozen(work: RunSession) -> Plan:
    """The plan: made, or compared with the input, or trusted."""
    settings = work.settings
    if settings.changed == "trust":
        return work.plan
    return freeze_plan(
        work.folder,
        work.parts.source,
        settings.shard_size,
        settings.limit,
        settings.changed == "accept",
    )


def report(work: RunSession, anew: bool) -> None:
    """By the writer who finds every shard complete: of several, the last. `anew`: also where there is one."""
    if not work.remaining() and (anew or not work.folder.store.contains("report.html")):
        publish_report(work.folder)
