"""Facts that torchvision publishes about its models: one card for each set of weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchvision.models import WeightsEnum, get_model_weights, list_models

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.torchvision_builders import get_builder_tasks
from pipeline.models.weights import get_cache_path
from pipeline.ops.filters import PLACEHOLDERS

SORT_KEYS = ("accuracy", "gflops", "params", "size", "name")


@dataclass(frozen=True)
class ModelCard:
    """Facts that torchvision publishes about one set of weights."""

    name: str
    weights: str
    tasks: tuple[str, ...]
    classes: int
    params: float  # millions
    gflops: float  # of one image at the published size
    size: float  # MB on disk
    metric: str  # "acc@1 on ImageNet-1K"; empty where none is published
    accuracy: float  # in the metric's unit; nan where none is published
    cached: bool  # the file is on this machine

    @classmethod
    def from_weights(cls, name: str, member: WeightsEnum) -> "ModelCard":
        """Build the card of one set of a builder's weights."""
        meta = member.meta
        metric, accuracy = _get_first_metric(meta.get("_metrics", {}))
        return cls(
            name=name,
            weights=member.name,
            tasks=tuple(sorted(get_builder_tasks(name))),
            classes=len([c for c in meta.get("categories", ()) if c not in PLACEHOLDERS]),
            params=meta["num_params"] / 1e6,
            gflops=meta.get("_ops", float("nan")),
            size=meta.get("_file_size", float("nan")),
            metric=metric,
            accuracy=accuracy,
            cached=get_cache_path(member).is_file(),
        )


def _get_first_metric(metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """Return the first data set's first figure, which is the main one in torchvision's tables."""
    for data_set, figures in metrics.items():
        for name, value in figures.items():
            return f"{name} on {data_set}", float(value)
    return "", float("nan")


def list_model_cards(task: str | None, sort: str = "accuracy") -> list[ModelCard]:
    """Return the card of every builder's DEFAULT weights.

    Args:
        task: List only the builders that can serve this task; None: all that serve any.
        sort: One of `SORT_KEYS`. The most accurate or the cheapest model comes first.

    Raises:
        ConfigError: There is no such task or sort key.
    """
    if sort not in SORT_KEYS:
        raise ConfigError(
            f"sort={sort}: expected {', '.join(SORT_KEYS)}.{suggest_nearest(sort, SORT_KEYS)}"
        )
    tasks_by_name = {name: get_builder_tasks(name) for name in list_models()}
    known = sorted({known_task for tasks in tasks_by_name.values() for known_task in tasks})
    if task is not None and task not in known:
        raise ConfigError(
            f"task={task}: expected one of {', '.join(known)}.{suggest_nearest(task, known)}"
        )

    names = [name for name, tasks in tasks_by_name.items() if (task in tasks if task else tasks)]
    cards = [ModelCard.from_weights(name, get_model_weights(name).DEFAULT) for name in names]
    if sort == "name":
        return sorted(cards, key=lambda card: card.name)
    if sort == "accuracy":  # accuracies in different metrics cannot be compared
        return sorted(cards, key=lambda card: (card.metric, -card.accuracy, card.name))
    return sorted(cards, key=lambda card: (getattr(card, sort), card.name))
