"""YOLO files: recognised by their metadata, and decoded by their layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import torch
from PIL import Image

from pipeline.cli import main
from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.networks.yolo import YoloNetwork, YoloThresholds
from pipeline.models.networks.yolo_keypoints import decode_keypoints
from pipeline.models.programs.signature import ProgramSignature
from pipeline.models.programs.yolo_layout import RowKind, YoloLayout, parse_metadata
from pipeline.models.registry import find_file_tasks, find_format
from tests.helpers.runs import settings_for
from tests.helpers.yolo_files import NAMES, describe_file, save_onnx, save_torchscript
from tests.models.programs.fake_program import FakeProgram

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning"
)
SAVERS = {"onnx": save_onnx, "torchscript": save_torchscript}


def make_layout(shape: tuple = (), **changes: Any) -> YoloLayout:
    """Return the layout of a file whose main output has this shape."""
    signature = ProgramSignature((1, 3, 64, 64), {"output0": shape}, shape, (1, 1))
    metadata = parse_metadata(describe_file(**changes))
    return YoloLayout.from_facts(Path("best.onnx"), metadata, signature if shape else None)


def decode(layout: YoloLayout, rows: torch.Tensor, size_hw: tuple[int, int] = (64, 64)) -> dict:
    network = YoloNetwork(
        FakeProgram(lambda images: rows.expand(len(images), -1, -1)),
        layout,
        YoloThresholds(floor=0.05, iou=0.7, max_det=300),
    )
    (output,) = network([torch.zeros(3, 64, 64, dtype=torch.uint8)], [size_hw])
    return {name: values.tolist() for name, values in output.items()}


@pytest.mark.parametrize(
    ("shape", "changes", "kind"),
    [
        ((1, 6, 84), {}, RowKind.ANCHORS),
        ((1, 300, 6), {"end2end": True}, RowKind.DETECTIONS),
        ((1, 300, 6), {"args": {"nms": True}}, RowKind.DETECTIONS),
        ((1, 300, 6), {"args": None, "end2end": None}, RowKind.DETECTIONS),
        ((1, 6, 6), {"args": None, "end2end": None}, RowKind.ANCHORS),
        ((1, 300, 7), {"names": ["a", "b", "c"], "head": "RTDETRDecoder"}, RowKind.QUERIES),
        ((1, 300, 6), {"names": ["a"], "head": "RTDETRDecoder"}, RowKind.QUERY_DETECTIONS),
        ((1, 252, 7), {"task": None}, RowKind.OBJECTNESS),
        ((), {}, RowKind.ANCHORS),
    ],
)
def test_the_rows_are_told_from_metadata_and_shapes(
    shape: tuple, changes: dict, kind: RowKind
) -> None:
    assert make_layout(shape, **changes).kind is kind


ONE = [[[32.0, 16.0, 20.0, 10.0, 0.9, 0.2]]]  # cxcywh


@pytest.mark.parametrize(
    ("shape", "changes", "rows", "expected"),
    [
        ((1, 6, 1), {}, torch.tensor(ONE).mT, ([22, 11, 42, 21], 0.9, 0)),
        (
            (1, 1, 6),
            {"end2end": True},
            torch.tensor([[[22.0, 11.0, 42.0, 21.0, 0.9, 1.0]]]),
            ([22, 11, 42, 21], 0.9, 1),
        ),
        (
            (1, 1, 7),
            {"task": None},
            torch.tensor([[[32.0, 16.0, 20.0, 10.0, 0.5, 0.2, 0.8]]]),
            ([22, 11, 42, 21], 0.4, 1),
        ),
        (
            (1, 1, 6),
            {"head": "RTDETRDecoder"},
            torch.tensor([[[0.5, 0.25, 0.5, 0.25, 0.1, 0.6]]]),
            ([16, 8, 48, 24], 0.6, 1),
        ),
    ],
)
def test_one_row_becomes_one_box(
    shape: tuple, changes: dict, rows: torch.Tensor, expected: tuple
) -> None:
    output = decode(make_layout(shape, **changes), rows)
    box, score, label = expected
    assert output["boxes"] == [pytest.approx(box)] and output["labels"] == [label]
    assert output["scores"] == [pytest.approx(score)]


def test_overlapping_boxes_of_one_class_are_one_and_those_of_two_classes_are_two() -> None:
    columns = torch.tensor(
        [
            [32.0, 32, 20, 20, 0.9, 0.0],
            [33.0, 32, 20, 20, 0.8, 0.0],  # IoU 0.9 with the first
            [33.0, 32, 20, 20, 0.0, 0.7],
            [10.0, 10, 8, 8, 0.04, 0.0],  # below the floor
        ]
    )
    output = decode(make_layout((1, 6, 4)), columns.T[None])
    assert output["labels"] == [0, 1]
    assert output["scores"] == [pytest.approx(0.9), pytest.approx(0.7)]


def test_boxes_are_in_pixels_of_the_image() -> None:
    """An image of 128 x 64 is halved and has 16 columns of padding at the left."""
    output = decode(make_layout((1, 6, 1)), torch.tensor(ONE).mT, (128, 64))
    assert output["boxes"] == [pytest.approx([12, 22, 52, 42])]


def test_keypoints_are_in_pixels_of_the_image_with_logits() -> None:
    layout = make_layout((1, 12, 1), task="pose", kpt_shape=[2, 3])
    points = [40.0, 20.0, 0.5, 16.0, 0.0, 0.75]
    network = YoloNetwork(
        FakeProgram(lambda images: torch.tensor([[*ONE[0][0], *points]])[..., None]),
        layout,
        YoloThresholds(0.05, 0.7, 300),
        lambda found, placed: decode_keypoints(found, placed, layout.keypoint_shape),
    )
    (output,) = network([torch.zeros(3, 64, 64, dtype=torch.uint8)], [(128, 64)])
    assert output["keypoints"].tolist() == [[[48, 40, 1], [0, 0, 1]]]
    assert output["keypoints_scores"].sigmoid().tolist() == [pytest.approx([0.5, 0.75])]


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((1, 84, 21), {}, r"best.onnx: 84 channels, but names has 2: expected 4 \+ 2"),
        ((1, 6, 21), {"names": {0: "a", 2: "b"}}, "names are not a list of class names"),
        ((1, 6, 21), {"names": "cat"}, "names are not a list of class names"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    shape: tuple, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_layout(shape, **changes)


def test_an_output_of_another_shape_ends_the_run() -> None:
    with pytest.raises(PipelineError, match="rows of 3 numbers; expected at least 6"):
        decode(make_layout(), torch.zeros(1, 3, 9))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["categories=coco"], "has 2 classes, but categories=coco has 91 names"),
        (["preprocess=MobileNet_V2_Weights.IMAGENET1K_V1"], "says itself how its images"),
        (["model_args={image_size:128}"], "takes 64 x 64 only"),
        (["model_args={iuo:0.5}"], "model_args"),
        (["task=classify"], "can do detect, not task=classify"),
        (["weights=other.onnx"], "is the file itself; leave weights= out"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(
    words: list[str], message: str, tmp_path: Path
) -> None:
    file = save_onnx(tmp_path)
    with pytest.raises(ConfigError, match=message):
        find_format(settings_for(f"model={file}", "input=.", *words)).describe()


def test_a_file_for_an_unknown_purpose_is_refused(tmp_path: Path) -> None:
    file = save_onnx(tmp_path, task="depth")
    with pytest.raises(ConfigError, match="is made for depth, which this program does not read"):
        find_file_tasks(str(file))


def test_a_checkpoint_with_pickled_code_is_refused_with_the_export_command(tmp_path: Path) -> None:
    """The names in the pickle tell who wrote it. Nothing is executed."""
    import pickle
    import zipfile

    class Planted:
        def __reduce__(self) -> tuple:
            return (eval, ("1/0",))

    pickled = pickle.dumps(Planted()).replace(b"builtins", b"ultralyt", 1)
    pickled = b"\x80\x02cultralytics.nn.tasks\nDetectionModel\n." + pickled
    with zipfile.ZipFile(tmp_path / "best.pt", "w") as archive:
        archive.writestr("best/data.pkl", pickled)
    with pytest.raises(ConfigError, match=r"yolo export model=best.pt format=onnx"):
        find_format(settings_for(f"model={tmp_path / 'best.pt'}", "input=."))


@pytest.mark.parametrize("kind", SAVERS)
def test_a_run_needs_the_file_alone(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither task, weights, categories nor preprocess: the file says them."""
    file = SAVERS[kind](tmp_path)
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64, 0] = 255  # the left half is red, the right half green
    pixels[:, 64:, 1] = 255
    Image.fromarray(pixels).save(images / "a.png")
    trust = ["trust_code=true"] if kind == "torchscript" else []
    words = [f"model={file}", f"input={images}", f"output={tmp_path / 'out'}", "min_score=0.4"]
    assert main(["run", *words, *trust]) == 0

    rows = ds.dataset(tmp_path / "out/latest/predictions").to_table().to_pydict()
    # 128 x 64 is letterboxed into 64 x 64: 16 rows of padding, then 32 rows of content.
    # Each cell shows 16 rows of padding (114 / 255) and 16 rows of a colour.
    assert sorted(rows["class_name"]) == ["green"] * 2 + ["red"] * 2
    assert rows["score"] == pytest.approx([(1 + 114 / 255) / 2] * 4, abs=1e-4)
    boxes = zip(*(rows[name] for name in ("x_min", "y_min", "x_max", "y_max")), strict=True)
    assert sorted(boxes) == [(0, 0, 64, 32), (0, 32, 64, 64), (64, 0, 128, 32), (64, 32, 128, 64)]
    capsys.readouterr()

    assert main(["inspect", f"model={file}", *trust]) == 0
    told = capsys.readouterr().out
    assert "metadata of Ultralytics" in told and "letterboxed into 64 x 64" in told
    assert "2: red, green" in told


@pytest.mark.parametrize("sizes", [[(64, 64)], [(64, 64), (64, 64), (64, 64)]])
def test_a_dynamic_file_gets_rectangles_and_batches(
    sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    file = save_onnx(tmp_path, dynamic=True, args={"dynamic": True, "nms": None})
    model = find_format(settings_for(f"model={file}", "input=.")).load()
    assert model.bucket((64, 128)) == (32, 64)
    assert model.bucket((128, 64)) == (64, 32)
    image = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    outputs = model.network([model.preprocess(image) for _ in sizes], sizes)
    assert [len(output["scores"]) for output in outputs] == [4] * len(sizes)


def test_a_nms_inside_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = save_onnx(tmp_path, args={"dynamic": False, "nms": True})
    find_format(settings_for(f"model={file}", "input=.")).describe()
    assert "has NMS inside with conf 0.25: nothing below it is reported" in caplog.text


def test_names_of_the_user_replace_those_of_the_file(
    tmp_path: Path, annotate: Callable[..., Path]
) -> None:
    (tmp_path / "names.txt").write_text("rot\ngrün\n", encoding="utf-8")
    words = [f"model={save_onnx(tmp_path)}", "input=.", f"categories={tmp_path / 'names.txt'}"]
    assert find_format(settings_for(*words)).describe().categories == ("rot", "grün")
    assert tuple(NAMES.values()) == ("red", "green")
