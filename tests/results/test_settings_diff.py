"""Which settings of two runs differ."""

from typing import Any

import pytest

from pipeline.results.settings_diff import diff_settings, format_settings_diff


def record(device: str = "cpu", **determined_by: Any) -> dict[str, Any]:
    return {"fingerprint_of": determined_by, "device": device, "libraries": {"torch": "2.15"}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (record(), record(), {}),
        (record(model="a"), record(model="b"), {"model": ["a", "b"]}),
        (record(filters={"min_score": 0.3, "nms_iou": None}),
         record(filters={"min_score": 0.5, "nms_iou": None}),
         {"filters.min_score": [0.3, 0.5]}),
        (record(), record(views={"flip": True}), {"views.flip": [None, True]}),
        (record(), record("cuda"), {"device": ["cpu", "cuda"]}),
        (record(), record() | {"libraries": {"torch": "2.16"}},
         {"libraries.torch": ["2.15", "2.16"]}),
    ],
)  # fmt: skip
def test_what_differs(
    before: dict[str, Any], after: dict[str, Any], expected: dict[str, list[Any]]
) -> None:
    assert diff_settings(before, after) == expected


def test_for_people() -> None:
    assert format_settings_diff({}) == "settings that differ\n  none"
    said = format_settings_diff(
        {"model": ["a", "b"], "categories": [list("abcdef"), None], "source": ["x" * 99, "y"]}
    )
    assert (
        "  model       a -> b\n  categories  6 values -> None\n" in said
        and "x..." in said
        and "x" * 60 not in said
    )
