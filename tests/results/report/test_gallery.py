import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.schema import IMAGES_SCHEMA
from pipeline.results.report.gallery import MOST_ROWS, Gallery, make_gallery_data

Shard = list[tuple[str, list[float]]]  # (status, scores) of each image


def tables(first: int, shard: Shard) -> tuple[pa.Table, pa.Table]:
    rows = [
        {
            "image_id": first + i,
            "key": f"{first + i}",
            "status": status,
            "n_predictions": len(scores) if status == "ok" else None,
        }
        for i, (status, scores) in enumerate(shard)
    ]
    ids = [first + i for i, (_, scores) in enumerate(shard) for _ in scores]
    scores = np.array([score for _, each in shard for score in each], np.float32)
    classes = pa.array(range(len(ids)), pa.int32())
    return pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA), pa.table(
        {"image_id": pa.array(ids, pa.int64()), "class_id": classes, "score": scores}
    )


def shown(most: int, *shards: Shard) -> dict[str, list]:
    gallery, first = Gallery(most), 0
    for shard in shards:
        gallery.add(*tables(first, shard))
        first += len(shard)
    images, predictions = gallery.shown()
    scores, ids = (
        [round(score, 2) for score in predictions["score"].to_pylist()],
        predictions["image_id"].to_pylist(),
    )
    ends = np.cumsum(images["listed"].to_numpy()).tolist()
    told = {}
    for key, image_id, begin, end in zip(
        images["key"].to_pylist(), images["image_id"].to_pylist(), [0, *ends], ends, strict=False
    ):
        assert ids[begin:end] == [image_id] * (end - begin)
        told[key] = scores[begin:end]
    assert len(ids) == (ends or [0])[-1]
    return told


OK, BAD, TWIN = "ok", "corrupt", "duplicate"


@pytest.mark.parametrize(
    ("most", "shards", "expected"),
    [
        (9, [[]], {}),
        (9, [[(OK, [])]], {"0": []}),
        (9, [[(BAD, [])]], {"0": []}),
        # failed, least certain, most certain, nothing found; a weak second prediction does not
        # matter
        (
            9,
            [[(OK, []), (OK, [0.9, 0.1]), (OK, [0.5])], [(BAD, [])]],
            {"3": [], "2": [0.5], "1": [0.9, 0.1], "0": []},
        ),
        (9, [[(OK, [0.5]), (OK, [0.5])]], {"0": [0.5], "1": [0.5]}),
        (2, [[(OK, [0.9]), (OK, [0.6])], [(OK, [0.7]), (OK, [0.8])]], {"1": [0.6], "2": [0.7]}),
        # failed ones take half where there are others to show, and all where there are not
        (4, [[(BAD, [])] * 5, [(OK, [0.5])] * 5], {"0": [], "1": [], "5": [0.5], "6": [0.5]}),
        (4, [[(BAD, [])] * 5, [(OK, [0.5])]], {"0": [], "1": [], "2": [], "5": [0.5]}),
        (2, [[(BAD, [])] * 5], {"0": [], "1": []}),
        # duplicates have not failed
        (2, [[(TWIN, [])] * 5, [(OK, [0.5]), (BAD, [])]], {"6": [], "5": [0.5]}),
        (9, [[(TWIN, []), (OK, []), (OK, [0.5])]], {"2": [0.5], "0": [], "1": []}),
    ],
)
def test_who_is_shown_and_in_which_order(
    most: int, shards: list[Shard], expected: dict[str, list]
) -> None:
    found = shown(most, *shards)
    assert found == expected and list(found) == list(expected)


def test_many_shards_keep_the_pool_small_and_lose_nobody() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(2000) / 2000
    gallery = Gallery(50)
    for first in range(0, 2000, 40):
        gallery.add(*tables(first, [(OK, [float(score)]) for score in scores[first : first + 40]]))
        assert sum(map(len, gallery._images)) <= 50 + 2 * 50 + 40
    images, _ = gallery.shown()
    assert images["image_id"].to_pylist() == np.argsort(scores)[:50].tolist()


def test_an_image_of_very_many_predictions_lists_the_first() -> None:
    gallery = Gallery(5)
    gallery.add(*tables(0, [(OK, [0.5] * (MOST_ROWS + 7)), (OK, [0.6])]))
    images, predictions = gallery.shown()
    assert images["n_predictions"].to_pylist() == [MOST_ROWS + 7, 1] and images[
        "listed"
    ].to_pylist() == [MOST_ROWS, 1]
    assert predictions["class_id"].to_pylist() == [*range(MOST_ROWS), MOST_ROWS + 7]


def test_columns_are_lists_of_plain_numbers() -> None:
    gallery = Gallery(5)
    images, predictions = tables(0, [(OK, [0.9877]), (BAD, [])])
    boxes = dict(
        zip(("x_min", "y_min", "x_max", "y_max"), ([1.4], [2.6], [30.0], [4e4]), strict=True)
    )
    for name, values in boxes.items():
        predictions = predictions.append_column(name, pa.array(values, pa.float32()))
    at = images.schema.get_field_index("error")
    gallery.add(images.set_column(at, "error", pa.array([None, "torn"])), predictions)
    told = make_gallery_data(*gallery.shown(), [None, "0"])
    assert (
        told["key"] == ["1", "0"] and told["error"] == {0: "torn"} and told["overlay"] == [None, 1]
    )
    assert (
        told["score"] == [9877]
        and told["box"] == [1, 3, 30, 40000]
        and told["n"] == [None, 1]
        and told["listed"] == [0, 1]
    )
    assert told["width"] == [0, 0] and "share" not in told and "file" not in told
