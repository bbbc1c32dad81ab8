"""The `bench` command: measure the pipeline and other loops in turn, in one process.

Each loop is measured several times. The result is a table, a JSON file and a plot.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.cpu import count_available_cores
from pipeline.core.locations import expand_home
from pipeline.core.text_tables import format_columns, format_pairs
from pipeline.runs.bench import measured_loops
from pipeline.runs.bench.measured_loops import LoadedEngine, Measurement
from pipeline.runs.bench.plain_model import PlainModel
from pipeline.runs.bench.plot import save_bench_plot
from pipeline.runs.bench.repeated_inputs import RepeatedSource
from pipeline.runs.components import Components, build_components, load_predictor
from pipeline.storage.publish import create_output_folder

LOOP = "plain loop"
_FAST = "pipeline.inference.engines.fast.Fast"
_ENGINE_LOOPS: Mapping[str, Callable[[LoadedEngine], Measurement]] = {
    "pipeline": measured_loops.measure_pipeline,
    "forward alone": measured_loops.measure_forward,
    "decoding alone": measured_loops.measure_decoding,
}


def run_benchmark(settings: Settings) -> str:
    """Measure, write `<output>/bench/<task>-<model>.json` and `.svg`, and return the table."""
    folder = expand_home(settings.output) / "bench"
    create_output_folder(folder)
    parts = replace(
        build_components(settings),
        sinks={"parquet": instantiate(settings.components["sink"]["parquet"])},
    )

    source = RepeatedSource(parts.source, settings.bench.images, settings.max_pixels)
    engines = load_engines(settings, replace(parts, source=source), source)
    device = parts.engine.device
    plain_model = PlainModel(parts.format, source, settings.max_pixels, device)
    batch_size = next(iter(engines.values())).predictor.batch_size

    runs: dict[str, Callable[[], Measurement]] = {
        LOOP: lambda: measured_loops.measure_plain_loop(plain_model),
        "plain DataLoader": lambda: measured_loops.measure_plain_dataloader(
            plain_model, batch_size
        ),
    }
    if settings.bench.peers:
        from pipeline.runs.bench.ray_data import prepare_ray_data_job

        runs["Ray Data"] = prepare_ray_data_job(plain_model, batch_size, settings.output)
    for engine_name, engine in engines.items():
        runs |= {
            f"{engine_name}: {loop_name}": partial(measure_loop, engine)
            for loop_name, measure_loop in _ENGINE_LOOPS.items()
        }

    first = {name: run() for name, run in runs.items()}  # fills caches, compiles, starts threads
    measurements: dict[str, list[Measurement]] = {name: [] for name in runs}
    # The loops run in turn, so that a slow phase of the machine affects all of them equally.
    for _ in range(settings.bench.repeats):
        for name, run in runs.items():
            measurements[name].append(run())
    load_seconds = {name: engine.load_s for name, engine in engines.items()}
    result = compute_bench_figures(measurements, first, load_seconds, device)
    source.close()

    result |= {
        "task": settings.task,
        "model": settings.model,
        "images": len(source.listed),
        "batch_size": batch_size,
    }

    name = f"{settings.task}-{Path(settings.model).stem}"
    files = {"figures": folder / f"{name}.json", "plot": folder / f"{name}.svg"}
    files["figures"].write_text(json.dumps(result, indent=2) + "\n")
    save_bench_plot(result, files["plot"])
    listed_files = format_pairs({label: str(path) for label, path in files.items()})
    return f"{format_table(result)}\n\n{listed_files}"


def load_engines(
    settings: Settings, parts: Components, source: RepeatedSource
) -> dict[str, LoadedEngine]:
    """Load the model with the chosen engine and with each engine to compare it with."""
    engines = {}
    for name, node in select_engines(settings).items():
        start = time.perf_counter()
        with_engine = replace(parts, engine=instantiate(node))
        # The engine compiles the model, as it does for a long run.
        predictor = load_predictor(settings, with_engine, 1_000_000, source.listed)
        label = f"{name} {with_engine.engine.precision}"
        engines[label] = LoadedEngine(
            settings, with_engine, source, predictor, time.perf_counter() - start
        )
    return engines


def select_engines(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the configuration of each engine to measure, by name.

    The chosen engine comes first. `bench.engines` adds eager fp32, compiled fp32 and engine=fast.
    """
    chosen = dict(settings.components["engine"])
    nodes = {chosen["_target_"].rpartition(".")[2].casefold(): chosen}
    if settings.bench.engines:
        fast = {"_target_": _FAST, "device": settings.device, "compile": True}
        eager = {
            "_target_": "pipeline.inference.engines.eager.Eager",
            "device": settings.device,
            "precision": None,
        }
        nodes |= {
            "eager": eager,
            "compiled": fast | {"precision": "fp32"},
            "fast": fast | {"precision": None},
        }
    return nodes


def compute_bench_figures(
    measurements: Mapping[str, list[Measurement]],
    first: Mapping[str, Measurement],
    load_seconds: Mapping[str, float],
    device: str,
) -> dict[str, Any]:
    """Compute medians, spreads, ratios to the plain loop of the same round, and efficiencies.

    The efficiency of an engine is the pipeline's rate divided by the limit of the hardware. On a
    CPU, decoding and the forward pass share the cores, so the limit is the number of cores divided
    by the core-seconds that both need for an image. On a GPU the limit is the lower of the two
    rates.

    Args:
        measurements: The measurements of each loop, one for each round.
        first: The first measurement of each loop, which includes the warm-up.
        load_seconds: Seconds that each engine took to load the model.
        device: The device of the engines.
    """
    rates = {name: [item.rate for item in runs] for name, runs in measurements.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    cores = count_available_cores()
    bounds = {
        engine: _compute_bound(engine, measurements, median, cores, device)
        for engine in load_seconds
    }
    return {
        "contenders": {
            name: {
                "images_per_s": median[name],
                "least": min(values),
                "most": max(values),
                "ratio_to_loop": statistics.median(
                    a / b for a, b in zip(values, rates[LOOP], strict=True)
                ),
                "warm_up_s": max(0.0, first[name].seconds - first[name].images / median[name]),
            }
            for name, values in rates.items()
        },
        "engines": {
            engine: {
                "bound_images_per_s": bounds[engine],
                "efficiency": median[f"{engine}: pipeline"] / bounds[engine],
                "load_s": seconds,
            }
            for engine, seconds in load_seconds.items()
        },
        "device": device,
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
    }


def _compute_bound(
    engine: str,
    measurements: Mapping[str, list[Measurement]],
    median: Mapping[str, float],
    cores: int,
    device: str,
) -> float:
    """Return the images per second that the hardware allows. See `compute_bench_figures`."""
    forward, decoding = f"{engine}: forward alone", f"{engine}: decoding alone"
    if torch.device(device).type != "cpu":
        return min(median[forward], median[decoding])
    decode_core_s = statistics.median(
        item.core_seconds / item.images for item in measurements[decoding]
    )
    return cores / (decode_core_s + cores / median[forward])


def format_table(result: Mapping[str, Any]) -> str:
    """Format the figures as a table with a heading and a legend."""
    rows = [("", "images/s", "least", "most", "x loop", "efficiency", "load s", "warm-up s")]
    for name, row in result["contenders"].items():
        engine = result["engines"].get(name.removesuffix(": pipeline"))
        efficiency = (
            (f"{engine['efficiency']:.2f}", f"{engine['load_s']:.1f}") if engine else ("", "")
        )
        numbers = [f"{row[key]:.1f}" for key in ("images_per_s", "least", "most")]
        rows.append(
            (name, *numbers, f"{row['ratio_to_loop']:.2f}", *efficiency, f"{row['warm_up_s']:.1f}")
        )
    hardware = f"{result['cores']} cores" if result["device"] == "cpu" else result["device"]
    head = (
        f"{result['task']} {result['model']}, {result['images']} images in batches of "
        f"{result['batch_size']}, {hardware}"
    )
    tail = (
        "efficiency: share of the rate that the hardware allows, computed from decoding and the "
        "forward pass measured alone; x loop: rate / plain loop's rate in the same round"
    )
    return "\n".join([head, "", format_columns(rows), "", tail])
