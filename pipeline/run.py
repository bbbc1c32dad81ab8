"""READ THIS FIRST: a run from settings to committed files.

settings -> components -> run folder -> plan -> [executor: shards] -> pictures -> report -> summary
"""

from contextlib import closing

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.config.sweep_outcomes import RunResult
from pipeline.core.errors import ConfigError
from pipeline.core.protocols import ExecutionResult, Executor
from pipeline.core.types import Writer
from pipeline.results.report.write import publish_report
from pipeline.runs.components import Components, build_components
from pipeline.runs.plan_freezing import describe_empty_input
from pipeline.runs.retry import find_shards_with_errors
from pipeline.runs.session import RunSession
from pipeline.runs.summary import describe_plan, summarize_run


def run(settings: Settings) -> RunResult:
    """Start a run, resume it, or report that it is complete."""
    parts = build_components(settings)
    with closing(parts.source):
        return annotate(settings, parts)


def annotate(settings: Settings, parts: Components) -> RunResult:
    """Freeze the plan and let the executor compute the shards that are not committed."""
    shard = settings.shard
    executor: Executor = instantiate(settings.components["executor"])
    check_executor(executor, settings)
    writer = executor.writer or Writer.for_shards(shard.index, shard.count)
    session = RunSession.create(settings, parts, writer)
    if settings.dry_run:
        return RunResult(describe_plan(session) + executor.preview(session.make_order()))
    check_input(session)

    folder = session.folder
    with folder.lock():
        with folder.critical_section():
            session = session.freeze_plan()
        folder.check_parts()

        shard_ids = session.list_uncommitted(shard.index, shard.count)
        retry_shards = list_retry_shards(session)
        result = ExecutionResult()
        if shard_ids or retry_shards:
            result = executor.run(shard_ids, session.make_job(retry_shards))

        # A message means that other processes still compute shards. They draw their own pictures.
        n_drawn = 0 if result.message else session.draw_pictures(session.find_lacking_pictures())
        with folder.critical_section():
            write_report(session, replace=bool(shard_ids or retry_shards or n_drawn))
    return summarize_run(session, result, n_drawn)


def check_executor(executor: Executor, settings: Settings) -> None:
    """Raise ConfigError if settings for the local executor are used with another executor."""
    if executor.writer and (settings.shard.count > 1 or settings.retry):
        raise ConfigError(
            "shard= and retry= are for executor=local; leave them out, or say executor=local."
        )


def check_input(session: RunSession) -> None:
    """Raise ConfigError if there is nothing to compute. Called before anything is written."""
    if session.settings.changed == "trust":
        if not session.plan.parts:
            raise ConfigError(
                f"changed=trust: {session.folder.path} has no plan to trust yet; leave it out "
                "once, and one is made. "
                "If one was made on a machine of another kind, say precision= and device= on "
                "both: they decide the "
                "folder's name."
            )
    elif not session.folder.exists() and next(session.parts.source.entries(), None) is None:
        raise ConfigError(describe_empty_input(session.parts.source))


def list_retry_shards(session: RunSession) -> list[int]:
    """Return the committed shards of this process with failed images, for `retry=errors`."""
    if session.settings.retry != "errors":
        return []
    shard = session.settings.shard
    return find_shards_with_errors(session.folder, session.plan, shard.index, shard.count)


def write_report(session: RunSession, replace: bool) -> None:
    """Write the report if every shard is committed. `replace`: overwrite an existing report."""
    is_complete = not session.list_uncommitted()
    if is_complete and (replace or not session.folder.store.contains("report.html")):
        publish_report(session.folder)
