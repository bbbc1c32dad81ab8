"""Convolutions that train faster give the same results and the same state dict."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from pipeline.training.memory_format import Float32OnCpu, optimize_memory_format

torch.manual_seed(3)
IMAGES = torch.rand(4, 3, 64, 64)


def mobile() -> nn.Module:
    torch.manual_seed(5)
    return get_model("mobilenet_v3_small", weights=None).train()


def gradients(network: nn.Module, dtype: torch.dtype) -> torch.Tensor:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        network(IMAGES).float().square().sum().backward()
    return torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])


def test_only_depthwise_ones_with_a_stride_or_a_large_kernel_are_changed():
    network = optimize_memory_format(mobile())
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    changed = [one for one in convolutions if isinstance(one, Float32OnCpu)]
    assert changed == [
        one
        for one in convolutions
        if one.groups == one.in_channels > 1 and (one.stride[0] > 1 or one.kernel_size[0] > 3)
    ]
    assert 0 < len(changed) < len(convolutions)


def test_it_is_the_same_network():
    plain, fast = mobile().state_dict(), optimize_memory_format(mobile()).state_dict()
    assert list(plain) == list(fast)
    assert all(torch.equal(plain[name], fast[name]) for name in plain)


def test_in_float32_the_gradients_are_the_same():
    plain = mobile().to(memory_format=torch.channels_last)
    assert torch.equal(
        gradients(plain, torch.float32), gradients(optimize_memory_format(mobile()), torch.float32)
    )


@pytest.mark.parametrize("asked", [torch.bfloat16, torch.float32])
def test_a_changed_one_gives_back_what_it_was_given(asked):
    module = nn.Sequential(nn.Conv2d(8, 8, 5, 2, 2, groups=8))
    inputs, seen = torch.rand(2, 8, 16, 16, dtype=asked), []
    optimize_memory_format(module)[0].register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    with torch.autocast("cpu", torch.bfloat16):
        module(inputs)
    exact = nn.functional.conv2d(inputs.float(), module[0].weight, module[0].bias, 2, 2, groups=8)
    assert seen[0].dtype == asked
    assert torch.equal(seen[0], exact.to(asked))  # rounded once, at its end
