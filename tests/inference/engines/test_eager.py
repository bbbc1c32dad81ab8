"""engine=eager: devices and precisions."""

import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Model
from pipeline.inference.devices import resolve_device
from pipeline.inference.engines.eager import Eager


class Doubles(nn.Module):
    def forward(self, inputs: list, sizes_hw: list) -> list:
        return [{"logits": x.flatten()[:3] @ torch.eye(3) * 2} for x in inputs]


def model(network: nn.Module, full_precision_only: bool = False) -> Model:
    return Model(network, lambda x: x, lambda size: None, full_precision_only=full_precision_only)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_outputs_are_float32_on_the_cpu_without_gradient(precision: str) -> None:
    engine = Eager("cpu", precision)
    engine.prepare(model(Doubles()))
    outputs = engine.forward([torch.ones(3, 2, 2), torch.zeros(3, 2, 2)], [(2, 2), (2, 2)])
    assert [one["logits"].tolist() for one in outputs] == [[2, 2, 2], [0, 0, 0]]
    assert all(
        one["logits"].dtype == torch.float32 and not one["logits"].requires_grad for one in outputs
    )


def test_a_result_for_every_image_or_an_error() -> None:
    class Forgets(nn.Module):
        def forward(self, inputs: list, sizes_hw: list) -> list:
            return [{"logits": inputs[0]}]

    engine = Eager("cpu", "fp32")
    engine.prepare(model(Forgets()))
    with pytest.raises(PipelineError, match="1 results for 2 images"):
        engine.forward([torch.ones(1)] * 2, [(1, 1)] * 2)


def test_an_int8_program_keeps_its_precision() -> None:
    with pytest.raises(ConfigError, match="not at precision=bf16"):
        Eager("cpu", "bf16").prepare(model(Doubles(), full_precision_only=True))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:99", "cpu:1", "tpu"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device={device}"):
        resolve_device(device)


def test_auto_is_a_device_that_is_here() -> None:
    assert resolve_device(resolve_device("auto")) == resolve_device("auto")


def test_a_model_for_the_cpu_stays_there_unless_another_device_was_asked_for() -> None:
    only = Model(Doubles(), lambda x: x, lambda size: None, cpu_only=True)
    engine = Eager("auto", "fp32")
    engine.device = "meta"  # as if `auto` had chosen it
    engine.prepare(only)
    assert engine.device == "cpu"
    engine = Eager("cpu", "fp32")
    engine.device = "meta"  # as if the user had named it
    with pytest.raises(ConfigError, match="runs on the CPU only"):
        engine.prepare(only)
