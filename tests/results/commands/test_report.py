"""The verb and the report that a run leaves: where it goes, what is in it, what is refused."""

import errno
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.results.commands.report import Options, run_command
from pipeline.results.report.write import publish_report
from pipeline.runs.run_folder import RunFolder
from tests.helpers.listed_runs import manifest_run, table_run
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import SAMPLES, shared
from tests.helpers.pictures import picture

YARD = f"input={SAMPLES / 'yard'}"


def said(run: Path, *words: str) -> str:
    return run_command(read_options("report", [f"run={run}", *words], Options))


def data_of(report: Path, which: str = "data") -> Any:
    return json.loads(
        re.findall(rf'id="{which}">(.*?)</script>', report.read_text(encoding="utf-8"))[0]
    )


def thumbnails(report: Path) -> int:
    blocks = re.findall(r'id="thumbnails-\d+">(.*?)</script>', report.read_text(encoding="utf-8"))
    return sum(bool(one) for block in blocks for one in json.loads(block))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two images, one of them with an overlay; and one that failed."""
    for folder in ("photos", "run/overlays"):
        (tmp_path / folder).mkdir(parents=True)
    picture(40, 30).save(tmp_path / "photos" / "a.jpg")
    picture(40, 30).save(tmp_path / "run" / "overlays" / "b.jpg")
    rows = [
        Row("a.jpg", (30, 40), [box(1, 0.5, 0, 0, 9, 9)]),
        Row("b.jpg", (30, 40)),
        Row("c.jpg", None, status="missing"),
    ]
    return made_run(tmp_path / "run", rows, input=tmp_path / "photos")


def test_it_goes_into_the_run_and_is_made_anew(run: Path) -> None:
    assert said(run).startswith(f"{run}/report.html: 3 of 3 images in the gallery, ")
    before = (run / "report.html").read_bytes()
    (run / "report.html").write_text("old")
    said(run)
    assert (run / "report.html").read_bytes() == before
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [".lock"]


def test_a_failure_leaves_the_report_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(run)
    before = (run / "report.html").read_bytes()
    monkeypatch.setattr(
        "pipeline.results.report.write.write_page", lambda file, _: file.write("half") / 0
    )
    with pytest.raises(ZeroDivisionError):
        said(run)
    assert (run / "report.html").read_bytes() == before
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [".lock"]


def test_a_file_of_the_users_is_never_replaced(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.html"
    said(run, f"output={target}")
    assert data_of(target)["overlays"] == "../run/overlays" and not (run / "report.html").exists()
    for taken in (target, tmp_path / "photos"):
        with pytest.raises(ConfigError, match="there is something already"):
            said(run, f"output={taken}")


def test_thumbnails_are_of_overlays_or_else_of_the_images(run: Path) -> None:
    said(run)
    assert (
        data_of(run / "report.html")["overlay"] == [None, None, 1]
        and thumbnails(run / "report.html") == 2
    )
    assert "no thumbnail here" not in (run / "report.html").read_text()
    for wanted, made in ((0, 0), (1, 1)):
        said(run, f"thumbnails={wanted}")
        assert thumbnails(run / "report.html") == made
        assert (
            f"{2 - made} of the usable images have no thumbnail here"
            in (run / "report.html").read_text()
        )


def test_an_image_that_is_gone_has_none(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "a.jpg").unlink()
    said(run)
    assert thumbnails(run / "report.html") == 1


def test_of_an_unfinished_run(run: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    rows = [Row(f"{i}.jpg") for i in range(8)]
    half = made_run(tmp_path / "half", rows)
    (half / "_committed" / "00000001.json").unlink()
    assert "4 of 8 images in the gallery" in said(half) and "is not complete" in caplog.text
    assert "4 of its 8 images have been computed" in (half / "report.html").read_text()


def test_more_images_than_the_gallery_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.results.report.write._MOST_IMAGES", 3)
    run = made_run(
        tmp_path / "run",
        [Row(f"{i}.jpg", found=[box(1, 1 - i / 10, 0, 0, 9, 9)]) for i in range(10)],
    )
    assert "3 of 10 images in the gallery" in said(run)
    page = (run / "report.html").read_text()
    assert (
        "The 3 images most in need of a look" in page
        and "The other 7 images are counted above" in page
    )
    assert data_of(run / "report.html")["key"] == ["9.jpg", "8.jpg", "7.jpg"] and ">10</dd>" in page


def test_frames_of_a_video_lead_to_their_place_in_it(annotate: Callable[..., Path]) -> None:
    run = annotate(
        "model=codes", "source=video", f"input={shared('data/video')}", "source.fps=1", "limit=2"
    )
    told = data_of(run / "report.html")
    assert told["file"] == ["video1.mp4"] * 2 and sorted(told["seconds"]) == pytest.approx(
        [0, 1], abs=0.1
    )


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("classify", "squeezenet1_1"),
        ("embed", "squeezenet1_1"),
        ("segment", "lraspp_mobilenet_v3_large"),
    ],
)
def test_whole_images_have_one_too(task: str, model: str, annotate: Callable[..., Path]) -> None:
    report = (
        annotate(f"task={task}", f"model={model}", "weights=random", "limit=1", YARD)
        / "report.html"
    )
    told = data_of(report)
    assert told["n"][0] == told["listed"][0] == len(told["class"]) > 0 and thumbnails(report) == 1
    assert (
        "box" not in told
        and ("share" in told) is (task == "segment")
        and len(report.read_bytes()) < 300_000
    )


def test_a_run_leaves_one_at_its_end(annotate: Callable[..., Path]) -> None:
    run = annotate("model=codes", YARD, "shard_size=2")
    report = run / "report.html"
    page = report.read_text(encoding="utf-8")
    assert thumbnails(report) == 3 and "Seconds by stage" in page and "min_score 0.5" in page
    stamp = report.stat().st_mtime_ns
    annotate("model=codes", YARD, "shard_size=2")
    assert report.stat().st_mtime_ns == stamp  # nothing was left to do
    (run / "_committed" / "00000001.json").unlink()
    annotate("model=codes", YARD, "shard_size=2")
    assert report.stat().st_mtime_ns > stamp  # resumed
    report.unlink()
    annotate("model=codes", YARD, "shard_size=2")
    assert report.is_file() and main(["verify", f"run={run}"]) == 0


def test_without_overlays_a_run_decodes_nothing_for_it(annotate: Callable[..., Path]) -> None:
    run = annotate("model=codes", YARD, "overlays=false")
    assert thumbnails(run / "report.html") == 0
    assert "thumbnails=3</code> makes more" in (run / "report.html").read_text()
    said(run)
    assert thumbnails(run / "report.html") == 3


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("odd"),
        OSError(errno.EACCES, "odd"),
        OSError(errno.ENOSPC, "no space"),
        OSError(errno.EIO, "bad"),
    ],
)
def test_a_run_does_without_one_unless_the_disk_is_to_blame(
    error: Exception, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.results.report.write.write_page", failing)
    stops = "odd" not in str(error)
    with RunFolder(run).lock(), pytest.raises(type(error)) if stops else nullcontext():
        publish_report(RunFolder(run))
    assert ("report.html was not made" in caplog.text) is not stops
    assert not (run / "report.html").exists() and not (run / ".tmp").exists()


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"run={run}"]) == 0 and "3 of 3 images" in capsys.readouterr().out
    assert (
        main(["report", f"run={run}", "thumbnails=-1"]) == 2
        and "a whole number, 0 or more" in capsys.readouterr().err
    )
    assert (
        main(["report", f"run={run.parent}"]) == 2
        and "not the folder of a run" in capsys.readouterr().err
    )
    assert main(["report", "--help"]) == 0 and "thumbnails" in capsys.readouterr().out


@pytest.mark.parametrize("make", [manifest_run, table_run])
def test_images_that_are_no_files_below_a_folder(make: Callable, tmp_path: Path) -> None:
    run, images = make(tmp_path / "in")
    said(run)
    assert thumbnails(run / "report.html") == 2
    originals = data_of(run / "report.html")["original"]
    expected = (
        [None, *(image.as_uri() for image in images)] if make is manifest_run else [None, None]
    )
    assert originals == expected, "the address failed, so it is first; it is no link"
    said(run, "thumbnails=1")
    assert thumbnails(run / "report.html") == 1
    images[0].unlink()
    (tmp_path / "in" / "a.parquet").unlink(missing_ok=True)
    said(run)
    assert thumbnails(run / "report.html") == (1 if make is manifest_run else 0)
