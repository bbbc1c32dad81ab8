"""Settings of single verbs, declared like all others."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config.declare import setting
from pipeline.config.validators import check_local_path, check_optional_text, check_text


@dataclass(frozen=True)
class CatalogueOptions:
    """Settings of `models`."""

    task: str | None = setting(check_optional_text, None, "only the models of this task")
    sort: str = setting(check_text, "accuracy", "order: accuracy, gflops, params, size or name")


@dataclass(frozen=True)
class SweepOptions:
    """Settings of `sweep` in addition to those of its runs."""

    truth: Path | None = setting(
        check_local_path,
        None,
        "annotations as for `evaluate`: adds accuracy to the table, and a plot",
    )
