"""Comparison of a run with its reference.

One property of a made run has moved, or the pictures have become darker.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError, RunDrifted
from pipeline.results.commands.drift import Options, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

MEASURES = {
    "image status",
    "class",
    "width",
    "height",
    "width / height",
    "score",
    "detections per image",
}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second each time, and has a test of its own."""
    monkeypatch.setattr(
        "pipeline.results.commands.drift.save_distribution_plot",
        lambda reference, new, path: path.write_bytes(b""),
    )


def measured(reference: Path, run: Path, *words: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(what, measure) -> what drift.json says."""
    try:
        text = run_command(
            read_options(
                "drift", [f"run={run}", f"reference={reference}", "brightness=0", *words], Options
            )
        )
    except RunDrifted as drifted:
        text = drifted.text
    assert text.startswith("Drift") or text.startswith("No drift")
    folder = Path(text.rpartition("files: ")[2])
    return {
        (one["what"], one["measure"]): one
        for one in json.loads((folder / "drift.json").read_text())["measures"]
    }


def drifted(reference: Path, run: Path, *words: str) -> set[str]:
    return {what for (what, _), one in measured(reference, run, *words).items() if one["drift"]}


def rows(n: int = 60, **moved: Any) -> list[Row]:
    """Two detections an image, one property of which may have moved."""
    rng = np.random.default_rng(n)
    how = {"classes": (1, 2), "score": 0.5, "found": 2, "size_hw": (480, 640), "failed": 0} | moved
    made = []
    for i in range(n):
        if i < how["failed"]:
            made.append(Row(f"{i:03d}.jpg", None, status="corrupt", error="x"))
            continue
        scores = how["score"] + rng.random(how["found"]) * 0.4
        found = [box(how["classes"][j % 2], score, 0, 0, 9, 9) for j, score in enumerate(scores)]
        made.append(Row(f"{i:03d}.jpg", how["size_hw"], found))
    return made


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({}, set()),
        ({"classes": (2, 3)}, {"class"}),
        ({"score": 0.1}, {"score"}),
        ({"found": 4}, {"detections per image"}),
        ({"size_hw": (240, 320)}, {"width", "height"}),
        ({"size_hw": (480, 480)}, {"width", "width / height"}),
        ({"failed": 30}, {"image status"}),
        ({"found": 0}, {"detections per image"}),  # no classes and no scores to be compared
    ],
)
def test_what_moved_is_named_and_nothing_else(
    moved: dict[str, Any], expected: set[str], tmp_path: Path
) -> None:
    reference, run = (
        made_run(tmp_path / "old", rows()),
        made_run(tmp_path / "new", rows(61, **moved), shard_size=7),
    )
    found = measured(reference, run)
    assert {what for (what, _), one in found.items() if one["drift"]} == expected
    assert {what for what, _ in found} == (
        MEASURES if moved.get("found") != 0 else MEASURES - {"class", "score"}
    )


def test_a_run_is_like_itself_and_an_empty_one_like_another(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", rows())
    assert all(one["value"] == pytest.approx(0, abs=1e-6) for one in measured(run, run).values())
    empty = [made_run(tmp_path / name, [Row("a.jpg")]) for name in ("a", "b")]
    assert drifted(*empty) == set()
    failed = made_run(tmp_path / "failed", [Row("a.jpg", None, status="corrupt", error="x")])
    assert set(measured(failed, failed)) == {("image status", "PSI"), ("image status", "JS")}


def test_duplicates_are_left_out(tmp_path: Path) -> None:
    twins = [Row(f"{i:03d}b.jpg", None, status="duplicate", error="x") for i in range(60)]
    plain, doubled = (
        made_run(tmp_path / "plain", rows()),
        made_run(tmp_path / "doubled", [*rows(), *twins]),
    )
    assert measured(plain, doubled) == measured(plain, plain)


def test_few_images_prove_nothing(tmp_path: Path) -> None:
    """The values are those of a great change; three images make them by chance."""
    few = [
        made_run(tmp_path / name, rows(3, **moved))
        for name, moved in (("old", {}), ("new", {"score": 0.2}))
    ]
    found = measured(*few, "chance=0.001")[
        "score", "KS"
    ]  # 2 of the 924 ways to deal out 12 scores are as far apart
    assert found["value"] > 0.5 and found["chance"] == pytest.approx(2 / 924) and not found["drift"]


def test_thresholds_are_the_users(tmp_path: Path) -> None:
    runs = (
        made_run(tmp_path / "old", rows()),
        made_run(tmp_path / "new", rows(classes=(2, 3), score=0.1)),
    )
    assert drifted(*runs) == {"class", "score"}
    assert drifted(*runs, "psi=100", "js=1", "ks=1") == set()
    assert drifted(*runs, "psi=100", "js=0.1", "ks=1") == {"class"}


def test_of_labels_the_best_counts(tmp_path: Path) -> None:
    def labelled(*ranked: int) -> Sequence[dict]:
        return [
            {"class_id": one, "score": 0.9 / (i + 1), "rank": i + 1} for i, one in enumerate(ranked)
        ]

    runs = [
        made_run(
            tmp_path / name,
            [Row(f"{i:03d}.jpg", found=labelled(1, second)) for i in range(60)],
            "classify",
        )
        for name, second in (("old", 2), ("new", 3))
    ]
    found = measured(*runs)
    assert found["class", "PSI"]["value"] == 0 and found["class", "PSI"]["n"] == [60, 60]
    assert ("detections per image", "KS") not in found


@pytest.fixture
def photographed(tmp_path: Path) -> Callable[..., Path]:
    """photographed("name", level): a run over grey pictures of about that level."""

    def call(name: str, level: int) -> Path:
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(40):
            Image.new("L", (30, 20), level + i).save(folder / f"{i:02d}.png")
        listed = [Row(path.name, (20, 30)) for path in sorted(folder.iterdir())]
        return made_run(
            tmp_path / name,
            listed,
            input=folder,
            sizes=[path.stat().st_size for path in sorted(folder.iterdir())],
        )

    return call


def test_brightness(photographed: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    day, other_day, night = (
        photographed("day", 150),
        photographed("other", 152),
        photographed("night", 10),
    )
    assert drifted(day, other_day, "brightness=500") == set()
    found = measured(day, night, "brightness=500")["brightness", "KS"]
    assert (
        found["drift"]
        and found["median"] == pytest.approx([169.5, 29.5])
        and found["n"] == [40, 40]
    )
    assert measured(day, night, "brightness=10")["brightness", "KS"]["n"] == [10, 10]
    assert caplog.text == ""


def test_images_that_are_gone_are_said(
    photographed: Callable[..., Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    day, night = photographed("day", 150), photographed("night", 10)
    picture(30, 20).save(tmp_path / "photos" / "night" / "00.png")  # another one now
    with caplog.at_level(logging.WARNING):
        assert measured(day, night, "brightness=500")["brightness", "KS"]["n"] == [40, 39]
    assert "brightness: 1 of 40 images in" in caplog.text
    (tmp_path / "photos" / "night").rename(tmp_path / "photos" / "moved")
    with caplog.at_level(logging.WARNING):
        assert ("brightness", "KS") not in measured(day, night, "brightness=500")
    assert "night, the input of" in caplog.text and "is not there any more" in caplog.text


def test_the_command_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = made_run(tmp_path / "old", rows()), made_run(tmp_path / "new", rows(classes=(2, 3)))
    assert main(["drift", f"run={new}", f"reference={new}", "brightness=0"]) == 0
    assert "No drift: 9 measures." in capsys.readouterr().out
    assert main(["drift", f"run={new}", f"reference={old}", "brightness=0"]) == 7
    said, short = capsys.readouterr()
    headline = "Drift: 2 of 9 measures are above their thresholds."
    assert (
        said.startswith(headline)
        and "  dog         50.0% ->   0.0%" in said
        and short == f"visionbatch: {headline}\n"
    )
    assert {path.name for path in (new / "drift" / "old").iterdir()} == {
        ".visionbatch",
        "drift.json",
        "drift.png",
    }
    with pytest.raises(ConfigError, match="drift needs reference="):
        read_options("drift", [f"run={new}"], Options)
