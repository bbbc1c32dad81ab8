import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.errors import ConfigError
from pipeline.ops.filters import Filters, make_score_thresholds, record_class_names

NAMES = ("__background__", "person", "traffic light", "N/A", "Dog")
INF = float("inf")


def detections(*rows):
    """Rows of (image_id, class_id, score, (x_min, y_min, x_max, y_max))."""
    columns = {
        "image_id": pa.array([row[0] for row in rows], pa.int64()),
        "class_id": pa.array([row[1] for row in rows], pa.int32()),
        "score": pa.array([row[2] for row in rows], pa.float32()),
    }
    for i, name in enumerate(("x_min", "y_min", "x_max", "y_max")):
        columns[name] = pa.array([row[3][i] for row in rows], pa.float32())
    return pa.table(columns)


def scores(table):
    return [round(score, 4) for score in table["score"].to_pylist()]


SQUARE, SHIFTED, SMALL, FAR = (0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 52, 52), (80, 80, 90, 90)
ROWS = detections(
    (0, 1, 0.9, SQUARE),
    (0, 4, 0.8, SHIFTED),
    (0, 1, 0.7, SMALL),
    (0, 2, 0.3, FAR),
    (1, 1, 0.6, SQUARE),
    (1, 1, 0.2, FAR),
)
ALL = (0.0,) * 5


@pytest.mark.parametrize(
    "filters",
    [Filters(ALL), Filters(ALL, min_area=1), Filters(ALL, nms_iou=0.5), Filters(ALL, 1.0, 0.5, 1)],
    ids=["scores", "area", "nms", "everything"],
)
def test_an_empty_table_stays_empty_and_keeps_its_columns(filters):
    empty = ROWS.slice(0, 0)
    assert filters.apply(empty).equals(empty)
    assert filters.apply(ROWS.schema.empty_table()).schema == ROWS.schema


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (Filters(ALL), [0.9, 0.8, 0.7, 0.3, 0.6, 0.2]),
        (Filters((0.65,) * 5), [0.9, 0.8, 0.7]),
        (Filters((0.0, 0.65, 0.0, 0.0, 0.85)), [0.9, 0.7, 0.3]),
        (Filters((INF, 0.0, INF, INF, INF)), [0.9, 0.7, 0.6, 0.2]),
        (Filters((INF,) * 5), []),
        (Filters(ALL, min_area=4), [0.9, 0.8, 0.7, 0.3, 0.6, 0.2]),
        (Filters(ALL, min_area=4.01), [0.9, 0.8, 0.3, 0.6, 0.2]),
        (
            Filters(ALL, nms_iou=0.5),
            [0.9, 0.7, 0.3, 0.6, 0.2],
        ),  # of any class, but not of another image
        (Filters(ALL, nms_iou=0.9), [0.9, 0.8, 0.7, 0.3, 0.6, 0.2]),
        (Filters(ALL, max_detections=1), [0.9, 0.6]),
        (Filters(ALL, max_detections=3), [0.9, 0.8, 0.7, 0.6, 0.2]),
    ],
)
def test_what_is_kept(filters, kept):
    assert scores(filters.apply(ROWS)) == kept


@pytest.mark.parametrize(
    ("filters", "kept", "why"),
    [
        (
            Filters((0, INF, 0, 0, 0), nms_iou=0.5),
            [0.8, 0.3],
            "an unwanted person suppresses nothing",
        ),
        (
            Filters(ALL, min_area=4.01, max_detections=2),
            [0.9, 0.8, 0.6, 0.2],
            "a small box takes no place",
        ),
        (
            Filters(ALL, nms_iou=0.5, max_detections=2),
            [0.9, 0.7, 0.6, 0.2],
            "a suppressed box takes no place",
        ),
        (Filters((0, 0.95, 0, 0, 0), None, 0.5, 1), [0.8], "score, NMS, count"),
    ],
)
def test_filters_come_in_the_order_score_area_nms_count(filters, kept, why):
    assert scores(filters.apply(ROWS)) == kept, why


def test_a_small_good_box_suppresses_no_large_one_because_area_comes_before_nms():
    rows = detections((0, 1, 0.9, (0, 0, 3, 3)), (0, 1, 0.5, (0, 0, 3, 4)))
    assert scores(Filters(ALL, min_area=10, nms_iou=0.5).apply(rows)) == [0.5]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 0.0])
def test_a_score_equal_to_its_threshold_in_float32_is_kept(threshold):
    at = np.float32(threshold)
    rows = detections((0, 1, at, SQUARE), (0, 1, np.nextafter(at, np.float32(-1)), SQUARE))
    assert Filters((threshold,) * 5).apply(rows).num_rows == 1


def test_filtering_keeps_the_schema_with_its_metadata():
    rows = ROWS.replace_schema_metadata({"task": "detect"})
    assert (
        Filters((0.5,) * 5, 1.0, 0.5, 1).apply(rows).schema.equals(rows.schema, check_metadata=True)
    )


def test_a_table_of_several_chunks_is_filtered_as_one():
    parts = pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(2, 0), ROWS.slice(2)])
    filters = Filters((0.25,) * 5, 4.01, 0.5, 1)
    assert filters.apply(parts).equals(filters.apply(ROWS))


def crowd(seed):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (80, 2)), rng.uniform(1, 40, (80, 2))
    found = zip(
        rng.integers(0, 4, 80),
        rng.integers(0, 5, 80),
        rng.random(80),
        np.hstack([corner, corner + size]),
        strict=True,
    )
    return detections(*sorted(found, key=lambda row: row[0]))


@pytest.mark.parametrize(
    ("seed", "strict"),
    [
        (seed, strict)
        for seed in range(3)
        for strict in (
            Filters((0.5,) * 5, 20.0),
            Filters((0.3, 0.9, 0.4, INF, 0.2), 200.0),
            Filters((0.3,) * 5, 50.0, 0.4, 3),
        )
    ],
)
def test_loose_then_strict_is_strict_when_the_loose_pass_has_no_nms_and_no_count(seed, strict):
    rows = crowd(seed)
    loose = Filters((0.1, 0.2, 0.0, 0.3, 0.2), 20.0).apply(rows)
    assert 0 < strict.apply(rows).num_rows < loose.num_rows < rows.num_rows
    assert strict.apply(loose).equals(strict.apply(rows))


@pytest.mark.parametrize(
    ("classes", "exclude", "min_score", "expected"),
    [
        (None, None, None, (0.0,) * 5),
        (["dog"], None, None, (INF, INF, INF, INF, 0.0)),
        (None, None, 0.5, (0.5, 0.5, 0.5, 0.5, 0.5)),
        (["dog"], None, 0.5, (INF, INF, INF, INF, 0.5)),
        (["DOG", "Person"], None, 0.1, (INF, 0.1, INF, INF, 0.1)),
        (None, ["TRAFFIC LIGHT"], 0.5, (0.5, 0.5, INF, 0.5, 0.5)),
        (["dog", "person"], ["person"], 0.5, (INF, INF, INF, INF, 0.5)),
        (None, None, {"default": 0.5, "Traffic Light": 0.2}, (0.5, 0.5, 0.2, 0.5, 0.5)),
        (["person"], None, {"default": 0.5, "dog": 0.2, "person": 0.9}, (INF, 0.9, INF, INF, INF)),
        (None, (), {"default": 0.25}, (0.25,) * 5),
    ],
)
def test_one_threshold_per_class(classes, exclude, min_score, expected):
    assert make_score_thresholds(NAMES, classes, exclude, min_score) == expected


def test_several_ids_of_one_name_share_a_threshold():
    assert make_score_thresholds(
        ("crane", "dog", "crane"), ["Crane"], None, {"default": 0.5, "CRANE": 0.1}
    ) == (0.1, INF, 0.1)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["helmet"], (0.5, INF, INF, INF)),
        (["Helmet"], (INF, 0.5, INF, INF)),
        (["Helmet", "helmet"], (0.5, 0.5, INF, INF)),
        (["HELMET"], (0.5, 0.5, INF, INF)),  # no class has exactly this name
        (["CAFE\u0301"], (INF, INF, INF, 0.5)),
        (["cafe\u0301"], (INF, INF, INF, 0.5)),
        ([" dog "], (INF, INF, 0.5, INF)),
    ],
)
def test_a_name_that_is_there_exactly_means_that_class_alone(classes, expected):
    names = ("helmet", "Helmet", "Dog", "caf\u00e9")
    assert make_score_thresholds(names, classes, None, 0.5) == expected
    assert make_score_thresholds(names, None, classes, 0.5) == tuple(
        INF if least == 0.5 else 0.5 for least in expected
    )
    scores = {"default": INF} | dict.fromkeys(classes, 0.5)
    assert make_score_thresholds(names, None, None, scores) == expected


def test_a_name_that_stands_for_several_classes_is_said(caplog):
    make_score_thresholds(("helmet", "Helmet"), ["HELMET"], None, 0.5)
    assert "classes: 'HELMET' stands for the classes helmet and Helmet." in caplog.text


def test_a_class_with_two_scores_is_refused():
    with pytest.raises(ConfigError, match="min_score: the class 'dog' has two scores"):
        make_score_thresholds(("dog",), None, None, {"default": 0.5, "dog": 0.1, "Dog": 0.2})


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (None, None),
        (("dog", "Cat"), ["cat", "dog"]),
        (("Helmet", "DOG", "dog"), ["Helmet", "dog"]),
        (("HELMET",), ["Helmet", "helmet"]),
    ],
)
def test_a_record_has_the_case_only_of_names_that_need_it(given, recorded):
    names = ("helmet", "Helmet", "dog", "CAT")
    assert record_class_names(given, names, "classes") == recorded
    if recorded is not None:
        again = [make_score_thresholds(names, one, None, 0.5) for one in (given, recorded)]
        assert again[0] == again[1]


def test_the_callers_mapping_is_left_as_it_was():
    given = {"default": 0.5, "dog": 0.1}
    make_score_thresholds(NAMES, None, None, given)
    assert given == {"default": 0.5, "dog": 0.1}


@pytest.mark.parametrize(
    ("key", "arguments", "name", "hint"),
    [
        ("classes", (["persn"], None, 0.5), "persn", "'person'"),
        ("classes", (["dog", "trafic light"], None, 0.5), "trafic light", "'traffic light'"),
        ("exclude", (None, ["dgo"], 0.5), "dgo", "'Dog'"),
        ("min_score", (None, None, {"default": 0.5, "preson": 0.4}), "preson", "'person'"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_is_offered(key, arguments, name, hint):
    with pytest.raises(ConfigError, match=rf"^{key}: .*'{name}'.*Did you mean.*{hint}.*3 classes"):
        make_score_thresholds(NAMES, *arguments)


@pytest.mark.parametrize("placeholder", ["__background__", "N/A", "n/a"])
def test_a_placeholder_is_not_a_class_that_can_be_asked_for(placeholder):
    with pytest.raises(ConfigError, match="the model has no class"):
        make_score_thresholds(NAMES, [placeholder], None, 0.5)
