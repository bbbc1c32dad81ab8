"""Hashes of what is in files."""

import numpy as np
import pytest
import torch

from pipeline.core.hashing import hash_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_of_every_kind_have_a_hash_of_their_values(dtype, shape):
    zeros, ones = torch.zeros(shape, dtype=dtype), torch.ones(shape, dtype=dtype)
    assert hash_tensors({"a": zeros}) == hash_tensors({"a": zeros.clone()})
    assert hash_tensors({"a": zeros}) != hash_tensors({"b": zeros})
    assert (hash_tensors({"a": zeros}) == hash_tensors({"a": ones})) == (not np.prod(shape))


def test_neither_the_order_nor_the_memory_format_matters():
    maps, bias = torch.rand(2, 3, 4, 5), torch.rand(2)
    turned = {"b": bias, "a": maps.contiguous(memory_format=torch.channels_last)}
    assert hash_tensors({"a": maps, "b": bias}) == hash_tensors(turned)
