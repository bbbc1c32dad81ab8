"""Exported models run with `make run` and give the rows of the original models."""

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights
from torchvision.transforms._presets import SemanticSegmentation

from pipeline.cli import main
from pipeline.core.errors import PipelineError
from pipeline.inference.precision_check import compare_rows
from pipeline.run import run
from pipeline.training.export_model import command, speed
from pipeline.training.export_model.command import export_and_compare
from pipeline.training.export_model.exporters import list_export_methods
from tests.helpers.paths import SAMPLES, shared
from tests.helpers.pictures import picture
from tests.helpers.reference import build, save_model, wake
from tests.helpers.runs import read, settings_for

MODELS = {
    "classify": ["model=mobilenet_v2", "categories=imagenet", "preprocess=IMAGENET1K_V1"],
    "detect": ["model=codes"],
    "segment": ["model=lraspp_mobilenet_v3_large"],
}
PREPROCESS = {
    "classify": "MobileNet_V2_Weights.IMAGENET1K_V1",
    "segment": "LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
}
CASES = [
    ("classify", "pt2"),
    *((task, to) for task in MODELS for to in ("onnx", "torchscript")),
]  # see test_targets.py
SIDE = 128  # of a segmenter's input
TINY = ["task=classify", "model=squeezenet1_1", "weights=random"]


@pytest.fixture(autouse=True)
def use_small_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    published = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.value
    monkeypatch.setattr(
        published, "transforms", partial(SemanticSegmentation, resize_size=SIDE)
    )  # 520 takes a minute here
    monkeypatch.setattr(speed, "_BUDGET_S", 0.01)
    monkeypatch.setattr(speed, "_CALL_S", 0.01)


@pytest.fixture(scope="module")
def make_words(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Return a function that gives the options of an export, over two images of other sizes."""
    folder = tmp_path_factory.mktemp("segmenter")
    pictures = [
        picture(width, height, seed=i)
        for i, (width, height) in enumerate([(96, 64), (64, 96), (200, 50)])
    ]
    for i, one in enumerate(pictures):
        one.save(folder / f"{i}.png")
    network: Any = build("lraspp_mobilenet_v3_large", detector=True)
    inputs = torch.stack(
        [SemanticSegmentation(resize_size=SIDE)(one.resize((SIDE, SIDE))) for one in pictures]
    )
    wake(
        network,
        lambda: network(inputs),
        [network.classifier.low_classifier, network.classifier.high_classifier],
        1.0,
    )
    segmenter = save_model(network, folder / "m.safetensors", detector=True)

    def words(task: str) -> list[str]:
        given = folder if task == "segment" else SAMPLES
        weights = {
            "classify": shared("weights/mobilenet_v2_imagenet.pth"),
            "segment": segmenter,
        }.get(task, "DEFAULT")
        return [
            f"task={task}",
            *MODELS[task],
            f"weights={weights}",
            f"input={given}",
            "limit=2",
            "log_level=error",
        ]

    return words


@pytest.fixture(scope="module")
def eager_rows(
    tmp_path_factory: pytest.TempPathFactory, make_words: Callable[[str], list[str]]
) -> Callable[[str], Any]:
    """Return a function that gives the rows of the original models, with one run for each."""
    rows: dict[str, Any] = {}

    def of(task: str) -> Any:
        if task not in rows:
            output = tmp_path_factory.mktemp(task)
            run(settings_for(*make_words(task), f"output={output}", "overlays=false"))
            rows[task] = read((output / "latest").resolve(), "predictions")
        return rows[task]

    return of


@pytest.mark.long
@pytest.mark.parametrize(("task", "to"), CASES)
def test_the_exported_program_has_the_rows_of_its_model(
    task: str,
    to: str,
    eager_rows: Callable[[str], Any],
    make_words: Callable[[str], list[str]],
    annotate: Callable[..., Path],
    tmp_path: Path,
) -> None:
    words = make_words(task)
    text = export_and_compare(settings_for(*words, f"to={to}", f"output={tmp_path}"))
    (folder,) = (tmp_path / "exported").iterdir()
    record = json.loads((folder / "parity.json").read_text())
    assert (
        folder.name == f"{MODELS[task][0].partition('=')[2]}-{to}"
        and len(list(folder.glob("[!.]*"))) == 3
    )
    assert (
        record["equal"]
        and record["faults"] == []
        and record["parity"]["rows_lost"] == 0 == record["parity"]["rows_added"]
    )
    assert record["image size"] == (
        "224 x 224, as its preprocessing makes" if task == "classify" else "any"
    )
    assert record["batch"] == ("1, one image a call" if task == "detect" else "any")
    assert list(record["speed"]) == ["eager", "this pipeline", "exported"] and "equal" in text
    make, verb, *settings, last = shlex.split(record["run"])
    assert [make, verb, last] == ["make", "run", "input=DIR"] and record["run"] in text
    assert PREPROCESS.get(task) is None or f"preprocess={PREPROCESS[task]}" in settings
    shown = [word for word in words if word.partition("=")[0] in ("input", "limit")]
    found, expected = (
        read(annotate(*settings, *shown, "overlays=false"), "predictions"),
        eager_rows(task),
    )
    both = compare_rows(expected, found, 2, "fp32")
    assert both.rows_in_both == len(expected) == len(found) == record["parity"]["rows_exported"] > 2
    assert both.score_difference_max < 2e-4 and (both.box_difference_max or 0) < 0.05


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tmp_path / "exported" / "squeezenet1_1-torchscript" / "before.pt"
    before.parent.mkdir(parents=True)
    before.touch()
    words = [
        *TINY[1:],
        "to=torchscript",
        f"output={tmp_path}",
        "limit=1",
    ]  # task= is the model's own
    assert main(["export-model", *words]) == 0
    said = capsys.readouterr().out
    assert "beside eager fp32 on 1 images: equal" in said and "x eager" in said
    assert not before.exists() and len(list(before.parent.glob("[!.]*"))) == 3, (
        "it is replaced each time"
    )
    assert main(["export-model", *TINY]) == 2 and "say to=onnx" in capsys.readouterr().err


@pytest.mark.long
def test_a_program_with_other_scores_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = command.load_predictor

    def shifted(*arguments: Any) -> Any:
        predictor = load(*arguments)
        forward = predictor.engine.forward

        def sharper(inputs, sizes):
            return [{"logits": one["logits"] * 1.5} for one in forward(inputs, sizes)]

        monkeypatch.setattr(predictor.engine, "forward", sharper)
        return predictor

    monkeypatch.setattr(command, "load_predictor", shifted)
    with pytest.raises(
        PipelineError, match=r"NOT equal to eager: scores 0\.\d+ apart, more than 0\.001"
    ):
        export_and_compare(settings_for(*TINY, "to=torchscript", f"output={tmp_path}", "limit=2"))
    folder = tmp_path / "exported" / "squeezenet1_1-torchscript"
    assert (
        json.loads((folder / "parity.json").read_text())["equal"] is False
        and (folder / "model.pt").is_file()
    )


def test_a_program_that_holds_its_batch_is_found_out_and_runs_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotate: Callable[..., Path]
) -> None:
    monkeypatch.setattr(
        command, "list_export_methods", lambda *given: list_export_methods(*given)[-1:]
    )
    text = export_and_compare(settings_for(*TINY, "to=onnx", f"output={tmp_path}", "limit=2"))
    assert "1 only" in text and "batch_size=1" in text
    settings = shlex.split(text.splitlines()[-1].partition("make run ")[2])[:-1]
    assert (
        len(
            read(
                annotate(*settings, f"input={SAMPLES}", "limit=3", "overlays=false"), "predictions"
            )
        )
        == 15
    )


def test_what_no_program_can_be_made_of_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any, **more: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.jit, "script", fails)
    monkeypatch.setattr(torch.jit, "trace", fails)
    with pytest.raises(
        PipelineError,
        match=r"No exporter makes a program.*\n  scripted: no such operator\n  traced: no",
    ):
        export_and_compare(settings_for(*TINY, "to=torchscript", f"output={tmp_path}", "limit=1"))
    assert list((tmp_path / "exported").iterdir()) == []
