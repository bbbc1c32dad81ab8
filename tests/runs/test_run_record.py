"""run.json is checked when it is read: damage is named, and records of older versions are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import RunDamaged
from pipeline.runs.finished_run import FinishedRun
from pipeline.runs.run_record import merge_record, read_record
from tests.helpers.made_runs import Row, made_run


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Return a function that sets a value of a made run's run.json, or removes it."""
    run = made_run(tmp_path / "run", [Row("a.jpg")], min_score=0.5)

    def change(place: str, *value: Any) -> Path:
        file = run / "run.json"
        content = json.loads(file.read_text())
        node, *below = content, *place.split(".")
        for key in below[:-1]:
            node = node[key]
        del node[below[-1]]
        if value:
            node[below[-1]] = value[0]
        file.write_text(json.dumps(content))
        return file

    return change


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("model", None, "'model'"),
        ("fingerprint_of.model", 1, "'model'"),
        ("fingerprint_of.task", "detect", "'task'"),
        ("fingerprint_of.task", {}, "'name'"),
        ("fingerprint_of.max_pixels", "x", "'max_pixels'"),
        ("fingerprint_of.filters.classes", [None], r"'classes\[0\]'"),
        ("fingerprint_of.filters.exclude", ["dog", 1], r"'exclude\[1\]'"),
        ("fingerprint_of.filters.min_score", {"dog": 0.5}, "'default'"),
        ("fingerprint_of.filters.min_score", {"default": 0.5, "dog": "x"}, "'dog'"),
        ("fingerprint_of.filters.min_score", [0.5], "'min_score'"),
    ],
)
def test_a_value_of_another_type_is_named(place, value, named, rewrite) -> None:
    with pytest.raises(RunDamaged, match=named):
        read_record(rewrite(place, value))


def test_a_missing_filter_is_named(rewrite) -> None:
    with pytest.raises(RunDamaged, match="'classes', got nothing"):
        read_record(rewrite("fingerprint_of.filters.classes"))


def test_an_older_record_has_the_default_of_max_pixels(rewrite) -> None:
    file = rewrite("fingerprint_of.max_pixels")
    assert FinishedRun.open(file.parent).max_pixels == 100_000_000


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"resumed_with": null}'])
def test_a_damaged_record_is_not_resumed(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunDamaged, match=r"run\.json"):
        merge_record(tmp_path / "run.json", {})
