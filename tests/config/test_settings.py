"""Settings are composed with the task's defaults, and wrong values are refused."""

from pathlib import Path

import pytest

from pipeline.config.groups.images import TileSettings
from pipeline.core.errors import ConfigError
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import settings_for

# --- defaults


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ([], "codes"),  # the samples' detector
        (["input=null"], "codes"),
        (
            ["input=photos"],
            "fasterrcnn_resnet50_fpn_v2",
        ),  # never the samples' detector on a user's images unasked
        (["input=photos", "model=codes"], "codes"),
        (["model=retinanet_resnet50_fpn_v2"], "retinanet_resnet50_fpn_v2"),
        (["task=classify"], "resnet50"),
        (["task=classify", "input=photos"], "resnet50"),
        (["task=classify", "model=vit_b_16"], "vit_b_16"),
    ],
)
def test_the_model_that_is_used_by_default(given, model):
    assert settings_for(*given).model == model


def test_without_input_the_samples_are_annotated():
    settings = settings_for()
    assert Path(settings.input) == SAMPLES and SAMPLES.is_dir()
    assert settings.components["source"]["root"] == settings.input


@pytest.mark.parametrize(
    ("task", "key", "expected"),
    [
        ("detect", "min_score", 0.5),
        ("detect", "batch_size", None),  # the device decides
        ("detect", "top_k", None),
        ("classify", "min_score", 0.0),
        ("classify", "top_k", 5),
    ],
)
def test_a_null_is_replaced_by_the_tasks_default(task, key, expected):
    assert getattr(settings_for(f"task={task}"), key) == expected


@pytest.mark.parametrize(
    ("given", "key", "expected"),
    [
        ("classes=dog", "classes", ("dog",)),
        ("classes=[dog, traffic light]", "classes", ("dog", "traffic light")),
        ("classes=null", "classes", None),
        ("exclude=[' dog ']", "exclude", ("dog",)),
        ("classes=[1, 2]", "classes", ("1", "2")),
        ("classes=5", "classes", ("5",)),
        ("input=[a, b]", "input", "[a, b]"),
        ("min_score=0", "min_score", 0.0),
        ("min_score=1", "min_score", 1.0),
        ("min_score={person: 0.8}", "min_score", {"default": 0.5, "person": 0.8}),
        (
            "min_score={default: 0.2, traffic light: 0.8}",
            "min_score",
            {"default": 0.2, "traffic light": 0.8},
        ),
        ("min_score={person: 0}", "min_score", {"default": 0.5, "person": 0.0}),
        ("min_area=0", "min_area", 0.0),
        ("min_area=32.5", "min_area", 32.5),
        ("nms_iou=0.7", "nms_iou", 0.7),
        ("max_pixels=1_000", "max_pixels", 1000),
        ("overlays=false", "overlays", False),
        ("overlays=0", "overlays", 0),
        ("overlays=7", "overlays", 7),
        ("model_args={box_detections_per_img: 300}", "model_args", {"box_detections_per_img": 300}),
        ("+model_args.box_detections_per_img=300", "model_args", {"box_detections_per_img": 300}),
        ("model_args={}", "model_args", {}),
        ("trust_code=true", "trust_code", True),
        ("limit=1", "limit", 1),
        ("limit=null", "limit", None),
        ("changed=accept", "changed", "accept"),
        ("device=cuda:1", "device", "cuda:1"),
        ("workers=3", "workers", 3),
        ("batch_size=auto", "batch_size", "auto"),
        ("batch_size=3", "batch_size", 3),
        ("precision=null", "precision", None),
        ("flip=true", "flip", True),
        ("tiles.size=640", "tiles", TileSettings(size=640, overlap=0.2, merge="nms", iou=0.5)),
        (
            "tiles={size: 640, merge: nmm}",
            "tiles",
            TileSettings(size=640, overlap=0.2, merge="nmm", iou=0.5),
        ),
        ("tiles.overlap=0", "tiles", TileSettings(size=None, overlap=0.0, merge="nms", iou=0.5)),
    ],
)
def test_a_good_value_is_taken(given, key, expected):
    found = getattr(settings_for(given), key)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("given", "lowest"),
    [
        ("min_score=0.3", 0.3),
        ("min_score={person: 0.8}", 0.5),
        ("min_score={default: 0.9, person: 0.8}", 0.8),
    ],
)
def test_the_lowest_of_all_thresholds(given, lowest):
    assert settings_for(given).lowest_min_score == lowest


def test_components_get_the_checked_values():
    components = settings_for(
        "task=classify", "top_k=3", "input=photos", "precision=bf16", "overlays=4"
    ).components
    assert components["task"]["top_k"] == 3
    assert components["source"]["root"] == "photos"
    assert components["engine"]["precision"] == "bf16"
    assert components["sink"]["overlays"]["enabled"] == 4
    assert settings_for("task=classify").components["task"]["top_k"] == 5


@pytest.mark.parametrize(
    ("given", "sinks"), [([], {"parquet", "overlays"}), (["sink=[parquet]"], {"parquet"})]
)
def test_the_sinks_that_are_chosen(given, sinks):
    assert set(settings_for(*given).components["sink"]) == sinks


# --- refusals

NUMBER, WHOLE, TEXT = "a number from 0 to 1", "a whole number, 1 or more", "a text"
BATCH = f"{WHOLE}, or auto"
REFUSED = [
    ("channels=rbg", "channels=rbg", "rgb or bgr", "str 'rbg'"),
    ("precision=fp8", "precision=fp8", "fp32, bf16 or fp16", "str 'fp8'"),
    ("precision=16", "precision=16", "fp32, bf16 or fp16", "int 16"),
    (
        "log_level=warn",
        "log_level=warn",
        "debug, info, warning or error",
        "str 'warn'.* Did you mean 'warning'",
    ),
    (
        "changed=acept",
        "changed=acept",
        "refuse, accept or trust",
        "str 'acept'.* Did you mean 'accept'",
    ),
    ("trust_code=1", "trust_code=1", "true or false", "int 1"),
    ("trust_code='true'", "trust_code=true", "true or false", "str 'true'"),
    ("dry_run=yes", "dry_run=yes", "true or false", "str 'yes'"),
    ("overlays=some", "overlays=some", "true, false, or how many", "str 'some'"),
    ("overlays=-1", "overlays=-1", "true, false, or how many", "int -1"),
    ("overlays=null", "overlays=None", "true, false, or how many", "NoneType"),
    ("min_score=1.01", r"min_score=1\.01", NUMBER, "float 1.01"),
    ("min_score=-0.1", r"min_score=-0\.1", NUMBER, "float -0.1"),
    ("min_score=nan", "min_score=nan", NUMBER, "float nan"),
    ("min_score=true", "min_score=True", NUMBER, "bool True"),
    ("min_score=high", "min_score=high", NUMBER, "str 'high'"),
    ("min_score=[0.5]", r"min_score=\[0\.5\]", NUMBER, "ListConfig"),
    ("min_score={person: 2}", r"min_score\.person=2", NUMBER, "int 2"),
    ("min_score={default: x}", r"min_score\.default=x", NUMBER, "str 'x'"),
    ("nms_iou=1.5", r"nms_iou=1\.5", NUMBER, "float 1.5"),
    ("min_area=-1", "min_area=-1", "a number of square pixels, 0 or more", "int -1"),
    ("batch_size=0", "batch_size=0", BATCH, "int 0"),
    ("batch_size=two", "batch_size=two", BATCH, "str 'two'"),
    ("batch_size=2.0", r"batch_size=2\.0", BATCH, "float 2.0"),
    ("batch_size=true", "batch_size=True", BATCH, "bool True"),
    ("shard_size=null", "shard_size=None", WHOLE, "NoneType"),
    ("shard_size=0", "shard_size=0", WHOLE, "int 0"),
    ("workers=0", "workers=0", WHOLE, "int 0"),
    ("limit=0", "limit=0", WHOLE, "int 0"),
    ("limit='5'", "limit=5", WHOLE, "str '5'"),
    ("max_pixels=1e8", "max_pixels=", WHOLE, "float"),
    ("max_detections=0", "max_detections=0", WHOLE, "int 0"),
    ("top_k=0", "top_k=0", WHOLE, "int 0"),
    ("seed=-1", "seed=-1", "a whole number, 0 or more", "int -1"),
    ("seed=null", "seed=None", "a whole number, 0 or more", "NoneType"),
    ("output=null", "output=None", TEXT, "NoneType"),
    ("output=", "output=", TEXT, "str ''"),
    ("weights=null", "weights=None", TEXT, "NoneType"),
    ("device=", "device=", TEXT, "str ''"),
    ("preprocess=null", "preprocess=None", TEXT, "NoneType"),
    ("classes={dog: 1}", "classes=", "a class name or a list", "a mapping"),
    ("model_args=5", "model_args=5", "a mapping", "int 5"),
    ("model_args=[a]", "model_args=", "a mapping", "ListConfig"),
    ("flip=1", "flip=1", "true or false", "int 1"),
    ("tiles=640", "tiles=640", "a mapping", "int 640.* Say tiles.size=640"),
    ("tiles=null", "tiles=None", "a mapping", "NoneType.* Say tiles.size=640"),
    ("tiles.size=31", r"tiles\.size=31", "a whole number, 32 or more", "int 31"),
    ("tiles.size=big", r"tiles\.size=big", "a whole number, 32 or more", "str 'big'"),
    ("tiles.overlap=1", r"tiles\.overlap=1", "a number from 0 to 0.9", "int 1"),
    ("tiles.overlap=null", r"tiles\.overlap=None", "a number from 0 to 0.9", "NoneType"),
    ("tiles.merge=nmn", r"tiles\.merge=nmn", "nms or nmm", "str 'nmn'.* Did you mean 'n"),
    ("tiles.iou=1.5", r"tiles\.iou=1\.5", "a number from 0 to 1", "float 1.5"),
    pytest.param("input=", "input=", TEXT, "str ''"),
]


@pytest.mark.parametrize(("given", "key", "expected", "got"), REFUSED)
def test_a_bad_value_is_refused_with_its_key_what_was_expected_and_what_came(
    given, key, expected, got
):
    with pytest.raises(ConfigError, match=f"^{key}.*: expected {expected}.* got {got}"):
        settings_for(given)


@pytest.mark.parametrize("given", ["tiles={siz: 3}", "+tiles={siz: 3}"])
def test_an_unknown_key_below_tiles_is_refused_with_the_nearest(given):
    with pytest.raises(
        ConfigError, match=r"tiles\.siz: .* Did you mean 'size'\? It has size, overlap, merge, iou"
    ):
        settings_for(given)


def test_a_null_default_threshold_is_the_tasks_default():
    assert settings_for("min_score={default: null, person: 0.8}").min_score == {
        "default": 0.5,
        "person": 0.8,
    }


def test_a_reference_to_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"cannot be resolved.*nowhere"):
        settings_for("input=${nowhere}")
