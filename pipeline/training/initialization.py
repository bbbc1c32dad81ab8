"""Initial weights of a training: pretrained ones, a pretrained backbone, or random ones."""

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
    """Load the weights that `weights=` names, or else the pretrained backbone.

    Heads are loaded only if they belong to the data's classes.

    Returns:
        A text that identifies the weights (part of the training's identity), and whether anything
        in the network is pretrained.
    """
    state = model.load_pretrained_state()
    if state is not None:
        new = load_matching_tensors(network, drop_foreign_heads(categories, state, model))
        if new:
            log.info(
                "Not loaded, because they belong to other classes or are not in the weights: %s.",
                shorten_list(new, 6),
            )
        return model.weights_id, True
    if settings.backbone and settings.weights != "random":
        backbone = load_backbone_state(settings.backbone, settings.train.backbone_weights)
        if backbone is not None:
            taken = copy_backbone_tensors(network, backbone)
            log.info(
                "Loaded %s tensors of the backbone from %s.",
                taken,
                settings.train.backbone_weights,
            )
            return f"backbone:{hash_tensors(backbone)[:16]}", True
    return f"random:{settings.seed}", False


def drop_foreign_heads(
    categories: Sequence[str], state: Mapping[str, Tensor], model: TrainableFormat
) -> Mapping[str, Tensor]:
    """Return the state without its heads if the heads belong to other classes than the data's.

    The names of the classes decide, not their number. Weights that do not name their classes
    keep their heads, which are then loaded if the number of classes fits.
    """
    names = model.read_class_names()
    if names is None:
        log.info(
            "The weights do not name their classes; a head is kept if it has as many as the data."
        )
        return state
    if tuple(names) == tuple(categories):
        return state
    heads = model.find_class_tensors(len(categories))
    kept = type(state)(  # type: ignore[call-arg]
        (name, tensor) for name, tensor in state.items() if name not in heads
    )
    # torch keeps the versions of its modules in `_metadata`. It needs them to load an older state.
    kept._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    return kept
