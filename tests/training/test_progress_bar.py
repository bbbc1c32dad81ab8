"""The mean losses of an epoch in the progress bar."""

import pytest

from pipeline.training.progress_bar import ProgressBar


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([], "loss 0.000"),
        ([{}], "loss 0.000"),
        ([{"a": 1.0}, {"a": 2.0}], "loss 1.500"),
        ([{"a": 1.0, "b": 0.5}, {}, {"a": 2.0, "b": 0.5}], "loss 2.000 (a 1.500, b 0.500)"),
    ],
)
def test_each_part_has_its_mean(steps, text):
    with ProgressBar(0, len(steps)) as shown:
        for losses in steps:
            shown.step(losses)
        assert shown.epoch() == text
        assert shown.epoch() == "loss 0.000"  # begun anew
