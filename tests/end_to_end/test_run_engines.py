"""Whole runs with an engine or a batch size other than the default."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.helpers.runs import read

FAST = ("model=codes", "overlays=false", "engine=fast", "engine.compile=false")


@pytest.mark.long
def test_how_far_a_fast_run_is_from_fp32_is_measured_and_kept(
    annotate: Callable[..., Path],
) -> None:
    exact = annotate("model=codes", "overlays=false")
    assert not (exact / "agreement.json").exists()
    fast = annotate(*FAST, "precision=bf16")
    assert fast != exact, "the precision is part of a run's identity"
    told = json.loads((fast / "agreement.json").read_text())
    rows = [read(folder, "predictions") for folder in (exact, fast)]
    assert told["images"] == 12 and (told["rows_fp32"], told["rows_here"]) == tuple(
        one.num_rows for one in rows
    )
    assert told["rows_in_both"] >= 0.8 * told["rows_fp32"] > 0
    assert 0 < told["score_difference_mean"] <= told["score_difference_max"] < 0.2
    assert 0 < told["box_difference_mean"] <= told["box_difference_max"] < 20


@pytest.mark.long
def test_precisions_of_one_engine_have_folders_of_their_own(annotate: Callable[..., Path]) -> None:
    assert annotate(*FAST, "precision=bf16", "limit=2") != annotate(
        *FAST, "precision=fp32", "limit=2"
    )


def test_whether_it_compiles_is_no_part_of_a_runs_name(annotate: Callable[..., Path]) -> None:
    assert annotate(*FAST, "limit=2") == annotate(*FAST[:-1], "engine.compile=auto", "limit=2")


@pytest.mark.long
@pytest.mark.parametrize("engine", ["eager", "fast"])
def test_the_batch_size_may_be_measured(
    engine: str, annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.inference.auto_batch_size._LARGEST", {"cpu": 8})  # to be quick
    more = ("engine.compile=false",) if engine == "fast" else ()
    found = annotate(
        "model=codes", "overlays=false", "batch_size=auto", "limit=3", f"engine={engine}", *more
    )
    assert read(found, "images")["status"].to_pylist() == ["ok"] * 3


def test_the_agreement_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *FAST, "precision=bf16", "limit=2", f"output={tmp_path}"]) == 0
    said = capsys.readouterr()
    assert "bf16 beside fp32:" in said.err + said.out and "found again" in said.err + said.out


def test_a_wrong_setting_of_the_engine_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *FAST[:-1], "engine.compile=perhaps", f"output={tmp_path}"]) == 2
    assert "engine.compile=perhaps" in capsys.readouterr().err
