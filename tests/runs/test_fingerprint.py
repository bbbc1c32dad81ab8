import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.config.instantiate import instantiate
from pipeline.core.types import ModelSpec
from pipeline.inference.engines.eager import Eager
from pipeline.runs.fingerprint import collect_determinants, describe_exact_names, make_run_name
from pipeline.runs.run_record import make_record
from tests.helpers.runs import settings_for

SPEC = ModelSpec(
    "net", frozenset({"detect"}), ("__background__", "cat"), "COCO_V1", "net-1234.pth", "resize 800"
)
ENGINE = Eager("cpu", None)
SOURCE = SimpleNamespace(identity="folder:/photos", decoder="jpeg: one, rest: pillow 13")


def name(*overrides, spec=SPEC, source=SOURCE):
    settings = settings_for(*overrides)
    return make_run_name(
        collect_determinants(settings, spec, source, instantiate(settings.components["engine"]))
    )


@pytest.fixture(scope="module")
def base():
    return name()


@pytest.mark.parametrize(
    "override",
    [
        "classes=[cat]",
        "exclude=[cat]",
        "min_score=0.4",
        "min_score={cat: 0.4}",
        "min_area=5",
        "nms_iou=0.5",
        "max_detections=7",
        "limit=3",
        "max_pixels=1000",
        "precision=bf16",
        "model_args={box_detections_per_img: 300}",
        "sink.parquet.compression=snappy",
        "tiles.size=640",
        "flip=true",
        "backbone=resnet18",
        "anchors.sizes=[32,64]",
        "anchors.ratios=[1]",
    ],
)
def test_a_setting_that_decides_what_the_files_hold_makes_another_run(base, override):
    assert name(override) != base


@pytest.mark.long
@pytest.mark.parametrize(
    "override",
    [
        "batch_size=3",
        "workers=1",
        "device=cpu",
        "shard_size=7",
        "output=elsewhere",
        "log_level=debug",
        "changed=accept",
        "dry_run=true",
        "min_score=0.5",  # detect's default, said aloud
        "classes=null",
        "tiles.merge=nmm",  # of no tiles
        "tiles.overlap=0.3",
        "tiles.iou=0.4",
        "anchors.ratios=null",
        "train.epochs=3",
        "to=onnx",
        "overlays=false",
        "overlays=3",
        "sink=[parquet]",
        "sink=[parquet,overlays,contact_sheets]",
        "sink.overlays.quality=50",
    ],
)
def test_a_setting_that_only_decides_how_does_not(base, override):
    assert name(override) == base


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"categories": ("__background__", "dog")},
        {"categories": ("cat", "__background__")},
        {"weights_id": "net-5678.pth"},
        {"preprocessing": "resize 640"},
    ],
)
def test_another_model_makes_another_run(base, changed):
    assert name(spec=replace(SPEC, **changed)) != base


def test_how_tiles_are_cut_and_merged_makes_another_run_where_there_are_tiles():
    tiled = [
        "",
        "tiles.size=320",
        "tiles.overlap=0.3",
        "tiles.merge=nmm",
        "tiles.iou=0.4",
        "flip=true",
    ]
    assert len({name("tiles.size=640", *([more] if more else [])) for more in tiled}) == len(tiled)
    assert name("flip=true") != name("flip=true", "tiles.iou=0.4")
    assert name("flip=true") == name("flip=true", "tiles.overlap=0.4")


def test_how_the_weights_are_called_does_not_matter(base):
    assert name(spec=replace(SPEC, weights="DEFAULT")) == base


def test_another_input_makes_another_run(base):
    assert name(source=SimpleNamespace(identity="folder:/other", decoder=SOURCE.decoder)) != base


def test_which_frames_are_taken_makes_another_run():
    video = ("source=video", "model=codes", "input=clips")
    asked = [(), ("source.fps=2",), ("source.fps=3",), ("source.every=2",)]
    assert len({name(*video, *one) for one in asked}) == len(asked)
    clips = ("task=video", "input=clips")
    asked = [(), ("source.length=8",), ("source.fps=15",), ("source.stride=4",)]
    assert len({name(*clips, *one) for one in asked}) == len(asked)


def test_another_task_makes_another_run():
    names = {name("task=classify"), name("task=classify", "top_k=3"), name("task=detect")}
    assert len(names) == 3


def test_another_decoder_makes_another_run(base):
    assert (
        name(
            source=SimpleNamespace(
                identity=SOURCE.identity, decoder="jpeg: another, rest: pillow 1"
            )
        )
        != base
    )


@pytest.mark.parametrize(
    "overrides",
    [(), ("engine=fast",), ("task=video", "input=clips"), ("sink=[parquet,overlays,label_maps]",)],
)
def test_it_holds_no_python_path(overrides):
    settings = settings_for(*overrides)
    engine = instantiate(settings.components["engine"])
    determined_by = collect_determinants(settings, SPEC, SOURCE, engine)
    assert "pipeline." not in json.dumps(determined_by)
    assert determined_by["sinks"] == {"parquet": {"compression": "zstd"}}
    assert determined_by["engine"]["name"] == ("fast" if "engine=fast" in overrides else "eager")


def test_a_class_that_moves_renames_no_run(base):
    settings = settings_for()
    components = json.loads(json.dumps(settings.components).replace("pipeline.", "pipeline.moved."))
    moved = replace(settings, components=components | {"sink": settings.components["sink"]})
    assert make_run_name(collect_determinants(moved, SPEC, SOURCE, ENGINE)) == base


def test_the_name_is_the_same_in_every_process(base):
    assert name() == base
    assert re.fullmatch(r"detect-net-[0-9a-f]{8}", base)


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("resnet50", "resnet50"),
        ("my model/é.pt", "_"),
        ("../../etc/passwd", "passwd"),
        ("a b\nc", "a_b_c"),
        ("x" * 50, "x" * 50),
    ],
)
def test_the_name_is_one_plain_folder_whatever_the_model_is_called(model, part):
    found = name(spec=replace(SPEC, name=model))
    assert re.fullmatch(rf"detect-{part}-[0-9a-f]{{8}}", found)


@pytest.mark.parametrize(
    ("task", "part"),
    [
        ("detect", "detect"),
        ("my-task.2", "my-task.2"),
        ("../../etc/x", ".._.._etc_x"),
        ("a b\nc", "a_b_c"),
    ],
)
def test_nor_does_it_matter_what_the_task_is_called(task, part):
    settings = settings_for()
    determined_by = collect_determinants(settings, SPEC, SOURCE, ENGINE)
    found = make_run_name(determined_by | {"task": determined_by["task"] | {"name": task}})
    assert re.fullmatch(rf"{re.escape(part)}-net-[0-9a-f]{{8}}", found)


def test_the_record_is_json_and_says_what_a_result_depends_on():
    settings = settings_for("classes=[cat]", "dry_run=true")
    determined_by = collect_determinants(settings, SPEC, SOURCE, ENGINE)
    found = json.loads(json.dumps(make_record(settings, SPEC, determined_by, "abc123", "cpu")))
    assert found["task"] == "detect" and found["device"] == "cpu"
    assert found["weights_sha256"] == "abc123" and found["categories"] == ["__background__", "cat"]
    assert found["config"]["classes"] == ["cat"] and "dry_run" not in found["config"]
    assert found["fingerprint_of"] == json.loads(json.dumps(determined_by))
    assert {"torch", "torchvision", "pillow", "pyarrow"} <= set(found["libraries"])


def test_the_same_run_leaves_the_same_record():
    settings = settings_for()
    records = [
        make_record(
            settings, SPEC, collect_determinants(settings, SPEC, SOURCE, ENGINE), None, "cpu"
        )
        for _ in range(2)
    ]
    assert records[0] == records[1]


def test_a_class_that_differs_from_another_by_case_is_a_filter_of_its_own():
    """A run of a version that ignored the case has other rows, so it has another name."""
    spec = replace(SPEC, categories=("__background__", "Helmet", "helmet", "cat"))
    names = {name(f"classes={given}", spec=spec) for given in ("[helmet]", "[Helmet]", "[cat]")}
    assert len(names) == 3

    filters = {"classes": ("helmet",), "exclude": None, "min_score": 0.5}
    assert describe_exact_names(filters, spec.categories) == {"exact_names": True}
    for unaffected in ({"classes": ("CAT",)}, {"classes": None}):
        assert describe_exact_names(filters | unaffected, spec.categories) == {}
    scores = {"classes": None, "min_score": {"default": 0.5, "HELMET": 0.7}}
    assert describe_exact_names(filters | scores, spec.categories) == {"exact_names": True}
