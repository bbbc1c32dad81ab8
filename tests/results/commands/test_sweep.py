"""The table that a sweep ends with."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.config.sweep import Job
from pipeline.config.sweep_outcomes import RunResult
from pipeline.core.errors import ConfigError
from pipeline.results.commands.sweep import _save_plot, summarize_sweep
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import SAMPLES


def job(tmp_path: Path, score: str, predictions: int, seconds: list[float], size: str = "8") -> Job:
    found = [box(1, 0.9, 0, 0, 9, 9)] * predictions
    run = made_run(
        tmp_path / f"run-{score}",
        [Row("a.jpg", found=found), Row("b.jpg", None, status="empty", error="x")],
    )
    lines = [
        json.dumps({"shard": i, "images": 10, "seconds": one}) for i, one in enumerate(seconds)
    ]
    (run / "timing.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return Job({"model": "made", "min_score": score, "batch_size": size}, RunResult("", 1, run))


def test_what_differs_what_came_of_it_and_the_fastest_first(tmp_path: Path) -> None:
    slow, fast = job(tmp_path, "0.3", 3, [1.0, 4.0]), job(tmp_path, "0.5", 1, [0.5, 0.5])
    refused = Job(
        {"model": "made", "min_score": "2", "batch_size": "8"},
        error=ConfigError("min_score=2: expected"),
    )
    text = summarize_sweep([slow, refused, fast], None, tmp_path)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == [
        "min_score",
        "images",
        "failed",
        "predictions",
        "images_per_s",
        "run",
        "error",
    ]
    assert lines[1][:6] == ["0.5", "2", "1", "1", "20", "run-0.5"]
    assert lines[2][:6] == ["0.3", "2", "1", "3", "4", "run-0.3"]
    assert lines[3] == ["2", "min_score=2:", "expected"]
    (parquet,) = tmp_path.glob("sweeps/*/sweep.parquet")
    assert [row["images_per_s"] for row in pq.read_table(parquet).to_pylist()] == [20.0, 4.0, None]


def test_a_run_of_before_there_were_clocks_has_no_rate(tmp_path: Path) -> None:
    one = job(tmp_path, "0.3", 1, [])
    text = summarize_sweep([one, job(tmp_path, "0.5", 1, [1.0])], None, tmp_path)
    assert text.splitlines()[2].split() == ["0.3", "2", "1", "1", "run-0.3"]


def test_again_it_is_the_same_folder(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "0.3", 1, [1.0]), job(tmp_path, "0.5", 1, [1.0])]
    assert summarize_sweep(jobs, None, tmp_path) == summarize_sweep(jobs, None, tmp_path)
    assert len(list((tmp_path / "sweeps").iterdir())) == 1
    summarize_sweep(jobs[:1], None, tmp_path)
    assert len(list((tmp_path / "sweeps").iterdir())) == 2


def test_combinations_of_one_run_are_said(tmp_path: Path) -> None:
    one = job(tmp_path, "0.3", 1, [1.0])
    other = Job({**one.settings, "batch_size": "16"}, one.result)
    assert "Combinations with one run" in summarize_sweep([one, other], None, tmp_path)
    assert "Combinations with one run" not in summarize_sweep(
        [one, job(tmp_path, "0.5", 1, [1.0])], None, tmp_path
    )


def test_truth_that_is_not_there_is_told_before_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "sweep",
                "model=codes",
                f"output={tmp_path}",
                "min_score=0.3,0.9",
                f"truth={tmp_path / 'no.json'}",
            ]
        )
        == 2
    )
    assert "there is no such file" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_no_setting_is_read_as_mathematics(tmp_path: Path) -> None:
    rows = [{"model": r"$10 \frac $5.pt", "ap": 0.5, "images_per_s": 3.0}]
    _save_plot(rows, ["model"], "ap", tmp_path / "a.svg")
    assert (tmp_path / "a.svg").is_file()


@pytest.mark.long
def test_an_interrupted_sweep_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "model=codes",
        f"input={SAMPLES / 'yard'}",
        f"output={tmp_path}",
        "overlays=false",
        "log_level=error",
    ]
    assert main(["run", *words, "min_score=0.3"]) == 0
    (timing,) = tmp_path.glob("detect-*/timing.jsonl")
    timing.write_text(timing.read_text() + '{"shard": 1, "ima')  # killed while it wrote
    capsys.readouterr()
    assert main(["sweep", *words, "min_score=0.3,0.9"]) == 0
    said = capsys.readouterr().out
    assert said.count("nothing was left to do") == 1 and said.count("Complete:") == 2
    table = said[said.index("min_score  images") :].splitlines()
    assert {line.split()[0] for line in table[1:3]} == {"0.3", "0.9"} and "sweeps/" in said
    assert all(float(line.split()[4]) > 0 for line in table[1:3])


def test_duplicates_have_not_failed(tmp_path: Path) -> None:
    twin = Row("b.jpg", None, status="duplicate", error="the same bytes as a.jpg")
    jobs = []
    for score in ("0.3", "0.5"):
        run = made_run(
            tmp_path / score, [Row("a.jpg"), twin, Row("c.jpg", None, status="empty", error="x")]
        )
        jobs.append(Job({"min_score": score}, RunResult("", 1, run)))
    assert summarize_sweep(jobs, None, tmp_path).splitlines()[1].split()[:4] == [
        "0.3",
        "3",
        "1",
        "0",
    ]
