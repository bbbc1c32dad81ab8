"""What torchvision publishes of its models: a card for each set of weights, and all of them sorted."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchvision.models import WeightsEnum, get_model_weights, list_models

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.models.registry import get_builder_tasks
from pipeline.models.weights import get_cache_path
from pipeline.ops.filters import PLACEHOLDERS

SORT_KEYS = ("accuracy", "gflops", "params", "size", "name")


@dataclass(frozen=True)
class ModelCard:
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
    def from_weights(cls, name: str, member: WeightsEnum) -> "ModelCard":
        meta = member.meta
        metric, accuracy = _metric(meta.get("_metrics", {}))
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


def _metric(metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """The first data set's first figure, which is the one that a paper's table leads with."""
    for data_set, figures in metrics.items():
        for name, value in figures.items():
            return f"{name} on {data_set}", float(value)
    return "", float("nan")


def list_model_cards(task: str | None, sort: str = "accuracy") -> list[ModelCard]:
    """A card for the DEFAULT weights of every builder that can serve `task` (None: any). Best or cheapest first."""
    if sort not in SORT_KEYS:
        raise ConfigError(
            f"sort={sort}: expected {', '.join(SORT_KEYS)}.{suggest_nearest(sort, SORT_KEYS)}"
        )
    every = {name: get_builder_tasks(name) for name in list_models()}
    known = sorted({one for tasks in every.values() for one in tasks})
    if task is not None and task not in known:
        raise ConfigError(
            f"task={task}: expected one of {', '.join(known)}.{suggest_nearest(task, known)}"
        )
    wanted = [name for name, tasks in every.items() if (task in tasks if task else tasks)]
    cards = [ModelCard.from_weights(name, get_model_weights(name).DEFAULT) for name in wanted]
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
