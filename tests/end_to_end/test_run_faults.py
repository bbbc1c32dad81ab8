"""What a run says when something beside an image is wrong."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.cli import main
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.inference.predictor import Predictor
from pipeline.models.networks.detector import DetectorNetwork
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read

YARD = f"input={SAMPLES / 'yard'}"


def detections(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([[1.0, 2.0, 30.0, 20.0]]),
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.75]),
    } | changed


@pytest.mark.parametrize(
    "broken",
    [{"scores": torch.tensor([float("nan")])}, {"boxes": torch.full((1, 4), float("inf"))}],
)
def test_nan_is_a_failure_and_not_zero_detections(
    broken: dict[str, torch.Tensor], annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        DetectorNetwork,
        "forward",
        lambda self, inputs, sizes: [detections(**broken) for _ in inputs],
    )
    rows = read(annotate("model=codes", YARD), "images").to_pylist()
    assert [(row["status"], row["n_predictions"]) for row in rows] == [("model_error", None)] * 3
    assert "NaN" in rows[0]["error"]


def test_a_box_with_its_corners_exchanged_costs_no_run(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = torch.tensor([[3000.0, 200.0, 10.0, -20.0]])
    monkeypatch.setattr(
        DetectorNetwork,
        "forward",
        lambda self, inputs, sizes: [detections(boxes=box) for _ in inputs],
    )
    run = annotate("model=codes", YARD)
    assert len(list((run / "overlays").iterdir())) == 3


def test_a_picture_that_cannot_be_drawn_costs_no_row(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.tasks.detect.Detect.draw", lambda *_: 1 / 0)
    run = annotate("model=codes", YARD)
    assert read(run, "images").num_rows == 3 and not (run / "overlays").exists()
    assert caplog.text.count("no overlay for") == 3


@pytest.mark.long
@pytest.mark.parametrize(
    "engine", [["engine=eager"], ["engine=fast", "engine.compile=false"]], ids=["eager", "fast"]
)
@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("detect", "fasterrcnn_mobilenet_v3_large_320_fpn"),
        ("segment", "lraspp_mobilenet_v3_large"),
        ("classify", "mobilenet_v3_small"),
    ],
)
def test_an_image_of_one_row_costs_no_run_and_little_memory(
    task: str, model: str, engine: list[str], annotate: Callable[..., Path], tmp_path: Path
) -> None:
    for name, size in (("a", (5000, 1)), ("b", (64, 48)), ("c", (1, 5000)), ("d", (1, 1))):
        Image.new("RGB", size, (90, 60, 30)).save(tmp_path / f"{name}.png")
    words = [f"task={task}", f"model={model}", "weights=random", f"input={tmp_path}"]
    run = annotate(*words, "max_aspect=10000", *engine)
    rows = read(run, "images").to_pylist()
    assert [row["status"] for row in rows] == ["model_error", "ok", "model_error", "ok"]
    assert "preprocessing (1, 5000) (h, w)" in rows[0]["error"]


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_committed_part_that_is_not_whole_is_named(
    harm: str, annotate: Callable[..., Path]
) -> None:
    part = annotate("model=codes", YARD) / "images" / "part-00000000.parquet"
    if harm == "gone":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(PipelineError, match=r"images/part-00000000\.parquet is missing or damaged"):
        annotate("model=codes", YARD)


def test_foreign_files_in_a_run_folder_stay(annotate: Callable[..., Path]) -> None:
    run = annotate("model=codes", YARD)
    (run / "mine").mkdir()
    (run / "mine" / "part-00000007.csv").write_text("mine")
    annotate("model=codes", YARD)
    assert (run / "mine" / "part-00000007.csv").read_text() == "mine"


def test_a_run_does_not_annotate_its_own_overlays(
    tmp_path: Path, annotate: Callable[..., Path]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes((SAMPLES / "bricks.jpg").read_bytes())
    for _ in range(2):
        annotate("model=codes", f"input={photos}", f"output={photos / 'outputs'}")
    assert read((photos / "outputs" / "latest").resolve(), "images")["key"].to_pylist() == ["a.jpg"]


@pytest.mark.long
def test_another_device_or_library_in_between_is_recorded(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = annotate("model=codes", YARD, "shard_size=2")
    (run / "_committed" / "00000001.json").unlink()
    monkeypatch.setattr("pipeline.runs.run_record.platform.python_version", lambda: "3.99")
    annotate("model=codes", YARD, "shard_size=2", "batch_size=1")
    record = json.loads((run / "run.json").read_text())
    assert record["python"] != "3.99" and record["config"]["batch_size"] is None
    assert (
        record["resumed_with"][0]["python"] == "3.99"
        and record["resumed_with"][0]["config"]["batch_size"] == 1
    )
    assert "begun with another python" in caplog.text


def test_timings_are_those_of_the_shard(annotate: Callable[..., Path]) -> None:
    run = annotate("model=codes", "input=null", "shard_size=4")
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 4, 4]
    assert all(line["write"] > 0 and line["draw"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["classes=[]"], "at least one class name"),
        (["sink=[overlays]"], "must name parquet"),
        (["sink=[]"], "must name parquet"),
        (["model=ssd300_vgg16", "categories=imagenet"], "have 91"),
    ],
)
def test_settings_that_would_leave_nothing_of_use_are_refused(
    settings: list[str], message: str, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        annotate(YARD, *settings)
    assert not (tmp_path / "outputs").exists()


def test_an_output_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["run", "model=codes", YARD, f"output={tmp_path / 'file' / 'out'}"]) == 2
    assert "Choose another output=" in capsys.readouterr().err


def test_a_refused_combination_does_not_end_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["sweep", "model=codes", YARD, f"output={tmp_path}", "classes=[nope],[barcode]"]) == 2
    )
    assert "no class 'nope'" in capsys.readouterr().err
    assert len(list(tmp_path.glob("detect-codes-*"))) == 1


def test_the_names_of_a_coco_file_are_cocos(tmp_path: Path) -> None:
    from pipeline.models.class_names import add_background, load_categories

    coco = load_categories("coco")
    named = [
        {"id": i, "name": name}
        for i, name in enumerate(coco)
        if name not in ("__background__", "N/A")
    ]
    (tmp_path / "instances.json").write_text(json.dumps({"categories": named}))
    assert add_background(load_categories(str(tmp_path / "instances.json"))) == coco


def test_an_input_that_is_lost_on_the_way_stops_the_run(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Predictor.predict

    def forgetful(self: Predictor, *args: object) -> Iterator[object]:
        for shard, items in predict(self, *args):
            yield shard, items[1:]

    monkeypatch.setattr(Predictor, "predict", forgetful)
    with pytest.raises(PipelineError, match="2 inputs came out of a shard of more"):
        annotate("model=codes", YARD, "batch_size=3")


def test_no_port_is_opened_and_nothing_is_fetched(
    annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("bind", "listen", "connect"):
        monkeypatch.setattr(
            socket.socket, call, lambda *_, call=call: pytest.fail(f"a socket was asked to {call}")
        )
    assert len(read(annotate("model=codes", YARD), "images")) == 3
