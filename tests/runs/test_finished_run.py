"""Read-only access to a finished run."""

import logging
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.tables import (
    group_by_image,
    mark_duplicates,
    mark_failed,
    select_usable,
)
from pipeline.results.commands.verify import verify_run
from pipeline.runs.finished_run import FinishedRun
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.run_folder import RunFolder
from tests.helpers.made_runs import CATEGORIES, Row, box, made_run

ROWS = [
    Row("a.jpg", (30, 40), [box(1, 0.9, 1, 2, 10, 20), box(2, 0.5, 0, 0, 40, 30)]),
    Row("b.jpg", (30, 40)),
    Row("c.jpg", None, status="corrupt", error="no image"),
    Row("d/e.jpg", (10, 10), [box(3, 0.25, 0, 0, 1, 1)]),
    Row("f.jpg"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made_run(tmp_path / "run", ROWS, shard_size=2)


def test_its_rows_come_image_by_image_in_input_order(path: Path) -> None:
    run = FinishedRun.open(path)
    assert (run.task, run.categories, run.shard_ids, run.input) == (
        "detect",
        CATEGORIES,
        (0, 1, 2),
        Path("/nowhere"),
    )
    found = [
        pair
        for images, predictions in run.read_shards()
        for pair in group_by_image(images, predictions)
    ]
    assert [(image["key"], [row["score"] for row in rows]) for image, rows in found] == [
        ("a.jpg", [pytest.approx(0.9), 0.5]), ("b.jpg", []), ("c.jpg", []), ("d/e.jpg", [0.25]),
        ("f.jpg", []),
    ]  # fmt: skip
    assert (
        run.open_dataset("images").count_rows() == 5
        and run.open_dataset("predictions").count_rows() == 3
    )
    assert [len(select_usable(images)) for images, _ in run.read_shards()] == [2, 1, 1]


def test_a_run_with_five_digits_of_an_earlier_version_is_read(path: Path) -> None:
    for file in [*path.glob("*/part-*.parquet"), *path.glob("_committed/*.json")]:
        file.rename(file.with_name(file.name.replace("00000", "00", 1)))
    for marker in path.glob("_committed/*.json"):
        marker.write_text(marker.read_text().replace("part-00000", "part-00"))
    plan = path / "plan" / "plan.json"
    plan.write_text(plan.read_text().replace("part-00000", "part-00"))
    assert (path / "images" / "part-00001.parquet").is_file()

    run = FinishedRun.open(path)
    assert run.shard_ids == (0, 1, 2) and run.count_rows("predictions") == 3
    assert [len(images) for images, _ in run.read_shards()] == [2, 2, 1]
    RunFolder(path).check_parts()
    assert "all as committed" in verify_run(path)


def test_a_part_without_a_marker_is_not_there(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path / "_committed" / "00000001.json").unlink()
    with caplog.at_level(logging.WARNING):
        run = FinishedRun.open(path)
    assert "2 of 3 shards" in caplog.text
    assert run.shard_ids == (0, 2) and run.open_dataset("predictions").count_rows() == 2


def test_what_is_no_run_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        FinishedRun.open(tmp_path / "absent")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        FinishedRun.open(tmp_path)
    for marker in (path / "_committed").iterdir():
        marker.unlink()
    with pytest.raises(ConfigError, match="no committed tables"):
        FinishedRun.open(path)


def test_a_duplicate_is_neither_usable_nor_failed(tmp_path: Path) -> None:
    rows = [
        Row("a.jpg"),
        Row("b.jpg", None, status="duplicate", error="the same bytes as a.jpg"),
        ROWS[2],
    ]
    images = FinishedRun.open(made_run(tmp_path / "run", rows)).read_table("images", 0)
    assert select_usable(images)["key"].to_pylist() == ["a.jpg"]
    assert (mark_failed(images).to_pylist(), mark_duplicates(images).to_pylist()) == (
        [False, False, True],
        [False, True, False],
    )


@pytest.mark.parametrize("harm", ["cut", "gone", "middle"])
def test_a_damaged_part_is_named_and_so_is_what_finds_more(harm: str, path: Path) -> None:
    run = FinishedRun.open(path)
    for kind in ("images", "predictions"):
        part = path / kind / "part-00000000.parquet"
        whole = part.read_bytes()
        part.write_bytes(whole[:100] if harm == "cut" else whole[:4] + bytes(200) + whole[204:])
        if harm == "gone":
            part.unlink()
    reads = [lambda: run.read_table("images", 0), lambda: run.read_columns("images", ["key"])]
    reads += [
        lambda: run.schema,
        lambda: run.count_rows("predictions"),
        lambda: run.open_dataset("images"),
    ] * (harm != "middle")
    for read in reads:
        with pytest.raises(
            PipelineError, match=f"cannot be read; verify run={path} names what is damaged"
        ):
            read()


def test_a_missing_column_is_not_reported_as_damage(path: Path) -> None:
    run = FinishedRun.open(path)
    reads = [
        lambda: run.read_table("predictions", 0, ["score", "mask_rle"]),
        lambda: run.read_columns("predictions", ["score", "mask_rle"]),
    ]
    for read in reads:
        with pytest.raises(PipelineError, match=r"lacks the columns mask_rle\. It is not damaged"):
            read()


def test_a_link_may_point_elsewhere_while_it_is_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to(path)

    def moved(folder: RunFolder) -> Plan:
        latest.unlink()
        return load_plan(folder)

    monkeypatch.setattr("pipeline.runs.finished_run.load_plan", moved)
    assert FinishedRun.open(latest).path == path
