"""What torchvision publishes of its models: a card for each set of weights, and all of them sorted."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchvision.models import WeightsEnum, get_model_weights, list_models

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.registry import tasks_of
from pipeline.models.weights import cache_path
from pipeline.ops.filters import PLACEHOLDERS

SORTS = ("accuracy", "gflops", "params", "size", "name")


@dataclass(frozen=True)
class Card:
    """What torchvision publishes of one set of weights."""

    name: str
    weights: str
    tasks: tuple[str, ...]
    classes: int
    params: float  # millions
    gflops: float  # of one image at the published size
    size: float  # MB on disk
    metric: str  # "acc@1 on ImageNet-1K", ""
    accuracy: float  # in the metric's unit; nan when none is published
    cached: bool

    @classmethod
    def of(cls, name: str, member: WeightsEnum) -> "Card":
        meta = member.meta
        metric, accuracy = _metric(meta.get("_metrics", {}))
        return cls(
            name=name,
            weights=member.name,
            tasks=tuple(sorted(tasks_of(name))),
            classes=len([c for c in meta.get("categories", ()) if c not in PLACEHOLDERS]),
            params=meta["num_params"] / 1e6,
            gflops=meta.get("_ops", float("nan")),
            size=meta.get("_file_size", float("nan")),
            metric=metric,
            accuracy=accuracy,
            cached=cache_path(member).is_file(),
        )


def _metric(metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """The first data set's first figure, which is the one that a paper's table leads with."""
    for data_set, figures in metrics.items():
        for name, value in figures.items():
            return f"{name} on {data_set}", float(value)
    return "", float("nan")


def catalogue(task: str | None, sort: str = "accuracy") -> list[Card]:
    """A card for the DEFAULT weights of every builder that can serve `task` (None: any). Best or cheapest first."""
    if sort not in SORTS:
        raise ConfigError(
            f"sort={sort}: expected {', '.join(SORTS)}.{suggest_nearest(sort, SORTS)}"
        )
    every = {name: tasks_of(name) for name in list_models()}
    known = sorted({one for tasks in every.values() for one in tasks})
    if task is not None and task not in known:
        raise ConfigError(
            f"task={task}: expected one of {', '.join(known)}.{suggest_nearest(task, known)}"
        )
    wanted = [name for name, tasks in every.items() if (task in tasks if task else tasks)]
    cards = [Card.of(name, get_model_weights(name).DEFAULT) for name in wanted]
    if sort == "name":
        return sorted(cards, key=lambda card: card.name)
    sign = -1 if sort == "accuracy" else 1
    return sorted(
        cards,
        key=lambda card: (
            card.metric if sort == "accuracy" else "",
            sign * getattr(card, sort),
            card.name,
        ),
    )
