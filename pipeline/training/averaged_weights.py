"""An exponential moving average of the weights (Polyak and Juditsky, 1992).

A training saves the averaged weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class AveragedWeights:
    """The moving average of a network's trainable parameters, in float32.

    Batch norm statistics are not averaged. They are computed anew for the averaged weights,
    because the statistics of the last steps belong to other weights and would ruin the results.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start the average. With a `decay` of 0 it always equals the latest weights."""
        self.decay = decay
        self.weights = {
            name: one.detach().float().clone()
            for name, one in _trainable_parameters(network).items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the network's weights after step number `step` (from 1) to the average.

        The decay is smaller in early steps; otherwise the initial weights would dominate the
        average for a long time.
        """
        decay = min(self.decay, step / (10 + step)) if self.decay else 0.0
        learning = _trainable_parameters(network)
        torch._foreach_lerp_(
            list(self.weights.values()),
            [learning[name].float() for name in self.weights],
            1 - decay,
        )

    @contextmanager
    def swap_in(self, network: nn.Module, count_statistics: Callable[[], None]) -> Iterator[None]:
        """Put the averaged weights into the network, and restore it on exit.

        Args:
            network: The network.
            count_statistics: Runs the network in training mode on some batches, from which its
                batch norm statistics are computed.
        """
        before = {name: value.detach().clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            for name, one in _trainable_parameters(network).items():
                one.copy_(self.weights[name])
        recompute_statistics(network, count_statistics)
        modes = {module: module.training for module in network.modules()}
        try:
            yield
        finally:
            network.load_state_dict(before)
            for module, training in modes.items():
                module.training = training

    def state(self) -> dict[str, Tensor]:
        return self.weights

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(state[name])


def recompute_statistics(network: nn.Module, count_statistics: Callable[[], None]) -> None:
    """Replace the running statistics of the batch norms that are in training mode.

    They become the plain mean over the batches on which `count_statistics` runs the network
    ("precise batch norm", Wu and Johnson, 2021, section 3).
    """
    norms = [
        module for module in network.modules() if isinstance(module, _BatchNorm) and module.training
    ]
    if not norms:
        return
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then computes the plain mean
    try:
        count_statistics()
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


def _trainable_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: one for name, one in network.named_parameters() if one.requires_grad}
