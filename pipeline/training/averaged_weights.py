"""An exponential moving average of the weights, which is what training leaves (Polyak and Juditsky, 1992)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class AveragedWeights:
    """Of a network's parameters in float32. The statistics of its batch norms are not averaged: they are counted anew for
    the averaged weights, because those of the last steps belong to other weights and can ruin them."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """`decay` 0: the average is the last weights."""
        self.decay = decay
        self.weights = {
            name: one.detach().float().clone()
            for name, one in _trainable_parameters(network).items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """After `step` (from 1). Early steps count less: an average over 500 steps would begin as mostly the first."""
        decay = min(self.decay, step / (10 + step)) if self.decay else 0.0
        learning = _trainable_parameters(network)
        torch._foreach_lerp_(
            list(self.weights.values()),
            [learning[name].float() for name in self.weights],
            1 - decay,
        )

    @contextmanager
    def swap_in(self, network: nn.Module, count_statistics: Callable[[], None]) -> Iterator[None]:
        """The network with the averaged weights, and with the statistics that `count_statistics` gives its batch norms by
        running it in training mode; afterwards all is as it was."""
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
    """Make the running statistics of the batch norms that are in training mode the plain mean over the batches that
    `count_statistics` shows the network ("precise batch norm", Wu and Johnson, 2021, section 3)."""
    norms = [
        module for module in network.modules() if isinstance(module, _BatchNorm) and module.training
    ]
    if not norms:
        return
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
    try:
        count_statistics()
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


def _trainable_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: one for name, one in network.named_parameters() if one.requires_grad}
