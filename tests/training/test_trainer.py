"""Steps, epochs and checkpoints. A resumed training equals one that was never stopped."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.preprocessing import Normalize
from pipeline.training import trainer as loop
from pipeline.training.data_loading import LoaderInputs, PreparedExamples
from pipeline.training.freezing import FrozenLayers
from pipeline.training.learners.classification_learner import ClassificationLearner
from pipeline.training.recipe import Recipe
from pipeline.training.trainer import Trainer
from pipeline.training.training_log import read_log
from tests.training.squares import Squares, as_they_are

RECIPE = Recipe(
    epochs=3,
    batch_size=4,
    rate=0.01,
    weight_decay=0.01,
    warmup=0.1,
    ema=0.5,
    seed=0,
    precision="fp32",
    device="cpu",
    workers=0,
)


class Stopped(BaseException):
    """Stands in for a kill."""


def make_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def make_trainer(folder, recipe=RECIPE, examples=None, kept=None, stages=0):
    def keep(state, figures, classes, epoch, best):
        if kept is not None:
            kept.append(
                (epoch, best, figures, {name: value.clone() for name, value in state.items()})
            )

    made = make_network()
    examples = examples or Squares(18, "classify", side=16)
    validation = PreparedExamples(Squares(10, "classify", side=16), as_they_are, 0)
    batches = [[(0, number) for number in range(10)]]
    learner = ClassificationLearner(("red", "green"), Normalize((0.5,) * 3, (0.5,) * 3))
    drawn = PreparedExamples(examples, as_they_are, recipe.seed)
    return Trainer(
        FrozenLayers(made, stages),
        learner,
        LoaderInputs(drawn, validation, batches),
        recipe,
        folder,
        keep,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return (steps, epochs, kept weights) of an undisturbed training."""
    folder, kept = tmp_path_factory.mktemp("golden"), []
    epochs = make_trainer(folder, kept=kept).fit()
    return read_log(folder / "steps.jsonl"), epochs, kept


def test_it_learns(undisturbed):
    steps, epochs, kept = undisturbed
    assert [one["step"] for one in steps] == list(range(1, 13))  # 3 epochs of 4 full batches
    assert [one["epoch"] for one in epochs] == [0, 1, 2, 3]
    assert [epoch for epoch, *_ in kept] == [1, 2, 3]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert epochs[-1]["figures"]["top1"] > 0.9
    best = [epoch for epoch, is_best, *_ in kept if is_best][-1]
    assert kept[best - 1][2]["top1"] == max(one["figures"]["top1"] for one in epochs[1:])


def test_what_is_frozen_stays_so_when_a_stopped_training_goes_on(tmp_path, monkeypatch):
    undisturbed, mine, learn = [], [], Trainer._train_step
    make_trainer(tmp_path / "golden", kept=undisturbed, stages=1).fit()

    def stopping(self, batch, logbook):
        if self.step == 6:
            raise Stopped
        return learn(self, batch, logbook)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_step", stopping)
        with pytest.raises(Stopped):
            make_trainer(tmp_path / "stopped", kept=mine, stages=1).fit()
    make_trainer(tmp_path / "stopped", kept=mine, stages=1).fit()
    begun = make_network().state_dict()
    for name, value in undisturbed[-1][3].items():
        assert value.equal(mine[-1][3][name])
        assert value.equal(begun[name]) is name.startswith(("0.", "1."))  # the only stage


def without_time(lines):
    return [{name: value for name, value in one.items() if name != "seconds"} for one in lines]


@pytest.mark.long
@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 11, 12])
@pytest.mark.parametrize("save_s", [0.0, 1e9])
def test_a_stopped_training_goes_on_with_the_same_losses_and_weights(
    tmp_path, monkeypatch, undisturbed, stop_at, save_s
):
    monkeypatch.setattr(loop, "_SAVE_S", save_s)  # after each step, or at the end of epochs only
    steps, epochs, kept = undisturbed
    learn = Trainer._train_step

    def stopping(self, batch, logbook):
        losses = learn(self, batch, logbook)
        if self.step == stop_at:
            raise Stopped
        return losses

    mine = []
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_step", stopping)
        with pytest.raises(Stopped):
            make_trainer(tmp_path, kept=mine).fit()
    resumed = make_trainer(tmp_path, kept=mine)
    assert without_time(resumed.fit()) == without_time(epochs)
    assert read_log(tmp_path / "steps.jsonl") == steps
    last, golden_last = mine[-1][3], kept[-1][3]
    assert all(value.equal(golden_last[name]) for name, value in last.items())


def test_a_checkpoint_that_is_complete_has_nothing_left_to_do(tmp_path, undisturbed):
    make_trainer(tmp_path).fit()
    steps = read_log(tmp_path / "steps.jsonl")
    again = make_trainer(tmp_path)
    again.fit()
    assert again.step == again.total == 12
    assert read_log(tmp_path / "steps.jsonl") == steps


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_a_loss_that_is_not_finite_says_what_to_do(tmp_path):
    with pytest.raises(PipelineError, match=r"not finite at step \d+ .* train.lr below"):
        make_trainer(tmp_path, replace(RECIPE, rate=1e30, warmup=0.0, epochs=9)).fit()


def test_batches_of_images_that_cannot_be_read_are_no_steps_of_learning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        make_trainer(
            tmp_path, replace(RECIPE, epochs=1), Squares(4, "classify", 16, broken=(0, 1, 2, 3))
        ).fit()
    assert read_log(tmp_path / "steps.jsonl") == []
    assert len(caplog.records) == 4


def test_of_a_batch_one_image_is_not_enough(tmp_path):
    make_trainer(
        tmp_path, replace(RECIPE, epochs=1), Squares(4, "classify", 16, broken=(0, 1, 3))
    ).fit()
    assert read_log(tmp_path / "steps.jsonl") == []


def test_a_network_that_cannot_learn_from_one_image_says_so(tmp_path):
    training = make_trainer(tmp_path, replace(RECIPE, batch_size=1))
    training.network = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)
    )
    with pytest.raises(
        ConfigError, match=r"train.batch_size=1, or a single image .* takes two at least"
    ):
        training.fit()


def test_mixed_precision_learns_the_same_thing_roughly(tmp_path, undisturbed):
    make_trainer(tmp_path, replace(RECIPE, precision="bf16")).fit()
    mixed, exact = (
        [one["loss"] for one in lines]
        for lines in (read_log(tmp_path / "steps.jsonl"), undisturbed[0])
    )
    assert mixed != exact
    assert mixed == pytest.approx(exact, abs=0.05)
