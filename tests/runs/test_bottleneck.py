"""The summary of a run names the slowest stage and the setting that would speed it up."""

import pytest

from pipeline.core.timing import STAGES
from pipeline.runs.bottleneck import describe_bottleneck


def describe(
    wall: float = 10.0,
    workers: int = 1,
    cores: int = 2,
    device: str = "cpu",
    precision: str = "fp32",
    **seconds: float,
) -> str:
    return describe_bottleneck(
        dict.fromkeys(STAGES, 0.0) | seconds, wall, workers, cores, device, precision
    )


@pytest.mark.parametrize(
    ("seconds", "named", "advice"),
    [
        ({"forward": 9.0, "decode": 5.0}, "forward, 90%", "engine=fast"),
        ({"wait": 6.0, "decode": 7.0, "read": 1.0, "forward": 3.0}, "decode, 60%", "workers=2"),
        ({"wait": 6.0, "transform": 7.0, "decode": 1.0}, "transform, 60%", "workers=2"),
        ({"wait": 6.0, "read": 7.0, "decode": 1.0}, "read, 60%", "a faster disk"),
        (
            {"behind": 5.0, "rows": 9.9, "write": 9.5, "forward": 4.0},
            "rows, 50%",
            "box_detections_per_img",
        ),
        ({"wait": 5.0, "copy": 5.0, "decode": 4.0}, "copy, 50%", "link to the device"),
        ({"behind": 5.0, "draw": 9.0, "write": 9.5, "forward": 4.0}, "write, 50%", "output="),
        ({"behind": 5.0, "draw": 9.9, "write": 9.5, "forward": 4.0}, "draw, 50%", "overlays="),
    ],
)
def test_the_longest_part_of_the_loop_is_named_with_what_moves_it(seconds, named, advice):
    said = describe(**seconds)
    assert (
        said.startswith(f"Bottleneck: {named}")
        and advice in said
        and "{" not in said.replace("{box", "")
    )


def test_with_all_cores_at_work_more_workers_are_not_the_advice():
    said = describe(wait=6.0, decode=7.0, workers=2)
    assert "all 2 cores were used" in said and "workers=" not in said


def test_a_gpu_is_not_advised_to_who_has_one():
    said = describe(forward=9.0, device="cuda:1")
    assert "batch_size" in said and "GPU" not in said


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_fast_engine_is_not_advised_to_who_has_it(device):
    assert "engine=fast" in describe(forward=9.0, device=device)
    assert "engine=fast" not in describe(forward=9.0, device=device, precision="bf16")


@pytest.mark.parametrize("seconds", [{}, {"forward": 3.0, "wait": 3.0, "behind": 3.0}])
def test_no_sentence_is_made_up(seconds):
    assert describe(**seconds) == "No single stage is the bottleneck."


def test_a_run_without_time_does_not_divide_by_it():
    assert describe(wall=0.0) == "No single stage is the bottleneck."
