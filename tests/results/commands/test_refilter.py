"""Filtering a finished run gives what a strict run would have given."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.results.commands.refilter import Options, run_command
from pipeline.results.commands.verify import verify_run
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.runs import read

LOOSE = "min_score=0.05"


def refiltered(run: Path, *words: str) -> Path:
    said = run_command(read_options("refilter", [f"run={run}", *words], Options))
    return Path(said.partition(": ")[0])


STRICTER = [
    ["min_score=0.5"],
    ["min_score={default: 0.3, barcode: 0.8}"],
    ["classes=[barcode,QR code]"],
    ["exclude=[barcode]", "min_score=0.2"],
    ["min_area=3000", "nms_iou=0.4", "max_detections=1"],
]


@pytest.mark.long
def test_it_is_what_a_strict_run_gives(annotate: Callable[..., Path], load_once: None) -> None:
    own = ("model=codes", "shard_size=5", "overlays=false", LOOSE)
    loose = annotate(*own)
    for stricter in STRICTER:
        strict, found = annotate(*own, *stricter), refiltered(loose, *stricter)
        for kind in ("images", "predictions"):
            assert read(found, kind).equals(read(strict, kind)), (kind, stricter)
        assert 0 < len(read(found, "predictions")) < len(read(loose, "predictions"))
        assert "all as committed" in verify_run(found)
        assert loose.name in (found / "run.json").read_text() and found.name not in (
            loose.name,
            strict.name,
        )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        Row("a.jpg", found=[box(1, 0.9, 0, 0, 10, 10), box(2, 0.6, 0, 0, 10, 10)]),
        Row("b.jpg", None, status="empty", error="zero bytes"),
        Row("c.jpg", found=[box(1, 0.7, 0, 0, 2, 2)]),
    ]
    return made_run(tmp_path / "out" / "run", rows, shard_size=2, min_score=0.5, min_area=4.0)


def test_a_failure_stays_one_and_images_left_empty_stay_rows(run: Path) -> None:
    images = read(refiltered(run, "min_score=0.8"), "images")
    assert images["n_predictions"].to_pylist() == [1, None, 0]
    assert images.schema.equals(read(run, "images").schema, check_metadata=True)


def test_a_score_for_one_class_leaves_the_others(run: Path) -> None:
    assert read(refiltered(run, "min_score={dog: 0.8}"), "predictions")[
        "score"
    ].to_pylist() == pytest.approx([0.9, 0.6])


def test_again_it_is_complete_and_of_a_changed_run_it_is_another(run: Path) -> None:
    first = refiltered(run, "min_score=0.8")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("part-*.parquet")}
    assert refiltered(run, "min_score=0.8") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("part-*.parquet")} == before
    marker = run / "_committed" / "00000001.json"
    content = json.loads(marker.read_text())
    content["pictures"] = {"overlays": 1}  # drawn later: the rows are the same
    marker.write_text(json.dumps(content))
    assert refiltered(run, "min_score=0.8") == first
    content["parts"]["predictions/part-00000001.parquet"]["sha256"] = "0" * 64
    marker.write_text(json.dumps(content))
    assert refiltered(run, "min_score=0.8") != first


def test_a_refiltered_run_can_be_filtered_again(run: Path, tmp_path: Path) -> None:
    once = refiltered(run, "min_score=0.65", f"output={tmp_path / 'elsewhere'}")
    assert once.parent == tmp_path / "elsewhere"
    twice = refiltered(once, "min_score=0.8")
    assert len(read(twice, "predictions")) == 1
    with pytest.raises(ConfigError, match=r"only from a score of 0\.65"):
        refiltered(once, "min_score=0.6")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("min_score=0.4", "kept 'dog' only from a score of 0.5"),
        ("min_area=1", "nothing below 4"),
        ("classes=[dgo]", "Did you mean 'dog'"),
        ("top_k=1", "detect has no such filter"),
        ("min_score=0.5", "nothing is asked for"),
    ],
)
def test_what_the_run_cannot_answer_is_refused(word: str, said: str, run: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        refiltered(run, word)
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "file",
    [
        "../secret",
        "/etc/hostname",
        "plan/../../secret",
        "plan/part-00000000.parquet/../x",
        "run.json",
    ],
)
def test_a_plan_that_names_other_files_is_refused(file: str, run: Path) -> None:
    plan = run / "plan" / "plan.json"
    told = json.loads(plan.read_text())
    told["parts"][0]["file"] = file
    plan.write_text(json.dumps(told))
    with pytest.raises(
        ConfigError, match=r"expected parts called plan/part-00000000\.parquet, got"
    ):
        refiltered(run, "min_score=0.8")
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("task", ["../../evil", "a/b", "/srv/evil"])
def test_a_task_of_another_name_stays_beside_the_run(task: str, run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["fingerprint_of"]["task"]["name"] = task
    (run / "run.json").write_text(json.dumps(record))
    assert (
        refiltered(run, "min_score=0.8").parent == run.parent
        and len(list(run.parent.iterdir())) == 2
    )


def test_ranked_classes_are_counted_anew(tmp_path: Path) -> None:
    ranked = [
        {"class_id": 2 - i, "score": score, "rank": i + 1}
        for i, score in enumerate((0.6, 0.3, 0.1))
    ]
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", found=ranked)],
        "classify",
        ("a", "b", "c"),
        min_score=0.0,
        top_k=3,
    )
    assert read(refiltered(run, "top_k=2"), "predictions")["rank"].to_pylist() == [1, 2]
    with pytest.raises(ConfigError, match="kept the best 3"):
        refiltered(run, "top_k=4")


def test_a_run_that_counted_says_that_it_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", found=[box(1, 0.9, 0, 0, 9, 9)])],
        min_score=0.5,
        max_detections=3,
    )
    assert len(read(refiltered(run, "min_score=0.6"), "predictions")) == 1
    assert "max_detections=3 had its say before" in caplog.text
    with pytest.raises(ConfigError, match="the run was made with 3"):
        refiltered(run, "max_detections=4")


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refilter", f"run={run}", "min_score=0.65"]) == 0
    assert "2 of 3 predictions of" in capsys.readouterr().out
    assert main(["refilter", f"run={run}"]) == 2


@pytest.mark.long
def test_half_a_million_rows(tmp_path: Path) -> None:
    """Memory is one shard's; a shard here has 250,000 rows."""
    found = [box(1 + i % 3, (i % 1000) / 1000, 0, 0, 9, 9) for i in range(1000)]
    run = made_run(
        tmp_path / "run",
        [Row(f"{i:03d}.jpg", found=found) for i in range(500)],
        shard_size=250,
        min_score=0.0,
    )
    rows = read(refiltered(run, "min_score=0.9"), "predictions")
    assert len(rows) == 50_000 and pa.compute.min(rows["score"]).as_py() == pytest.approx(0.9)
