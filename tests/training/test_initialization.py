"""The weights that are kept when the data has other classes."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from pipeline.training.initialization import load_initial_weights
from tests.helpers.runs import settings_for


class Model:
    """A network of one layer and a head, with weights of ones."""

    weights_id = "known"

    def __init__(self, names, n_classes):
        self.names, self.n_classes = names, n_classes

    def build_for_training(self, num_classes):
        return nn.Sequential(OrderedDict(body=nn.Linear(2, 2), head=nn.Linear(2, num_classes)))

    def load_pretrained_state(self):
        state = self.build_for_training(self.n_classes).state_dict()
        for value in state.values():
            value.fill_(1.0)
        return state

    def read_class_names(self):
        return self.names

    def find_class_tensors(self, num_classes):
        return {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("names", "n_classes", "kept"),
    [
        (("cat", "dog"), 2, True),
        (("cat", "horse"), 2, False),  # as many, but others
        (("dog", "cat"), 2, False),  # the same, in another order
        (("cat", "dog", "horse"), 3, False),
        (None, 2, True),  # the weights do not tell
        (None, 3, False),
    ],
)
def test_a_head_is_kept_if_it_is_about_the_same_classes(names, n_classes, kept):
    model = Model(names, n_classes)
    network = model.build_for_training(2)
    assert load_initial_weights(network, model, settings_for("task=classify"), ("cat", "dog")) == (
        "known",
        True,
    )
    assert bool((network.body.weight == 1).all())
    assert bool((network.head.weight == 1).all()) is kept
    assert torch.isfinite(network.head.weight).all()
