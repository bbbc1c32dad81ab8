"""What a network knows when training begins."""

import logging
from pathlib import Path

from torch import nn

from pipeline.backbones import load_backbone
from pipeline.errors import shorten
from pipeline.models import weights_member
from pipeline.settings import Settings
from pipeline.trained import Trainable, load_matching
from pipeline.weights import existing, official_file, read_state_dict
from pipeline.hashing import sha256_of

log = logging.getLogger(__name__)


def begin_with(network: nn.Module, model: Trainable, settings: Settings) -> tuple[str, bool]:
    """Load what `weights=` names, as far as it fits the new classes, or else the backbone's own weights. Returns what that
    was, in words that are part of a training's identity, and whether anything of it was learnt before."""
    state = model.pretrained_state()
    if state is not None:
        new = load_matching(network, state)
        if new:
            log.info("New, because their shapes follow the classes: %s.", shorten(new, 6))
        return model.weights_id(), True
    if settings.backbone and settings.train["backbone_weights"] != "random":
        given = settings.train["backbone_weights"]
        if Path(given).suffix in (".safetensors", ".pth", ".pt"):
            path, said = existing(given, (".safetensors", ".pth", ".pt")), given
        else:
            member = weights_member(settings.backbone, given, key="train.backbone_weights")
            path, said = official_file(member), str(member)
        n = load_backbone(network, read_state_dict(path))
        log.info("%s tensors of the backbone are those of %s.", n, said)
        return f"backbone sha256:{sha256_of(path)}", True
    return f"random:{settings.seed}", False
