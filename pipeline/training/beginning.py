"""What a network knows when training begins."""

import logging

from torch import nn

from pipeline.backbones import backbone_state, load_backbone
from pipeline.errors import shorten
from pipeline.hashing import sha256_of_tensors
from pipeline.settings import Settings
from pipeline.trained import Trainable, load_matching

log = logging.getLogger(__name__)


def begin_with(network: nn.Module, model: Trainable, settings: Settings) -> tuple[str, bool]:
    """Load what `weights=` names, as far as it fits the new classes, or else the backbone's own weights. Returns what that
    was, which is part of a training's identity, and whether anything was learnt before."""
    state = model.pretrained_state()
    if state is not None:
        new = load_matching(network, state)
        if new:
            log.info("New, because they depend on the classes or are not in the weights: %s.", shorten(new, 6))
        return model.weights_id, True
    if settings.backbone and settings.weights != "random":
        backbone = backbone_state(settings.backbone, settings.train["backbone_weights"])
        if backbone is not None:
            taken = load_backbone(network, backbone)
            log.info("%s tensors of the backbone are those of %s.", taken, settings.train["backbone_weights"])
            return f"backbone:{sha256_of_tensors(backbone)[:16]}", True
    return f"random:{settings.seed}", False
