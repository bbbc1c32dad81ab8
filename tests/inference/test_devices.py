"""Outputs are copied together by name; which processors multiply bf16; device names."""

import pytest
import torch

from pipeline.inference.devices import (
    copy_tensors_together,
    copy_to_cpu,
    has_native_bf16,
    resolve_device,
)


def test_values_of_many_shapes_come_back_as_they_were() -> None:
    values = [torch.rand(2, 4), torch.rand(0, 4), torch.rand(3), torch.rand(1, 2, 5)]
    copies = copy_tensors_together(values)
    assert all(
        torch.equal(one, other) and one.shape == other.shape
        for one, other in zip(copies, values, strict=True)
    )
    assert copies[0].data_ptr() != values[0].data_ptr()


def test_halves_become_float_and_labels_stay_integers() -> None:
    outputs = [
        {"scores": torch.ones(n, dtype=torch.bfloat16), "labels": torch.ones(n, dtype=torch.long)}
        for n in (2, 0)
    ]
    found = copy_to_cpu(outputs)
    assert [one["scores"].dtype for one in found] == [torch.float32] * 2 and found[1][
        "scores"
    ].shape == (0,)
    assert found[0]["labels"].dtype == torch.long and copy_to_cpu([]) == []


@pytest.mark.parametrize(
    ("has", "native"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bf16_is_for_processors_that_have_it(
    has: dict, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert has_native_bf16("cpu") == native


def test_an_older_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_native_bf16("cpu")


def test_auto_is_a_device_that_exists() -> None:
    assert resolve_device("auto").partition(":")[0] in ("cpu", "cuda", "mps")
