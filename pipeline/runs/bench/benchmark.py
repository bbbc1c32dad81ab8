"""The benchmark: every contender in turn, several times over, in one process; a table, a JSON file and a plot."""

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
from pipeline.core.text_tables import format_columns, format_pairs
from pipeline.runs.bench import contenders
from pipeline.runs.bench.baseline import PlainModel
from pipeline.runs.bench.contenders import LoadedEngine, Measurement
from pipeline.runs.bench.plot import save_bench_plot
from pipeline.runs.bench.repeated_inputs import RepeatedSource
from pipeline.runs.components import Components, build_components, load_predictor

LOOP = "plain loop"
_FAST = "pipeline.inference.engines.fast.Fast"
_PARTS: Mapping[str, Callable[[LoadedEngine], Measurement]] = {
    "pipeline": contenders.measure_pipeline,
    "forward alone": contenders.measure_forward,
    "decoding alone": contenders.measure_decoding,
}


def run_benchmark(settings: Settings) -> str:
    """Measure, write `<output>/bench/<task>-<model>.json` and `.svg`, and return the table."""
    folder = Path(settings.output).expanduser() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    parts = replace(
        build_components(settings),
        sinks={"parquet": instantiate(settings.components["sink"]["parquet"])},
    )
    source = RepeatedSource(parts.source, settings.bench.images, settings.max_pixels)
    engaged = load_engines(settings, replace(parts, source=source), source)
    device = parts.engine.device
    tutorial = PlainModel(parts.format, source, settings.max_pixels, device)
    batch_size = next(iter(engaged.values())).predictor.batch_size
    runs: dict[str, Callable[[], Measurement]] = {
        LOOP: lambda: contenders.measure_plain_loop(tutorial),
        "plain DataLoader": lambda: contenders.measure_plain_dataloader(tutorial, batch_size),
    }
    if settings.bench.peers:
        from pipeline.runs.bench.ray_data import prepare_ray_data_job

        runs["Ray Data"] = prepare_ray_data_job(tutorial, batch_size, settings.output)
    for engine, one in engaged.items():
        runs |= {f"{engine}: {what}": partial(part, one) for what, part in _PARTS.items()}
    first = {name: run() for name, run in runs.items()}  # warm: caches, compilation, threads
    taken: dict[str, list[Measurement]] = {name: [] for name in runs}
    for _ in range(
        settings.bench.repeats
    ):  # in turn, so that a slow minute of the machine hits all alike
        for name, run in runs.items():
            taken[name].append(run())
    result = compute_figures(
        taken, first, {name: one.ready_s for name, one in engaged.items()}, device
    )
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
    return f"{format_table(result)}\n\n{format_pairs({what: str(path) for what, path in files.items()})}"


def load_engines(
    settings: Settings, parts: Components, source: RepeatedSource
) -> dict[str, LoadedEngine]:
    """The model in the hands of the chosen engine, and of those that it is to be compared with."""
    engaged = {}
    for name, node in select_engines(settings).items():
        begun = time.perf_counter()
        with_engine = replace(parts, engine=instantiate(node))
        # as for a long run: what pays there is compiled
        predictor = load_predictor(settings, with_engine, 1_000_000, source.listed)
        label = f"{name} {with_engine.engine.precision}"
        engaged[label] = LoadedEngine(
            settings, with_engine, source, predictor, time.perf_counter() - begun
        )
    return engaged


def select_engines(settings: Settings) -> dict[str, dict[str, Any]]:
    """By name: the chosen one first; with `bench.engines` also plain fp32, compiled fp32, and engine=fast."""
    chosen = dict(settings.components["engine"])
    found = {chosen["_target_"].rpartition(".")[2].casefold(): chosen}
    if settings.bench.engines:
        fast = {"_target_": _FAST, "device": settings.device, "compile": True}
        eager = {
            "_target_": "pipeline.inference.engines.eager.Eager",
            "device": settings.device,
            "precision": None,
        }
        found |= {
            "eager": eager,
            "compiled": fast | {"precision": "fp32"},
            "fast": fast | {"precision": None},
        }
    return found


def compute_figures(
    taken: Mapping[str, list[Measurement]],
    first: Mapping[str, Measurement],
    ready: Mapping[str, float],
    device: str,
) -> dict[str, Any]:
    """Medians, spreads, ratios to the plain loop of the same round, and each engine's efficiency.

    On a CPU decoding and the forward pass share the cores: the most that it allows is cores / (decoding's + forward's
    core-seconds an image). On a GPU they do not: it is the slower of the two rates.
    """
    rates = {name: [one.rate for one in runs] for name, runs in taken.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    cores = count_available_cores()
    bounds = {engine: _bound(engine, taken, median, cores, device) for engine in ready}
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
            for engine, seconds in ready.items()
        },
        "device": device,
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
    }


def _bound(
    engine: str,
    taken: Mapping[str, list[Measurement]],
    median: Mapping[str, float],
    cores: int,
    device: str,
) -> float:
    forward, decoding = f"{engine}: forward alone", f"{engine}: decoding alone"
    if torch.device(device).type != "cpu":
        return min(median[forward], median[decoding])
    decode_core_s = statistics.median(one.core_seconds / one.images for one in taken[decoding])
    return cores / (decode_core_s + cores / median[forward])


def format_table(result: Mapping[str, Any]) -> str:
    rows = [("", "images/s", "least", "most", "x loop", "efficiency", "load s", "warm-up s")]
    for name, one in result["contenders"].items():
        engine = result["engines"].get(name.removesuffix(": pipeline"))
        own = (f"{engine['efficiency']:.2f}", f"{engine['load_s']:.1f}") if engine else ("", "")
        numbers = [f"{one[key]:.1f}" for key in ("images_per_s", "least", "most")]
        rows.append(
            (name, *numbers, f"{one['ratio_to_loop']:.2f}", *own, f"{one['warm_up_s']:.1f}")
        )
    where = f"{result['cores']} cores" if result["device"] == "cpu" else result["device"]
    head = f"{result['task']} {result['model']}, {result['images']} images in batches of {result['batch_size']}, {where}"
    tail = "efficiency: of what the hardware allows, decoding and the forward pass measured alone; x loop: in the same round"
    return "\n".join([head, "", format_columns(rows), "", tail])
