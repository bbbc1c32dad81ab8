"""Whole runs with tiles and mirror images equal plain loops over crops, and find small objects."""

import contextlib
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import box_iou

from pipeline.core.types import View
from pipeline.inference.views import Views
from pipeline.models.networks.detector import DetectorNetwork
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.run import run
from tests.helpers.paths import shared
from tests.helpers.pictures import picture
from tests.helpers.reference import build, decoded, plain_classification, save_model, wake
from tests.helpers.runs import read, settings_for

SCORE, BOX = 2e-4, 0.05
RCNN = "fasterrcnn_mobilenet_v3_large_fpn"  # its results depend on the padding of its batch
SMALL = {
    "min_size": 64,
    "max_size": 128,
    "rpn_post_nms_top_n_test": 40,
    "box_detections_per_img": 20,
}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rows_by_image(
    annotate: Callable[..., Path], images: Path, name: str, *settings: str
) -> list[pa.Table]:
    output = images.parent / name
    annotate(f"input={images}", "min_score=0", "overlays=false", *settings, f"output={output}")
    rows = read((output / "latest").resolve(), "predictions")
    ids = rows["image_id"].to_numpy()
    return [rows.filter(pa.array(ids == i)) for i in range(len(files(images)))]


def awake_detector(images: list[Path], tmp_path: Path) -> tuple[nn.Module, Path]:
    model = build(RCNN, detector=True, **SMALL)
    transform = get_model_weights(RCNN).DEFAULT.transforms()
    inputs = [transform(decoded(path)) for path in images[:3]]
    heads = [m for n, m in model.named_modules() if n.endswith(("cls_logits", "cls_score"))]
    wake(model, lambda: model(inputs), heads, spread=1.5)
    return model, save_model(model, tmp_path / "m.safetensors", detector=True)


def seen_in_crops(
    model: nn.Module, image: Tensor, shown: Sequence[View]
) -> list[dict[str, Tensor]]:
    """Detect in a plain loop: crop, mirror and detect one view after the other."""
    transform, answers = get_model_weights(RCNN).DEFAULT.transforms(), []
    for view in shown:
        x_min, y_min, x_max, y_max = view.window_xyxy
        crop = image[:, y_min:y_max, x_min:x_max]
        crop = crop.flip(2) if view.mirrored else crop
        with torch.inference_mode():
            answers.append(model([transform(crop)])[0])
    return answers


@pytest.mark.long
@pytest.mark.usefixtures("load_once")
def test_tiles_and_mirror_images_equal_a_plain_loop_over_crops_at_any_batch_size(
    mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("1.png", "sub/2.jpg"):
        (mixed_images / name).unlink()
    images = files(mixed_images)
    model, file = awake_detector(images, tmp_path)
    shown = [
        Views(tile=64, overlap=0.25, flip=True).list_views(decoded(path).shape[-2:])
        for path in images
    ]
    answers = [
        seen_in_crops(model, decoded(path), views)
        for path, views in zip(images, shown, strict=True)
    ]
    arguments = "model_args={" + ",".join(f"{k}:{v}" for k, v in SMALL.items()) + "}"
    settings = [
        f"model={RCNN}",
        f"weights={file}",
        arguments,
        "tiles.size=64",
        "tiles.overlap=0.25",
        "flip=true",
    ]
    for merge, batch_size in (("nms", 1), ("nms", 4), ("nmm", 4)):
        merger = Views(iou=0.5, union=merge == "nmm")
        expected = [merger.merge(one, views) for one, views in zip(answers, shown, strict=True)]
        seen, whole = sum(map(count, answers)), count([views[0] for views in answers])
        assert seen > count(expected) > 2 * whole > 0, "merging or the tiles did nothing"
        more = [f"tiles.merge={merge}", f"batch_size={batch_size}"]
        found = rows_by_image(annotate, mixed_images, f"{merge}-{batch_size}", *settings, *more)
        for rows, one in zip(found, expected, strict=True):
            assert_same(rows, {name: value.numpy() for name, value in one.items()})


def count(outputs: Sequence[dict[str, Tensor]]) -> int:
    return sum(len(one["scores"]) for one in outputs)


def assert_same(rows: pa.Table, expected: dict[str, np.ndarray]) -> None:
    assert rows.num_rows == len(expected["scores"])
    scores, ids, boxes = (
        rows["score"].to_numpy(),
        rows["class_id"].to_numpy(),
        read_boxes_xyxy(rows),
    )
    free = np.ones(len(scores), dtype=bool)
    for score, label, box in zip(
        expected["scores"], expected["labels"], expected["boxes"], strict=True
    ):
        near = (
            free
            & (ids == label)
            & (np.abs(scores - score) <= SCORE)
            & (np.abs(boxes - box).max(axis=1) <= BOX)
        )
        assert near.any(), f"no row for class {label}, score {score}, box {box}"
        free[np.flatnonzero(near)[0]] = False


def test_flip_classifies_by_the_mean_of_both_probabilities(
    mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    images, name = files(mixed_images), "mobilenet_v3_small"
    model = build(name, detector=False)
    transform = get_model_weights(name).DEFAULT.transforms()
    batch = torch.stack([transform(decoded(path)) for path in images])
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    wake(model, lambda: model(batch), [head], spread=2.0)
    file = save_model(model, tmp_path / "m.safetensors", detector=False)
    with torch.inference_mode():
        expected = [
            torch.stack(
                [model(transform(one)[None])[0].softmax(0) for one in (image, image.flip(2))]
            ).mean(dim=0)
            for image in map(decoded, images)
        ]
    alone = plain_classification(model, name, images, top_k=6)
    settings = ["task=classify", f"model={name}", f"weights={file}", "flip=true", "top_k=6"]
    for batch_size in (1, 5):
        found = rows_by_image(
            annotate, mixed_images, f"batch-{batch_size}", *settings, f"batch_size={batch_size}"
        )
        for rows, wanted, (scores, ids) in zip(found, expected, alone, strict=True):
            probabilities = np.zeros(6)
            probabilities[rows["class_id"].to_numpy()] = rows["score"].to_numpy()
            np.testing.assert_allclose(probabilities, wanted.numpy(), atol=SCORE)
            assert np.abs(wanted.numpy()[ids] - scores).max() > 1e-3, (
                "the mirror image changed nothing"
            )


def find_bright(
    self: DetectorNetwork, inputs: list[Tensor], sizes_hw: list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Detect pixels above 0.5. In a mirror image it finds the mirror image of its result."""
    found = []
    for image in inputs:
        y, x = (image.mean(dim=0) > 0.5).nonzero(as_tuple=True)
        box = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
        boxes = torch.tensor(box, dtype=torch.float32).reshape(-1, 4)
        scores, labels = torch.full((len(boxes),), 0.9), torch.ones(len(boxes), dtype=torch.long)
        found.append({"boxes": boxes, "labels": labels, "scores": scores})
    return found


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace `model=codes` by that detector, without resizing images."""
    monkeypatch.setattr(DetectorNetwork, "forward", find_bright)
    monkeypatch.setattr(DetectorNetwork, "preprocess", lambda self, image: image.float() / 255)
    monkeypatch.setattr(DetectorNetwork, "compute_bucket", lambda self, size_hw: size_hw)


BOX_IN_IMAGE = (150, 40, 260, 70)


@pytest.fixture
def bright_box(tmp_path: Path, bright: None) -> Path:
    image = Image.new("RGB", (400, 100))
    image.paste((255, 255, 255), BOX_IN_IMAGE)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "a.png")
    return tmp_path / "in"


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["flip=true"],
        ["tiles.size=200"],
        ["tiles.size=100", "flip=true"],
        ["tiles.size=64", "tiles.merge=nmm"],
    ],
)
def test_a_known_object_is_found_once_and_in_its_place(
    settings: list[str], bright_box: Path, annotate: Callable[..., Path]
) -> None:
    (rows,) = rows_by_image(annotate, bright_box, "out", "model=codes", "min_score=0", *settings)
    assert [tuple(box) for box in read_boxes_xyxy(rows).tolist()] == [BOX_IN_IMAGE]


@pytest.mark.long
@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("broken", ["raises", "nan"])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_one_broken_view_fails_its_image_and_no_other(
    broken: str,
    batch_size: int,
    annotate: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for i in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(300, 100, seed=i).save(tmp_path / "in" / f"{i}.png")
    shown: list[Tensor] = []
    marked = decoded(tmp_path / "in" / "1.png")[:, :, 66:166]  # the second tile of that image

    def forward(
        self: DetectorNetwork, inputs: list[Tensor], sizes_hw: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        outputs = find_bright(self, inputs, sizes_hw)
        shown.extend(inputs)
        for image, output in zip(inputs, outputs, strict=True):
            if image.shape == marked.shape and torch.equal(
                (image * 255).round().to(torch.uint8), marked
            ):
                if broken == "raises":
                    raise torch.OutOfMemoryError("this tile is too much")
                output["scores"] = output["scores"].new_full((1,), float("nan"))
                output["boxes"], output["labels"] = (
                    torch.zeros(1, 4),
                    torch.ones(1, dtype=torch.long),
                )
        return outputs

    monkeypatch.setattr(DetectorNetwork, "forward", forward)
    tiled = [
        "model=codes",
        "tiles.size=100",
        "tiles.overlap=0.25",
        f"batch_size={batch_size}",
        "overlays=false",
    ]
    images = read(annotate(f"input={tmp_path / 'in'}", *tiled), "images")
    expected = {"raises": "out_of_memory", "nan": "model_error"}[broken]
    assert images["status"].to_pylist() == ["ok", expected, "ok"]
    assert images["n_predictions"].to_pylist()[1] is None
    if batch_size == 1:
        assert len(shown) == 5 + 3 + 5, "views of a lost image were looked at"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classify", "tiles.size=64"], "tiles.size means nothing to task=classify"),
        (["task=segment", "tiles.size=64"], "tiles.size means nothing to task=segment"),
        (["task=embed", "tiles.size=64"], "tiles.size means nothing to task=embed"),
        (["task=video", "input=.", "tiles.size=64"], "tiles.size means nothing to task=video"),
        (
            ["task=instances", "tiles.size=64", "tiles.merge=nmm"],
            "task=instances has masks too. Say tiles.merge=nms",
        ),
        (
            ["task=keypoints", "flip=true", "tiles.merge=nmm"],
            "task=keypoints has keypoints too. Say tiles.merge=nms",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused_before_any_weights_are_loaded(
    overrides: list[str], message: str, refuse_early: Callable[[list[str], str], None]
) -> None:
    refuse_early(overrides, message)


def test_dry_run_says_what_the_model_will_be_shown(tmp_path: Path) -> None:
    text = run(
        settings_for(
            "dry_run=true",
            f"output={tmp_path}",
            "tiles.size=640",
            "tiles.overlap=0.25",
            "flip=true",
        )
    ).text
    assert "the whole image, tiles of 640 x 640 pixels that overlap by 25%, mirror images" in text


# --- a large image with small objects

D2GO = [
    "task=detect",
    "model=torchscript",
    "categories=coco",
    "channels=bgr",
    "trust_code=true",
    "min_score=0.05",
]


@pytest.fixture
def canvas(tmp_path: Path) -> Path:
    """Put 36 photographs on 4000 x 3000 pixels, with their objects in instances.json."""
    data = shared("data/coco128")
    truth = json.loads((data / "instances.json").read_text())
    fitting = [
        image for image in truth["images"] if image["width"] == 640 and image["height"] <= 500
    ]
    image, objects = Image.new("RGB", (4000, 3000), (114, 114, 114)), []
    for place, one in enumerate(random.Random(0).sample(fitting, 36)):
        left, top = place % 6 * 666 + 13, place // 6 * 500 + 10
        image.paste(Image.open(data / "images" / one["file_name"]).convert("RGB"), (left, top))
        for annotation in truth["annotations"]:
            if annotation["image_id"] == one["id"]:
                x, y, width, height = annotation["bbox"]
                moved = {
                    "id": len(objects) + 1,
                    "image_id": 1,
                    "bbox": [x + left, y + top, width, height],
                }
                objects.append(annotation | moved)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "canvas.png", compress_level=1)
    images = [{"id": 1, "file_name": "canvas.png", "width": 4000, "height": 3000}]
    truth = {"images": images, "annotations": objects, "categories": truth["categories"]}
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    return tmp_path / "in"


def ap50(rows: pa.Table, truth: Path) -> float:
    """Compute AP50 with pycocotools over all detections."""
    found = [
        {"image_id": 1, "category_id": label, "score": score, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for label, score, (x0, y0, x1, y1) in zip(
            rows["class_id"].to_pylist(),
            rows["score"].to_pylist(),
            read_boxes_xyxy(rows).tolist(),
            strict=True,
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = [1, 100, 10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]  # IoU 0.5, all sizes, all detections
    return float(precision[precision > -1].mean())


@pytest.mark.long
def test_tiles_find_small_objects_and_none_twice(
    canvas: Path, annotate: Callable[..., Path]
) -> None:
    settings = [*D2GO, f"weights={shared('weights/d2go_coco.pt')}"]
    tiled = ["tiles.size=640", "tiles.overlap=0.25"]
    (plain,) = rows_by_image(annotate, canvas, "plain", *settings, "min_score=0.05")
    assert ap50(plain, canvas.parent / "instances.json") < 0.05
    for merge in ("nms", "nmm"):
        (rows,) = rows_by_image(
            annotate, canvas, merge, *settings, "min_score=0.05", *tiled, f"tiles.merge={merge}"
        )
        sure = rows.filter(pa.array(rows["score"].to_numpy() >= 0.5))
        assert (
            sure.num_rows >= 20 * (plain["score"].to_numpy() >= 0.5).sum() > 0
        )  # 271 and 10 when this was written
        assert (
            ap50(rows, canvas.parent / "instances.json") > 0.2
        )  # 0.29 with nms, 0.32 with nmm, 0.02 without tiles
        assert doubled(sure) == 0


def doubled(rows: pa.Table) -> int:
    """Count pairs of one class with an IoU above 0.5. The model's own NMS leaves none."""
    boxes, labels = (
        torch.from_numpy(read_boxes_xyxy(rows)),
        torch.from_numpy(rows["class_id"].to_numpy().copy()),
    )
    same = (box_iou(boxes, boxes) > 0.5) & (labels[:, None] == labels)
    return int(same.sum() - len(labels)) // 2
