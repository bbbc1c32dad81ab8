"""The `train` command: from annotated images to weights for a run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.instantiate import instantiate
from pipeline.core.errors import ConfigError, RunLocked
from pipeline.core.types import Writer
from pipeline.models.checkpoints import read_checkpoint_metadata, save_checkpoint
from pipeline.models.registry import find_format
from pipeline.storage.file_locks import lock_folder
from pipeline.training.anchors.propose_anchors import propose_anchors
from pipeline.training.data_loading import group_validation_batches
from pipeline.training.train import collect_facts, train_model
from pipeline.training.training_log import read_log
from pipeline.training.training_plan import build_training_plan
from tests.helpers.paths import REPOSITORY
from tests.helpers.runs import read, settings_for
from tests.training.squares import CATEGORIES, Squares

SSD = ["task=detect", "model=ssdlite320_mobilenet_v3_large", "weights=random"]
SHORT = [
    "train.epochs=2",
    "train.batch_size=4",
    "train.validation=0.3",
    "workers=1",
    "device=cpu",
    "precision=fp32",
]


def coco(folder, n=12):
    """Write squares as PNG files with a COCO file."""
    folder.mkdir()
    examples, images, annotations = Squares(n), [], []
    for number in range(n):
        one = examples.example(number, 0)
        Image.fromarray(one.image.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
        images.append({"id": number, "file_name": f"{number:02d}.png", "width": 64, "height": 64})
        for (x0, y0, x1, y1), label in zip(
            one.target["boxes"].tolist(), one.target["labels"].tolist(), strict=True
        ):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label} | box
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(CATEGORIES) if k]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def class_folders(folder, n=12):
    examples = Squares(n, "classify")
    for number in range(n):
        one = examples.example(number, 0)
        path = folder / CATEGORIES[1 + int(one.target["label"])] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.image.permute(1, 2, 0).numpy()).save(path)
    return folder


def folder_of(text):
    return Path(re.search(r"weights +(\S+)/best\.safetensors", text)[1])


@pytest.mark.long
def test_boxes_are_learnt_and_their_weights_run_as_they_are(tmp_path, annotate):
    data = coco(tmp_path / "data")
    settings = settings_for(*SSD, *SHORT, f"train.data={data}", f"output={tmp_path / 'out'}")
    text = train_model(settings)
    folder = folder_of(text)
    assert re.fullmatch(r"train-detect-ssdlite320_mobilenet_v3_large-[0-9a-f]{8}", folder.name)
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left == {
        "best.safetensors", "last.safetensors", "steps.jsonl", "epochs.jsonl", "tensorboard",
        "trained.json", "report.html",
    }  # fmt: skip
    trained = read_checkpoint_metadata(folder / "best.safetensors")
    assert (trained.task, trained.categories) == ("detect", CATEGORIES)
    assert trained.metrics["figure"] == "boxes_ap"
    assert str(tmp_path) not in json.dumps(trained.to_text_metadata())  # no paths
    assert [one["epoch"] for one in read_log(folder / "epochs.jsonl")] == [0, 1, 2]
    assert {"bbox_regression", "classification"} == set(
        read_log(folder / "steps.jsonl")[0]["parts"]
    )
    assert "boxes_ap" in (folder / "report.html").read_text()
    run = annotate(
        f"model={folder / 'best.safetensors'}",
        f"input={data.parent}",
        "min_score=0",
        "overlays=false",
    )
    assert set(read(run, "predictions")["class_name"].to_pylist()) <= set(CATEGORIES[1:])
    assert set(read(run, "images")["status"].to_pylist()) == {"ok"}
    # again: nothing is learnt twice
    before = (folder / "best.safetensors").stat().st_mtime_ns
    assert train_model(settings) == text
    assert (folder / "best.safetensors").stat().st_mtime_ns == before


@pytest.mark.long
def test_classes_of_images_are_learnt_from_folders(tmp_path, annotate):
    data = class_folders(tmp_path / "data")
    words = [
        "task=classify",
        "model=mobilenet_v3_small",
        "weights=random",
        *SHORT,
        "train.epochs=1",
    ]
    folder = folder_of(
        train_model(settings_for(*words, f"train.data={data}", f"output={tmp_path / 'out'}"))
    )
    assert read_checkpoint_metadata(folder / "best.safetensors").categories == ("green", "red")
    run = annotate(
        f"model={folder / 'best.safetensors'}", "task=classify", f"input={data}", "overlays=false"
    )
    assert run.name.startswith("classify-best-")
    assert read(run, "predictions").num_rows == 2 * 12  # both classes of each image


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    data = class_folders(tmp_path / "data", 4)
    shutil.rmtree(data / "red")
    words = [
        "task=classify",
        "model=mobilenet_v3_small",
        "weights=random",
        *SHORT,
        f"train.data={data}",
    ]
    with pytest.raises(ConfigError, match="the data has one class, green"):
        train_model(settings_for(*words, f"output={tmp_path / 'out'}"))


@pytest.mark.long
def test_a_file_is_the_same_wherever_it_lies(tmp_path, monkeypatch):
    """A renamed file resumes its training, and the results do not contain its path."""
    monkeypatch.chdir(tmp_path)
    spec = settings_for("task=classify", "model=mobilenet_v3_small", "weights=random")
    builder = find_format(spec)
    save_checkpoint(
        tmp_path / "own.safetensors",
        builder.build_for_training(2).state_dict(),
        builder.build_metadata(("a", "b")),
    )
    data = class_folders(tmp_path / "data", 6)
    words = ["task=classify", *SHORT, f"train.data={data}", f"output={tmp_path / 'out'}"]
    plans = []
    for given in (tmp_path / "own.safetensors", "own.safetensors"):
        settings = settings_for(*words, f"model={given}")
        plans.append(
            build_training_plan(
                settings, instantiate(settings.components["examples"], task="classify")
            )
        )
    assert plans[0].folder == plans[1].folder
    assert str(tmp_path) not in json.dumps(collect_facts(plans[0]))


class Sizes:
    sizes_hw = np.array([(4, 6), (6, 4), (4, 6), (4, 6)])


@pytest.mark.parametrize(
    ("cropped", "numbers"), [(False, [[0, 2], [3], [1]]), (True, [[0, 1], [2, 3]])]
)
def test_a_batch_of_validation_has_one_size(cropped, numbers):
    batches = group_validation_batches(Sizes(), 2, cropped)
    assert [[number for _, number in batch] for batch in batches] == numbers


def test_a_dry_run_says_what_would_be_learnt_and_leaves_nothing(tmp_path):
    data = coco(tmp_path / "data", 6)
    text = train_model(
        settings_for(
            *SSD, *SHORT, f"train.data={data}", f"output={tmp_path / 'out'}", "dry_run=true"
        )
    )
    assert "5 for training, 1 for validation" in text or "4 for training, 2 for validation" in text
    assert "2: red, green" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("size", "refused"), [((5000, 1), True), ((1, 5000), True), ((5000, 20), False)]
)
def test_images_that_a_detector_would_shrink_to_nothing_are_named(tmp_path, size, refused):
    data = coco(tmp_path / "data", 6)
    content = json.loads(data.read_text())
    content["images"].append(
        {"id": 99, "file_name": "thin.png", "width": size[0], "height": size[1]}
    )
    data.write_text(json.dumps(content))
    Image.new("RGB", size).save(data.parent / "thin.png")
    words = [*SHORT, f"train.data={data}", f"output={tmp_path / 'out'}", "dry_run=true"]
    rcnn = settings_for(
        "task=detect",
        "model=fasterrcnn_mobilenet_v3_large_fpn",
        "weights=random",
        "train.backbone_weights=random",
        *words,
    )
    if refused:
        told = f"too thin .*: a problem.*\n  thin.png: {size[0]}x{size[1]} pixels"
        for verb in (train_model, propose_anchors):
            with pytest.raises(ConfigError, match=told):
                verb(rcnn)
    else:
        assert "for training" in train_model(rcnn)
    assert "for training" in train_model(
        settings_for(*SSD, *words)
    )  # whose input is always 320x320


@pytest.mark.long
def test_two_trainings_do_not_write_to_one_folder(tmp_path):
    data = coco(tmp_path / "data", 6)
    settings = settings_for(
        *SSD, *SHORT, f"train.data={data}", f"output={tmp_path / 'out'}", "dry_run=true"
    )
    folder = Path(re.search(r"folder +(\S+)", train_model(settings))[1])
    folder.mkdir(parents=True)
    words = [*SSD, *SHORT, f"train.data={data}", f"output={tmp_path / 'out'}"]
    with lock_folder(folder, Writer(), lambda alone: None), pytest.raises(RunLocked):
        train_model(settings_for(*words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=embed"], "task=embed cannot be trained; expected detect"),
        (["task=video"], "task=video cannot be trained"),
        (["output=s3://bucket/runs"], "train writes to this machine's disk"),
        (["train.data=null"], "train.data= is needed"),
        (["train.data=/nowhere.json"], "/nowhere.json"),
        (["train.data={data}", "precision=fp16", "device=cpu"], "precision=fp16 is for GPUs"),
        (["train.data={data}", "task=keypoints", "model=keypointrcnn_resnet50_fpn"], "keypoints"),
        (["train.data={data}", "model=maskrcnn_resnet50_fpn"],
         "more than boxes; say task=instances"),
        (["train.data={data}", "model=fasterrcnn"], "needs a backbone"),
        (["train.data={data}", "train.frozen_stages=6"], "expected 0 .* to 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, words, message):
    data = coco(tmp_path / "data", 6)
    given = [word.replace("{data}", str(data)) for word in words]
    output = (
        [] if any(word.startswith("output=") for word in given) else [f"output={tmp_path / 'out'}"]
    )
    with pytest.raises(ConfigError, match=message):
        train_model(
            settings_for(
                *[word for word in SSD if word.split("=")[0] not in "".join(given)], *given, *output
            )
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.faults
def test_a_killed_training_goes_on_with_the_same_losses(tmp_path):
    data = coco(tmp_path / "data", 12)
    words = [*SSD, *SHORT, f"train.data={data}"]

    def start(output):
        command = [sys.executable, "-m", "pipeline", "train", *words, f"output={output}"]
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ended(process):
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return folder_of(text)

    golden = ended(start(tmp_path / "golden"))
    steps = read_log(golden / "steps.jsonl")
    process = start(tmp_path / "killed")
    log = tmp_path / "killed" / golden.name / "steps.jsonl"
    while process.poll() is None and len(read_log(log)) < len(steps) // 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # its workers, which have its output too, end with it
    killed = ended(start(tmp_path / "killed"))
    assert read_log(killed / "steps.jsonl") == steps
    assert (killed / "best.safetensors").read_bytes() == (golden / "best.safetensors").read_bytes()
