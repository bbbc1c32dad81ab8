"""Know a model before you spend a day on it: what it sees, what it costs, how good it was measured to be."""

from torchvision.models import list_models

from pipeline.config.settings import Settings
from pipeline.config.task_classes import list_served_tasks
from pipeline.core.errors import shorten_list
from pipeline.core.text_tables import format_columns, format_pairs
from pipeline.models.model_cards import list_model_cards
from pipeline.models.registry import find_format, get_builder_tasks
from pipeline.ops.filters import PLACEHOLDERS, make_score_thresholds


def format_catalogue(task: str | None, sort: str = "accuracy") -> str:
    """The catalogue as a table."""
    header = ("model", "tasks", "classes", "M params", "GFLOPs", "MB", "accuracy", "", "weights")
    lines = [header]
    for card in list_model_cards(task, sort):
        cells = (
            f"{card.params:.1f}",
            f"{card.gflops:.1f}",
            f"{card.size:.0f}",
            f"{card.accuracy:.1f}",
            card.metric,
        )
        lines.append(
            (
                card.name,
                ",".join(card.tasks),
                str(card.classes),
                *cells,
                "cached" if card.cached else "",
            )
        )
    return format_columns(lines, left=(0, 1, 7, 8))


def find_builder_tasks(model: str) -> frozenset[str]:
    """Return the tasks of a torchvision builder; none for another name."""
    return get_builder_tasks(model) if model in list_models() else frozenset()


def format_model_report(settings: Settings) -> str:
    """Everything known of `settings.model` before a weight is loaded."""
    made = find_format(settings)
    spec = made.describe()
    names = [name for name in dict.fromkeys(spec.categories) if name not in PLACEHOLDERS]
    rows = {
        "model": spec.name,
        "tasks": ", ".join(list_served_tasks(spec.outputs, spec.takes_clips)),
        "weights": spec.weights,
        "preprocessing": " ".join(spec.preprocessing.split()),
        **made.details(),
        "classes": f"{len(names)}: {shorten_list(names, 100)}",
    }
    if settings.classes:
        make_score_thresholds(
            spec.categories, settings.classes, None, 0.5
        )  # names the nearest for one that is not in it
        known = {name.casefold(): i for i, name in reversed(list(enumerate(spec.categories)))}
        rows["it knows"] = ", ".join(
            f"{name} (id {known[name.casefold()]})" for name in settings.classes
        )
    return format_pairs(rows)
