"""A network with folded batch norms computes the same function."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.ops.misc import FrozenBatchNorm2d

from pipeline.inference.fusion import convert_weights, fold_batch_norms, optimize_network

pytestmark = pytest.mark.filterwarnings("ignore:.*weights.*:UserWarning")


def norms(network: nn.Module) -> int:
    return sum(
        isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d | FrozenBatchNorm2d)
        for m in network.modules()
    )


def lively(norm: nn.Module) -> nn.Module:
    """Fill a batch norm with values that change every channel."""
    for value in (norm.running_mean, norm.weight, norm.bias):
        nn.init.normal_(value) if value is not None else None
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm.eval()


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 6, 1, groups=3)]
)
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_becomes_part_of_the_convolution_before_it(conv: nn.Conv2d, affine: bool) -> None:
    network = nn.Sequential(
        conv, lively(nn.BatchNorm2d(conv.out_channels, affine=affine)), nn.ReLU()
    ).eval()
    images = torch.rand(2, 3, 8, 9)
    with torch.no_grad():
        expected = network(images)
        assert fold_batch_norms(network) == 1 and norms(network) == 0
        torch.testing.assert_close(network(images), expected)


def test_frozen_norms_and_those_of_clips_too() -> None:
    frozen = nn.Sequential(nn.Conv2d(3, 4, 3), lively(FrozenBatchNorm2d(4))).eval()
    clips = nn.Sequential(nn.Conv3d(3, 4, 3), lively(nn.BatchNorm3d(4))).eval()
    for network, images in ((frozen, torch.rand(1, 3, 8, 8)), (clips, torch.rand(1, 3, 4, 8, 8))):
        with torch.no_grad():
            expected = network(images)
            assert fold_batch_norms(network) == 1
            torch.testing.assert_close(network(images), expected)


class Shared(nn.Module):
    """Norms that must stay: a convolution, or its output, is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.twice, self.other = (
            nn.Conv2d(3, 3, 1),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 3, 1),
            nn.BatchNorm2d(3),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.conv(images)
        return seen + self.norm(seen) + self.other(self.twice(self.twice(images)))


def test_what_something_else_uses_too_is_left_alone() -> None:
    network = Shared().eval()
    lively(network.norm), lively(network.other)
    images = torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        expected = network(images)
        assert fold_batch_norms(network) == 0
        torch.testing.assert_close(network(images), expected)


def test_a_network_in_training_is_left_alone() -> None:
    assert fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()) == 0


class ByName(nn.Module):
    """Calls its norm with a named argument."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), lively(nn.BatchNorm2d(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(input=self.conv(images))


def test_a_norm_called_in_another_way_is_left_alone() -> None:
    assert fold_batch_norms(ByName().eval()) == 0


class Looks(nn.Module):
    """A module that torch.fx cannot trace, with a child that it can trace."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), lively(nn.BatchNorm2d(4)))

    def forward(self, images: list) -> torch.Tensor:
        return self.stem(torch.stack([image for image in images if image.sum() > 0]))


def test_below_code_that_looks_at_values() -> None:
    network = Looks().eval()
    images = [torch.rand(3, 8, 8) for _ in range(2)]
    with torch.no_grad():
        expected = network(images)
        assert fold_batch_norms(network) == 1
        torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_x_400mf", "mnasnet0_5"]
)
def test_every_norm_of_the_usual_networks_is_folded(name: str) -> None:
    network = get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        assert fold_batch_norms(network) > 0 and norms(network) == 0
        torch.testing.assert_close(
            network(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )


def test_four_dimensions_go_channels_last_five_do_not() -> None:
    flat, deep = (
        optimize_network(nn.Sequential(nn.Conv2d(3, 4, 3))),
        optimize_network(nn.Sequential(nn.Conv3d(3, 4, 3), nn.Conv2d(4, 4, 3))),
    )
    assert flat[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert deep[0].weight.is_contiguous() and deep[1].weight.is_contiguous()


def test_weights_are_kept_at_the_precision_that_they_are_used_at() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)
    ).eval()
    convert_weights(network, torch.bfloat16)
    assert (network[0].weight.dtype, network[1].weight.dtype, network[3].bias.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
    )
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 3, 2, 2)).shape == (1, 2)


def test_the_names_used_here_exist() -> None:
    assert {"resnet18", "mnasnet0_5"} <= set(list_models()) and get_model_weights("resnet18")
