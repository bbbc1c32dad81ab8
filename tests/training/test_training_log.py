"""The training log. A resumed training removes the lines after its step."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.training.training_log import TrainingLog, read_log


def write(folder, step, steps, total=10):
    with TrainingLog(folder, step, total) as book:
        for number in steps:
            book.log_step(number, 1, 0.1, {"a": float(number), "b": 1.0})
        book.log_epoch(steps[-1], 1, {"ap": 0.5, "ap_small": None}, 3.14)


def test_each_step_and_epoch_is_a_line_and_a_point_in_tensorboard(tmp_path):
    write(tmp_path, 0, [1, 2])
    assert read_log(tmp_path / "steps.jsonl")[1] == {
        "step": 2, "epoch": 1, "lr": 0.1, "loss": 3.0, "parts": {"a": 2.0, "b": 1.0},
    }  # fmt: skip
    figures = {"ap": 0.5, "ap_small": None}
    assert read_log(tmp_path / "epochs.jsonl") == [
        {"step": 2, "epoch": 1, "figures": figures, "seconds": 3.1}
    ]
    seen = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [one.value for one in seen.Scalars("loss/a")] == [1.0, 2.0]
    assert [one.value for one in seen.Scalars("validation/ap")] == [0.5]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_lines_after_the_step_are_taken_back(tmp_path, step, kept):
    write(tmp_path, 0, [1, 2, 3])
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": 4, "ep')  # a kill
    with TrainingLog(tmp_path, step, 10):
        pass
    assert [one["step"] for one in read_log(tmp_path / "steps.jsonl")] == kept


def test_of_a_long_training_every_nth_step_has_a_line(tmp_path):
    write(tmp_path, 0, [3, 4, 5, 6], total=60_000)
    assert [
        json.loads(line)["step"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()
    ] == [3, 6]
