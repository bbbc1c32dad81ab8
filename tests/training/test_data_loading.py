"""The seed determines the training examples and their order."""

import logging
import pickle
from itertools import chain

import pytest
import torch

from pipeline.training.data_loading import PreparedExamples, load_batches, shuffle_into_batches
from pipeline.training.data_protocols import Example
from tests.training.squares import Squares, as_they_are


def noise(example, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Example(
            example.image + torch.randint(0, 9, (1, 1, 1), dtype=torch.uint8), example.target
        )


@pytest.mark.parametrize(
    ("examples", "size", "sizes"),
    [
        (1, 1, [1]),
        (1, 8, [1]),
        (7, 8, [7]),
        (8, 8, [8]),
        (9, 8, [8]),
        (16, 8, [8, 8]),
        (17, 4, [4, 4, 4, 4]),
    ],
)
def test_batches_are_full_unless_there_is_but_one(examples, size, sizes):
    batches = shuffle_into_batches(examples, size, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == sizes
    places = [place for batch in batches for place in batch]
    assert len(set(places)) == len(places)
    assert all(epoch == 0 and 0 <= number < examples for epoch, number in places)


def test_the_order_follows_the_seed_and_the_epoch():
    assert shuffle_into_batches(50, 5, 0, 3) == shuffle_into_batches(50, 5, 0, 3)
    assert (
        len(
            {
                str([[n for _, n in batch] for batch in shuffle_into_batches(50, 5, *at)])
                for at in ((0, 0), (0, 1), (1, 0))
            }
        )
        == 3
    )


@pytest.mark.long
def test_worker_processes_give_what_this_process_gives():
    drawn, batches = PreparedExamples(Squares(8), noise, seed=7), shuffle_into_batches(8, 3, 0, 0)
    alone, helped = (list(load_batches(drawn, batches, workers)) for workers in (0, 1))
    assert [len(batch) for batch in alone] == [3, 3]
    for mine, theirs in zip(chain(*alone), chain(*helped), strict=True):
        assert mine.image.equal(theirs.image)
        assert mine.target["boxes"].equal(theirs.target["boxes"])


def test_an_augmentation_is_another_one_in_another_epoch():
    drawn = pickle.loads(pickle.dumps(PreparedExamples(Squares(2), noise, seed=7)))  # noqa: S301 - our own
    pictures = [drawn[epoch, 0].image for epoch in range(12)]
    assert pictures[0].equal(drawn[0, 0].image)
    assert any(not one.equal(pictures[0]) for one in pictures)


def test_examples_that_cannot_be_read_are_left_out_and_named_once(caplog):
    drawn = PreparedExamples(Squares(4, broken=(2,)), as_they_are, seed=0)
    with caplog.at_level(logging.WARNING):
        batches = list(load_batches(drawn, [[(0, 1), (0, 2)], [(1, 2)], [(1, 3)]], 0))
    assert [len(batch) for batch in batches] == [1, 0, 1]
    assert [record.message for record in caplog.records] == [
        "Left out of training: square-2.png: is broken"
    ]
