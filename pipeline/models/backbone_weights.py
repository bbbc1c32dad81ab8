"""Start a detector's backbone from the weights of a classifier."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model_builder

from pipeline.core.errors import ConfigError
from pipeline.models.torchvision_builders import find_weights_member
from pipeline.models.weights import (
    WEIGHTS_FILES,
    fetch_official_file,
    is_weights_file,
    read_state_dict,
    resolve_file,
)

_MIN_SHARE = 0.5  # if fewer of the backbone's tensors match, the weights are another network's


def load_backbone_state(backbone: str, weights: str) -> Mapping[str, Tensor] | None:
    """Load the `state_dict` of a classifier, for `copy_backbone_tensors`.

    Args:
        backbone: Name of a torchvision classifier.
        weights: DEFAULT or another name of published weights, which are downloaded where they are
            not on this machine; a file; or `random`.

    Returns:
        The tensors by name; None for `random`.

    Raises:
        ConfigError: There is no such file, or there are no such weights.
    """
    if weights == "random":
        return None
    if is_weights_file(weights):
        file = resolve_file(weights, WEIGHTS_FILES, key="train.backbone_weights")
        return read_state_dict(file)
    member = find_weights_member(backbone, weights, key="train.backbone_weights")
    fetch_official_file(member)
    # The builder loads the file, because it knows the names of tensors in old files.
    return get_model_builder(backbone)(weights=member).state_dict()


def copy_backbone_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Copy a classifier's tensors into the detector's backbone, by name and shape.

    The classifier's head is not copied.

    Returns:
        The number of tensors that were copied.

    Raises:
        ConfigError: The weights belong to another network.
    """
    backbone: Any = network.backbone
    body: nn.Module = getattr(backbone, "body", backbone)
    own = body.state_dict()
    candidates = {name: _find_tensor(state, name) for name in own}
    fitting = {
        name: tensor
        for name, tensor in candidates.items()
        if tensor is not None and tensor.shape == own[name].shape
    }

    # Scalars, such as counters of BatchNorm layers, fit any network, so they are not counted.
    n_expected = sum(tensor.dim() > 0 for tensor in own.values())
    n_fitting = sum(tensor.dim() > 0 for tensor in fitting.values())
    if n_fitting < max(1.0, _MIN_SHARE * n_expected):
        missing = next((name for name in own if name not in fitting), "")
        tensor = candidates.get(missing)
        has = "no tensor of this name" if tensor is None else f"shape {tuple(tensor.shape)}"
        raise ConfigError(
            f"These backbone weights are another network's: {len(fitting)} of the backbone's "
            f"{len(own)} tensors fit. For example {missing}, "
            f"{tuple(own[missing].shape) if missing else ''}: they have {has}."
        )
    body.load_state_dict(fitting, strict=False)
    return len(fitting)


def _find_tensor(state: Mapping[str, Tensor], name: str) -> Tensor | None:
    """Return the classifier's tensor of this name in the detector's backbone.

    torchvision's detectors on MobileNet hold the classifier's `features` only, without that name.
    """
    return state.get(name, state.get(f"features.{name}"))
