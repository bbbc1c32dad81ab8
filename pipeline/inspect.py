"""Know a model before you spend a day on it: what it sees, what it costs, how good it was measured to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import WeightsEnum, get_model_weights, list_models

from pipeline.errors import ConfigError, nearest, shorten
from pipeline.filters import PLACEHOLDERS, score_thresholds
from pipeline.format.builder import Builder
from pipeline.models import builder_of, model_format, tasks_of
from pipeline.networks import find_head, without_data
from pipeline.settings import Settings
from pipeline.summary import aligned
from pipeline.weights import cache_path, read_state_dict

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
        raise ConfigError(f"sort={sort}: expected {', '.join(SORTS)}.{nearest(sort, SORTS)}")
    every = {name: tasks_of(name) for name in list_models()}
    known = sorted({one for tasks in every.values() for one in tasks})
    if task is not None and task not in known:
        raise ConfigError(f"task={task}: expected one of {', '.join(known)}.{nearest(task, known)}")
    wanted = [name for name, tasks in every.items() if (task in tasks if task else tasks)]
    cards = [Card.of(name, get_model_weights(name).DEFAULT) for name in wanted]
    if sort == "name":
        return sorted(cards, key=lambda card: card.name)
    sign = -1 if sort == "accuracy" else 1
    return sorted(cards, key=lambda card: (card.metric if sort == "accuracy" else "", sign * getattr(card, sort), card.name))


def catalogue_text(task: str | None, sort: str = "accuracy") -> str:
    """The catalogue as a table."""
    header = ("model", "tasks", "classes", "M params", "GFLOPs", "MB", "accuracy", "", "weights")
    lines = [header]
    for card in catalogue(task, sort):
        cells = (f"{card.params:.1f}", f"{card.gflops:.1f}", f"{card.size:.0f}", f"{card.accuracy:.1f}", card.metric)
        lines.append((card.name, ",".join(card.tasks), str(card.classes), *cells, "cached" if card.cached else ""))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    right = (2, 3, 4, 5, 6)
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ).replace(" \n", "\n")


def with_task(words: list[str]) -> list[str]:
    """Overrides with `task=` one that the model serves, where none is given."""
    given = dict(word.partition("=")[::2] for word in words)
    model = given.get("model", "")
    tasks = tasks_of(model) if model in list_models() else frozenset()
    return words if "task" in given or not tasks else [*words, f"task={min(tasks)}"]


def inspect_text(settings: Settings) -> str:
    """Everything known of `settings.model` before a weight is loaded."""
    made = model_format(settings)
    if isinstance(made, Builder) and made.file and not settings.categories:
        _ask_for_categories(made)
    spec = made.describe()
    names = [name for name in dict.fromkeys(spec.categories) if name not in PLACEHOLDERS]
    rows = {
        "model": spec.name,
        "tasks": ", ".join(sorted(spec.tasks)),
        "weights": spec.weights,
        "preprocessing": " ".join(spec.preprocessing.split()),
    }
    if isinstance(made, Builder):
        rows |= _builder_rows(made)
    rows["classes"] = f"{len(names)}: {shorten(names, 100)}"
    if settings.classes:
        score_thresholds(spec.categories, settings.classes, None, 0.5)  # names the nearest for one that is not in it
        known = {name.casefold(): i for i, name in reversed(list(enumerate(spec.categories)))}
        found = (f"{name} (id {known[name.casefold()]})" for name in settings.classes)
        rows["it knows"] = ", ".join(found)
    return aligned(rows)


def _builder_rows(made: Builder) -> dict[str, str]:
    with without_data():
        network = builder_of(made.name)(**made.without_weights(), **made.settings.model_args)
    rows = {"parameters": f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M"}
    if made.member is None:
        return rows
    card, meta = Card.of(made.name, made.member), made.member.meta
    rows["GFLOPs"] = f"{card.gflops:.2f} for one image"
    rows["smallest input"] = str(meta.get("min_size", "any"))
    figures: dict[str, Any] = meta.get("_metrics", {})
    rows["accuracy"] = "; ".join(f"{k} {v:g} on {data}" for data, one in figures.items() for k, v in one.items()) or "none"
    where = cache_path(made.member)
    rows["file"] = f"{card.size:.0f} MB, " + (
        f"cached: {where}" if card.cached else f"not on this machine: {made.member.url}"
    )
    return rows


def _ask_for_categories(made: Builder) -> None:
    """For weights without names: how many classes there are, read off the layer that gives the scores."""
    if not isinstance(made.file, Path) or made.names_in_file() is not None:
        return
    state = read_state_dict(made.file)
    with without_data():
        network: nn.Module = builder_of(made.name)(**made.without_weights(named=False))
    head = find_head(network)
    name = next(name for name, module in network.named_modules() if module is head)
    if f"{name}.weight" not in state:
        raise ConfigError(f"{made.file} has no layer {name}.weight: it is not a state_dict of {made.name}.")
    n_outputs = state[f"{name}.weight"].shape[0]
    raise ConfigError(
        f"{made.file} carries no class names. Its head {name} has out_features={n_outputs}: say categories=FILE with "
        f"{n_outputs} names in the order of the outputs" + (", or categories=imagenet." if n_outputs == 1000 else ".")
    )
