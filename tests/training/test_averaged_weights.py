"""Averaged weights and the batch norm statistics that belong to them."""

import pytest
import torch
from torch import nn

from pipeline.training.averaged_weights import AveragedWeights, recompute_statistics


def make_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_the_average_follows_the_weights_by_its_decay():
    one = nn.Linear(1, 1, bias=False)
    one.weight.data.fill_(0.0)
    average = AveragedWeights(one, decay=0.5)
    expected = 0.0
    for step in range(1, 6):
        one.weight.data.fill_(float(step))
        average.update(one, step)
        decay = min(0.5, step / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.weights["weight"].item() == pytest.approx(expected)


def test_without_decay_it_is_the_last_weights():
    one = nn.Linear(1, 1)
    average = AveragedWeights(one, decay=0.0)
    one.weight.data.fill_(3.0)
    average.update(one, 1)
    assert average.weights["weight"].item() == 3.0


def test_what_does_not_learn_is_not_averaged():
    one = make_network()
    one[0].requires_grad_(False)
    assert set(AveragedWeights(one, 0.9).weights) == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_the_network_has_the_average_inside_and_is_as_before_afterwards():
    one = make_network().train()
    average = AveragedWeights(one, decay=0.9)
    images = torch.rand(8, 3, 4, 4)
    for step in range(1, 4):
        one[0].weight.data.add_(1.0)
        average.update(one, step)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    with average.swap_in(one, lambda: one(images)):
        assert one[0].weight.data.equal(average.weights["0.weight"])
        assert not one[0].weight.data.equal(before["0.weight"])
        # the statistics are those of the averaged weights: outputs of the norm have mean 0 and
        # variance 1
        one.eval()
        normed = one[1](one[0](images)).transpose(0, 1).flatten(1)
        assert normed.mean(dim=1).abs().max() < 1e-5
        assert (normed.var(dim=1, unbiased=True) - 1).abs().max() < 1e-3
    assert all(value.equal(before[name]) for name, value in one.state_dict().items())
    assert one.training and one[1].training


def test_statistics_are_the_plain_mean_over_batches_and_frozen_ones_stay():
    one = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1)).train()
    one[1].eval()
    one[1].running_mean.fill_(7.0)
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [20.0]])]
    recompute_statistics(one, lambda: [one[0](batch) for batch in batches])
    assert one[0].running_mean.item() == pytest.approx((1 + 15) / 2)
    assert one[0].momentum == 0.1
    assert one[1].running_mean.item() == 7.0
