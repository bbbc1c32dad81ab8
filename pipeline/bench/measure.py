"""The benchmark: every contender in turn, several times over, in one process; a table, a JSON file and a plot."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.assemble import assemble
from pipeline.bench import contenders
from pipeline.bench.contenders import Setup, Taken
from pipeline.bench.plot import save_plot
from pipeline.bench.repeated import Repeated
from pipeline.cores import available_cores
from pipeline.parts import build
from pipeline.settings import Settings
from pipeline.summary import aligned

_CONTENDERS: Mapping[str, Callable[[Setup], Taken]] = {
    "plain loop": contenders.plain_loop,
    "plain DataLoader": contenders.plain_dataloader,
    "this pipeline": contenders.pipeline,
    "forward alone": contenders.forward_alone,
    "decoding alone": contenders.decode_alone,
}


def bench_text(settings: Settings) -> str:
    """Measure, write `<output>/bench/<task>-<model>.json` and `.svg`, and return the table."""
    folder = Path(settings.output).expanduser() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    parts = replace(assemble(settings), sinks=[build(settings.parts["sink"]["parquet"])])
    source = Repeated(parts.source, settings.bench["images"], settings.max_pixels)
    begun = time.perf_counter()
    model = parts.format.load()
    parts.engine.prepare(model)
    loaded = time.perf_counter() - begun
    setup = Setup(settings, parts, parts.format.load(), model, source)
    first = {name: contender(setup) for name, contender in _CONTENDERS.items()}  # warm: caches, compilation, threads
    taken: dict[str, list[Taken]] = {name: [] for name in _CONTENDERS}
    for _ in range(settings.bench["repeats"]):  # in turn, so that a slow minute of the machine hits all alike
        for name, contender in _CONTENDERS.items():
            taken[name].append(contender(setup))
    result = figures(taken, first, loaded, parts.engine.device)
    source.close()
    engine = {key: value for key, value in settings.parts["engine"].items() if key != "_target_"}
    result |= {"task": settings.task, "model": settings.model, "engine": engine, "images": len(source.listed)}
    name = f"{settings.task}-{Path(settings.model).stem}"
    files = {"figures": folder / f"{name}.json", "plot": folder / f"{name}.svg"}
    files["figures"].write_text(json.dumps(result, indent=2) + "\n")
    save_plot(result, files["plot"])
    return f"{table(result)}\n\n{aligned({what: str(path) for what, path in files.items()})}"


def figures(taken: Mapping[str, list[Taken]], first: Mapping[str, Taken], loaded: float, device: str) -> dict:
    """Medians, spreads, ratios to the plain loop, and the efficiency.

    On a CPU decoding and the forward pass share the cores: the most that it allows is cores / (decoding's + forward's
    core-seconds an image). On a GPU they do not: it is the slower of the two rates.
    """
    rates = {name: [one.rate for one in runs] for name, runs in taken.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    cores = available_cores()
    if device == "cpu":
        decoding = statistics.median(one.core_seconds / one.images for one in taken["decoding alone"])
        forward = statistics.median(one.seconds / one.images for one in taken["forward alone"]) * cores
        bound = cores / (decoding + forward)
    else:
        bound = min(median["forward alone"], median["decoding alone"])
    return {
        "contenders": {
            name: {
                "images_per_s": median[name],
                "least": min(values),
                "most": max(values),
                "ratio_to_loop": statistics.median(a / b for a, b in zip(values, rates["plain loop"], strict=True)),
                "warm_up_s": max(0.0, first[name].seconds - first[name].images / median[name]),
            }
            for name, values in rates.items()
        },
        "bound_images_per_s": bound,
        "efficiency": median["this pipeline"] / bound,
        "load_s": loaded,
        "device": device,
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
    }


def table(result: Mapping) -> str:
    rows = [("", "images/s", "least", "most", "x loop", "warm-up s")]
    for name, one in result["contenders"].items():
        numbers = (one["images_per_s"], one["least"], one["most"], one["ratio_to_loop"], one["warm_up_s"])
        rows.append((name, *(f"{n:.2f}" if i >= 3 else f"{n:.1f}" for i, n in enumerate(numbers))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    where = f"{result['cores']} cores" if result["device"] == "cpu" else result["device"]
    head = f"{result['task']} {result['model']}, {result['images']} images, {where}; loaded in {result['load_s']:.1f} s"
    tail = (
        f"efficiency {result['efficiency']:.2f}: of the {result['bound_images_per_s']:.1f} images/s that the hardware allows"
    )
    return "\n".join([head, "", *lines, "", tail])
