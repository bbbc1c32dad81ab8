"""Class names of a builder's weights: published, set by the user, or in the weights' file."""

from pathlib import Path

from torchvision.models import WeightsEnum

from pipeline.core.errors import ConfigError
from pipeline.models.class_names import add_background, load_categories
from pipeline.models.network_factory import NetworkFactory
from pipeline.models.networks.classifier import find_logits_layer
from pipeline.models.weights import (
    parse_categories,
    read_safetensors_metadata,
    read_state_dict,
)


def list_published_names(member: WeightsEnum) -> tuple[str, ...]:
    """Return the class names that torchvision publishes with weights."""
    return tuple(member.meta["categories"])


def load_given_names(
    categories: str, member: WeightsEnum | None, is_detector: bool
) -> tuple[str, ...]:
    """Load the class names that the setting `categories` names.

    Args:
        categories: The setting's value.
        member: Published weights, whose number of classes the names must have.
        is_detector: Whether the names need a background.

    Raises:
        ConfigError: The names cannot be read, or their number is wrong.
    """
    names = load_categories(categories)
    names = add_background(names) if is_detector else names
    n_published = len(list_published_names(member)) if member else len(names)
    if len(names) != n_published:
        raise ConfigError(
            f"categories={categories} has {len(names)} names (background included for detectors); "
            f"weights={member} have {n_published}. "
            "Leave categories= out: these weights bring their own."
        )
    return names


def read_names_in_file(
    file: Path, architecture: str, is_detector: bool, factory: NetworkFactory
) -> tuple[str, ...]:
    """Read the class names in a file's metadata.

    Raises:
        ConfigError: The file has no class names. The message says how many are needed.
    """
    names = parse_categories(read_safetensors_metadata(file))
    if names is None:
        raise ConfigError(_ask_for_names(file, architecture, is_detector, factory))
    return names


def _ask_for_names(
    file: Path, architecture: str, is_detector: bool, factory: NetworkFactory
) -> str:
    builtin = "coco" if is_detector else "imagenet"
    request = (
        "say categories=FILE with one name a line (or JSON) in the order of the outputs, "
        f"or categories={builtin}."
    )
    if is_detector:  # the scores come from several layers, so the number of classes is not known
        return f"{file} carries no class names: {request}"

    network = factory.build_skeleton(None)
    layer = find_logits_layer(network)
    name = next(name for name, module in network.named_modules() if module is layer)
    state = read_state_dict(file)
    if f"{name}.weight" not in state:
        return f"{file} has no layer {name}.weight: it is not a state_dict of {architecture}."
    n_outputs = state[f"{name}.weight"].shape[0]
    return f"{file} carries no class names. Its head {name} has out_features={n_outputs}: {request}"
