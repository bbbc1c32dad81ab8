"""Texts about models, before any weights are loaded: the catalogue, and a report on one model."""

from torchvision.models import list_models

from pipeline.config.settings import Settings
from pipeline.config.task_classes import list_served_tasks
from pipeline.core.errors import shorten_list
from pipeline.core.text_tables import format_columns, format_pairs
from pipeline.models.model_cards import ModelCard, list_model_cards
from pipeline.models.registry import find_format
from pipeline.models.torchvision_builders import get_builder_tasks
from pipeline.ops.filters import PLACEHOLDERS, find_class_names

_HEADER = ("model", "tasks", "classes", "M params", "GFLOPs", "MB", "accuracy", "", "weights")


def format_catalogue(task: str | None, sort: str = "accuracy") -> str:
    """Format the cards of `list_model_cards` as a table."""
    rows = [_HEADER, *(_format_card(card) for card in list_model_cards(task, sort))]
    return format_columns(rows, left=(0, 1, 7, 8))


def _format_card(card: ModelCard) -> tuple[str, ...]:
    return (
        card.name,
        ",".join(card.tasks),
        str(card.classes),
        f"{card.params:.1f}",
        f"{card.gflops:.1f}",
        f"{card.size:.0f}",
        f"{card.accuracy:.1f}",
        card.metric,
        "cached" if card.cached else "",
    )


def find_builder_tasks(model: str) -> frozenset[str]:
    """Return the tasks of a torchvision builder; none for another name."""
    return get_builder_tasks(model) if model in list_models() else frozenset()


def format_model_report(settings: Settings) -> str:
    """Format all that is known about the model without loading its weights."""
    model_format = find_format(settings)
    spec = model_format.describe()
    names = [name for name in dict.fromkeys(spec.categories) if name not in PLACEHOLDERS]
    rows = {
        "model": spec.name,
        "tasks": ", ".join(list_served_tasks(spec.outputs, spec.takes_clips)),
        "weights": spec.weights,
        "preprocessing": " ".join(spec.preprocessing.split()),
        **model_format.details(),
        "classes": f"{len(names)}: {shorten_list(names, 100)}",
    }
    if settings.classes:
        ids = {name: i for i, name in reversed(list(enumerate(spec.categories)))}
        found = find_class_names(settings.classes, spec.categories, "classes")
        rows["it knows"] = ", ".join(f"{name} (id {ids[name]})" for name in found)
    return format_pairs(rows)
