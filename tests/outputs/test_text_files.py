"""JSON without what it cannot hold."""

from datetime import UTC, datetime

from pipeline.outputs.text_files import format_json


def test_json_has_no_nan() -> None:
    assert (
        format_json({"a": [float("nan"), 1.5], "b": float("inf")})
        == '{"a": [null, 1.5], "b": null}'
    )


def test_dates_and_times_are_text_in_json() -> None:
    when = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
    assert format_json([when, when.date()]) == '["2024-05-01T12:30:00+00:00", "2024-05-01"]'
    assert format_json([when.date(), float("nan")]) == '["2024-05-01", null]'
