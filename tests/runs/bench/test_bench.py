"""Tests of the benchmark: repeated inputs, figures, the plain model, and one small run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.inputs.sources.folder import Folder
from pipeline.models.registry import find_format
from pipeline.runs.bench.benchmark import compute_bench_figures, format_table, select_engines
from pipeline.runs.bench.measured_loops import Measurement
from pipeline.runs.bench.plain_model import PlainModel
from pipeline.runs.bench.ray_data import prepare_ray_data_job
from pipeline.runs.bench.repeated_inputs import RepeatedSource
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.runs import settings_for

ENGINE = "eager fp32"
NAMES = (
    "plain loop",
    "plain DataLoader",
    f"{ENGINE}: pipeline",
    f"{ENGINE}: forward alone",
    f"{ENGINE}: decoding alone",
)
SECONDS = ([2.0, 4.0, 2.0], [4.0, 4.0, 4.0], [1.0, 2.0, 1.0], [0.8, 0.8, 0.8], [0.4, 0.4, 0.4])
# Ten images in each of these times; decoding uses one core.
EVEN = {
    name: [Measurement(10, seconds, seconds) for seconds in values]
    for name, values in zip(NAMES, SECONDS, strict=True)
}


def test_rates_are_medians_and_ratios_are_of_the_same_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.runs.bench.benchmark.count_available_cores", lambda: 2)
    first = {name: Measurement(10, 5.0, 5.0) for name in NAMES}
    result = compute_bench_figures(EVEN, first, {ENGINE: 1.5}, "cpu")
    ours, engine = result["contenders"][f"{ENGINE}: pipeline"], result["engines"][ENGINE]
    assert (ours["images_per_s"], ours["least"], ours["most"], ours["ratio_to_loop"]) == (
        10.0,
        5.0,
        10.0,
        2.0,
    )
    assert ours["warm_up_s"] == 4.0 and engine["load_s"] == 1.5
    # two cores / (0.04 s to decode + 0.08 s x 2 cores for the forward pass)
    assert engine["bound_images_per_s"] == pytest.approx(10.0)
    assert engine["efficiency"] == pytest.approx(1.0)


def test_on_a_gpu_the_slower_half_is_the_bound() -> None:
    engine = compute_bench_figures(
        EVEN, {name: runs[0] for name, runs in EVEN.items()}, {ENGINE: 0.0}, "cuda:1"
    )["engines"][ENGINE]
    assert engine["bound_images_per_s"] == pytest.approx(12.5) and engine[
        "efficiency"
    ] == pytest.approx(0.8)


def test_the_table_has_a_line_for_each_loop() -> None:
    result = compute_bench_figures(
        EVEN, {name: runs[0] for name, runs in EVEN.items()}, {ENGINE: 0.0}, "cuda"
    )
    text = format_table(result | {"task": "classify", "model": "m", "images": 10, "batch_size": 4})
    assert (
        all(name in text for name in NAMES)
        and "0.80" in text
        and "2.00" in text
        and "batches of 4" in text
    )


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["engine=eager"], ["eager", "compiled", "fast"]),
        (["engine=fast"], ["fast", "eager", "compiled"]),
        (["engine=fast", "bench.engines=false"], ["fast"]),
    ],
)
def test_the_chosen_engine_is_measured_and_those_to_compare_with(
    given: list[str], names: list[str]
) -> None:
    nodes = select_engines(settings_for(*given))
    assert list(nodes) == names
    assert all("device" in node for node in nodes.values())


def test_the_plain_detector_is_torchvisions_own(tmp_path: Path) -> None:
    """The detector resizes and normalizes inside its call, as its builder made it."""
    settings = settings_for("model=codes")
    source = RepeatedSource(Folder(str(SAMPLES)), 2, 10**8)
    plain_model = PlainModel(find_format(settings), source, 10**8, "cpu")
    pixels, size_hw = plain_model.reader[0]
    assert (
        pixels.dtype == torch.float32
        and pixels.shape == (3, *size_hw)
        and 0.5 < float(pixels.max()) <= 1
    )
    (answer,) = plain_model.predict([(pixels, size_hw)])
    assert set(answer) == {"boxes", "scores", "labels"} and len(answer["boxes"])


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"visionbatch\[ray\]"):
        prepare_ray_data_job(None, 1, ".")  # type: ignore[arg-type]


def test_readable_inputs_are_repeated_under_distinct_keys(tmp_path: Path) -> None:
    for name in ("desk.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(next(SAMPLES.rglob("*.jpg")).read_bytes())
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    source = RepeatedSource(Folder(str(tmp_path)), 5, 10**8)
    keys = [entry.key for entry in source.entries()]
    assert keys == [
        "000000/desk.jpg",
        "000000/other.jpg",
        "000001/desk.jpg",
        "000001/other.jpg",
        "000002/desk.jpg",
    ]
    assert {source.read_size_hw(entry, 10**8) for entry in source.entries()} == {
        source.read_size_hw(source.listed[0], 10**8)
    }


def test_no_readable_input_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="No input that can be read"):
        RepeatedSource(Folder(str(tmp_path)), 5, 10**8)


@pytest.mark.long
def test_a_small_benchmark_from_the_command_line(tmp_path: Path) -> None:
    words = [
        "model=codes",
        "bench.images=3",
        "bench.repeats=1",
        "bench.engines=false",
        f"output={tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", *words], cwd=REPOSITORY, capture_output=True,
        text=True,
        check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench" / "detect-codes.json").read_text())
    assert (
        set(result["contenders"]) == set(NAMES)
        and result["images"] == 3
        and result["engines"][ENGINE]["efficiency"] > 0
    )
    assert "efficiency" in done.stdout and (
        tmp_path / "bench" / "detect-codes.svg"
    ).read_text().startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["bench"], (
        "the run folders of the benchmark are removed"
    )
