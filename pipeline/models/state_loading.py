"""Load the tensors that fit a network, and leave the others as they are."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from pipeline.core.errors import ConfigError


def load_matching_tensors(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load every tensor whose name and shape the network has.

    torchvision's modules also load tensors under the names that older versions gave them.

    Returns:
        The names of the parameters that were not loaded, such as those of a head for other classes.

    Raises:
        ConfigError: None of the tensors fit.
    """
    own = network.state_dict()
    # A name that the network lacks may be from an older version; its module renames it on loading.
    fitting = type(own)(
        (name, tensor)
        for name, tensor in state.items()
        if name not in own or own[name].shape == tensor.shape
    )
    copy_module_versions(network, state, fitting)

    parameters = [name for name, _ in network.named_parameters()]
    try:
        missing = set(network.load_state_dict(fitting, strict=False).missing_keys)
    except RuntimeError as error:
        raise ConfigError(
            f"These weights do not fit {type(network).__name__}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None

    not_loaded = [name for name in parameters if name in missing]
    if parameters and len(not_loaded) == len(parameters):
        raise ConfigError(
            f"None of these weights fit {type(network).__name__}: they have "
            f"{next(iter(state), 'nothing')!r}, the network has {parameters[0]!r}. "
            "Choose the model that they are of."
        )
    return not_loaded


def copy_module_versions(
    network: nn.Module, source: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> None:
    """Set the module versions of a `state_dict`, which some modules need to load it.

    A .safetensors file does not hold them. MNASNet refuses tensors without a version, so the
    network's own version is assumed.
    """
    own = {"": {"version": network._version}}
    target._metadata = getattr(source, "_metadata", None) or own  # type: ignore[attr-defined]


def load_whole_state(
    network: nn.Module, state: OrderedDict[str, Tensor], skip_auxiliary_heads: bool = False
) -> None:
    """Load a `state_dict` that must fit the network.

    Args:
        network: The network to change.
        state: Tensors by name, from `weights.read_state_dict`.
        skip_auxiliary_heads: Ignore tensors of auxiliary heads that the network does not have.

    Raises:
        RuntimeError: The tensors do not fit; the message names them.
    """
    if skip_auxiliary_heads:
        own = network.state_dict()
        for name in [n for n in state if n.casefold().startswith("aux") and n not in own]:
            del state[name]
    copy_module_versions(network, state, state)
    network.load_state_dict(state)
