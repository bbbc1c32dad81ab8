"""What a network knows when training begins."""

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pipeline.config.settings import Settings
from pipeline.core.errors import shorten_list
from pipeline.core.hashing import hash_tensors
from pipeline.models.backbone_weights import copy_backbone_tensors, load_backbone_state
from pipeline.models.state_loading import load_matching_tensors
from pipeline.models.trainable import TrainableFormat

log = logging.getLogger(__name__)


def load_initial_weights(
    network: nn.Module, model: TrainableFormat, settings: Settings, categories: Sequence[str]
) -> tuple[str, bool]:
    """Load what `weights=` names, as far as it is about the data's classes, or else the backbone's own weights. Returns what
    that was, which is part of a training's identity, and whether anything was learnt before."""
    state = model.load_pretrained_state()
    if state is not None:
        new = load_matching_tensors(network, drop_foreign_heads(categories, state, model))
        if new:
            log.info(
                "New, because they are about other classes or not in the weights: %s.",
                shorten_list(new, 6),
            )
        return model.weights_id, True
    if settings.backbone and settings.weights != "random":
        backbone = load_backbone_state(settings.backbone, settings.train.backbone_weights)
        if backbone is not None:
            taken = copy_backbone_tensors(network, backbone)
            log.info(
                "%s tensors of the backbone are those of %s.",
                taken,
                settings.train.backbone_weights,
            )
            return f"backbone:{hash_tensors(backbone)[:16]}", True
    return f"random:{settings.seed}", False


def drop_foreign_heads(
    categories: Sequence[str], state: Mapping[str, Tensor], model: TrainableFormat
) -> Mapping[str, Tensor]:
    """The state without the heads where these are about other classes, be they as many; weights that do not name theirs are
    taken at their number."""
    names = model.read_class_names()
    if names is None:
        log.info(
            "The weights do not name their classes; a head for as many as the data has is kept."
        )
        return state
    if tuple(names) == tuple(categories):
        return state
    heads = model.find_class_tensors(len(categories))
    kept = type(state)((name, one) for name, one in state.items() if name not in heads)  # type: ignore[call-arg]
    kept._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]  # which version of torch's modules it is
    return kept
