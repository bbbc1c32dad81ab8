"""Facts about weights, for people who choose a model: heading -> text."""

from collections.abc import Mapping
from typing import Any

from torchvision.models import WeightsEnum

from pipeline.models.checkpoints import CheckpointMetadata
from pipeline.models.model_cards import ModelCard
from pipeline.models.torchvision_builders import builder_takes_clips
from pipeline.models.weights import get_cache_path


def list_checkpoint_facts(checkpoint: CheckpointMetadata) -> dict[str, str]:
    """Return the facts in a file's metadata."""
    facts = {"measured": checkpoint.metrics, "trained": checkpoint.trained}
    return {name: _format_facts(values) for name, values in facts.items() if values}


def list_weights_facts(name: str, member: WeightsEnum) -> dict[str, str]:
    """Return what torchvision publishes about weights of the builder `name`."""
    card, meta = ModelCard.from_weights(name, member), member.meta
    figures = "; ".join(
        f"{metric} {value:g} on {data_set}"
        for data_set, metrics in meta.get("_metrics", {}).items()
        for metric, value in metrics.items()
    )
    where = (
        f"cached: {get_cache_path(member)}" if card.cached else f"not on this machine: {member.url}"
    )
    return {
        "GFLOPs": f"{card.gflops:.2f} for one {'clip' if builder_takes_clips(name) else 'image'}",
        "smallest input": str(meta.get("min_size", "any")),
        "accuracy": figures or "none published",
        "file": f"{card.size:.0f} MB, {where}",
    }


def _format_facts(facts: Mapping[str, Any]) -> str:
    """Format texts and numbers on one line; nested values are left out."""
    plain = {name: value for name, value in facts.items() if isinstance(value, str | int | float)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in plain.items()
    )
