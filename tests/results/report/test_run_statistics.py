import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.schema import IMAGES_SCHEMA
from pipeline.results.report.run_statistics import RunStatistics, summarize_stages

NAMES = ("none", "dog", "crane", "crane")


def images(*rows: tuple[str, int | None, int | None]) -> pa.Table:
    """(status, longer side, n_predictions) of each."""
    return pa.Table.from_pylist(
        [
            {
                "image_id": i,
                "key": f"{i}",
                "width": side,
                "height": side and side // 2,
                "status": status,
                "n_predictions": n,
            }
            for i, (status, side, n) in enumerate(rows)
        ],
        schema=IMAGES_SCHEMA,
    )


def predictions(*rows: tuple[int, float]) -> pa.Table:
    """(class_id, score) of each."""
    ids, scores = [row[0] for row in rows], [row[1] for row in rows]
    return pa.table(
        {"class_id": pa.array(ids, pa.int32()), "score": pa.array(scores, pa.float32())}
    )


def counted(*shards: tuple[pa.Table, pa.Table]) -> RunStatistics:
    figures = RunStatistics(NAMES)
    for shard in shards:
        figures.add(*shard)
    return figures


def rows_of(figures: RunStatistics, title: str) -> dict[str, int]:
    (chart,) = (chart for chart in figures.charts() if chart.title.startswith(title))
    return {label: count for label, count in chart.rows if count}


def test_of_nothing() -> None:
    figures = counted((images(), predictions()))
    assert (figures.n_images, figures.n_ok, figures.n_predictions, figures.n_classes) == (
        0,
        0,
        0,
        0,
    )
    assert [chart.most for chart in figures.charts()] == [0, 0]


def test_shards_add_up_and_equal_names_are_one_class() -> None:
    figures = counted(
        (images(("ok", 64, 2), ("truncated", None, None)), predictions((1, 0.5), (2, 1.0))),
        (images(("ok", 9000, 12), ("ok", 63, 0)), predictions(*[(3, 0.0)] * 12)),
    )
    assert (figures.n_images, figures.n_ok, figures.n_predictions, figures.n_classes) == (
        4,
        3,
        14,
        2,
    )
    assert rows_of(figures, "Predictions by class") == {"crane": 13, "dog": 1}
    assert rows_of(figures, "Predictions by score") == {
        "0.00 to 0.05": 12,
        "0.50 to 0.55": 1,
        "0.95 to 1.00": 1,
    }
    assert rows_of(figures, "Predictions in an image") == {"0": 1, "2": 1, "10 or more": 1}
    assert rows_of(figures, "Images by their longer side") == {
        "0 to 63": 1,
        "64 to 127": 1,
        "8192 or more": 1,
    }
    assert rows_of(figures, "Images by status") == {"ok": 3, "truncated": 1}


def test_a_duplicate_is_neither_usable_nor_failed() -> None:
    figures = counted(
        (images(("ok", 64, 0), ("duplicate", None, None), ("empty", None, None)), predictions())
    )
    assert (figures.n_ok, figures.n_failed, figures.n_duplicates) == (1, 1, 1)


@pytest.mark.parametrize("score", [-3.0, 0.0, 1.0, 17.0])
def test_scores_beyond_the_scale_are_counted_at_its_ends(score: float) -> None:
    figures = counted((images(("ok", 9, 1)), predictions((1, score))))
    assert list(rows_of(figures, "Predictions by score")) == [
        "0.00 to 0.05" if score < 0.5 else "0.95 to 1.00"
    ]


def test_bars_are_the_most_frequent_and_the_rest_is_said() -> None:
    figures = RunStatistics([f"class {i}" for i in range(20)])
    figures.add(
        images(("ok", 9, 210)), predictions(*[(i, 0.5) for i in range(20) for _ in range(i + 1)])
    )
    chart = figures.charts()[0]
    assert len(chart.bars) == 15 and chart.bars[0] == ("class 19", 20) and len(chart.rows) == 20
    assert chart.note == "and 15 predictions of 5 other classes"


def test_a_chart_of_one_bar_is_left_out() -> None:
    figures = counted((images(("ok", None, 5), ("ok", None, 5)), predictions(*[(1, 0.5)] * 10)))
    assert [chart.title for chart in figures.charts()] == [
        "Predictions by class",
        "Predictions by score",
    ]


def test_seconds_by_stage_are_summed() -> None:
    shards = [
        {"shard": 0, "images": 4, "read": 1.0, "forward": 1.5, "wait": 0.5},
        {"shard": 1, "images": 2, "forward": 1.0},
    ]
    found = summarize_stages(shards)
    assert found is not None and found.images == 6 and found.rate == 2.0 and found.most == 3.0
    assert (
        found.seconds["ahead of the model"]["read"] == 1.0
        and found.seconds["the loop"]["forward"] == 2.5
    )
    assert summarize_stages([]) is None and summarize_stages([{}]) is None


def test_every_stage_has_its_place() -> None:
    from pipeline.core.timing import STAGES

    found = summarize_stages([{"images": 1}])
    assert found is not None and sorted(
        name for group in found.seconds.values() for name in group
    ) == sorted(STAGES)
    assert np.isclose(found.rate, 0)
