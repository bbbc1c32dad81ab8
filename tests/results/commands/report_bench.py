"""Measure the HTML report: `python -m tests.results.commands.report_bench FOLDER [IMAGES]`.

Makes a run of IMAGES (5,000) images with overlays. Prints, as JSON, how long its report takes to
write, and what Chromium needs to show and to filter it.
"""

import json
import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from pipeline.config.command_options import read_options
from pipeline.results.commands.report import Options, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture
from tests.results.commands.browser import chromium, opened

_PREDICTIONS = 20  # an image, on average
# done to the filters one after the other, each timed until the frame after the one that shows the
# result
_FILTERS = {
    "text": "text.value = '99'",
    "status": "text.value = ''; status.value = 'failed'",
    "class_and_score": "status.value = ''; box.checked = true; least.value = '0.9'",
    "order": "order.value = 'most'",
    "none": "form.reset()",
}
_TIMED = """async (change) => {
  const ids = ["text", "status", "least", "order", "filters"];
  const [text, status, least, order, form] = ids.map((id) => document.getElementById(id));
  const box = document.querySelector("#class-list input");
  const start = performance.now();
  eval(change);
  form.dispatchEvent(new Event('input'));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - start;
}"""
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def made(folder: Path, n_images: int) -> Path:
    rng = np.random.default_rng(0)
    overlays = folder / "run" / "overlays"
    rows = []
    for i in range(n_images):
        key = f"{i // 1000:02d}/{i:06d}.jpg"
        if i % 100 == 99:
            rows.append(Row(key, None, status="truncated", error="JPEG ends too early"))
            continue
        scores = np.sort(rng.uniform(0.5, 1, rng.integers(2 * _PREDICTIONS)))[::-1]
        rows.append(
            Row(
                key,
                (480, 640),
                [box(int(rng.integers(1, 4)), float(s), 10, 20, 300, 400) for s in scores],
            )
        )
    run = made_run(folder / "run", rows, shard_size=256)
    for i, row in enumerate(rows):
        if row.status == "ok":
            path = overlays / row.key
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(640, 480, seed=i).save(path, quality=85)
    return run


def main(folder: str, n_images: str = "5000") -> None:
    path = Path(folder) / "run"
    run = path if path.is_dir() else made(Path(folder), int(n_images))
    start = perf_counter()
    run_command(read_options("report", [f"run={run}"], Options))
    figures = {
        "report_s": perf_counter() - start,
        "megabytes": (run / "report.html").stat().st_size / 1e6,
    }
    with chromium() as browser:
        paints, filters, loads = [], {name: [] for name in _FILTERS}, []
        for _ in range(5):
            start = perf_counter()
            page = opened(
                browser,
                run / "report.html",
                bypass_csp=True,
                viewport={"width": 1280, "height": 900},
            )
            loads.append(perf_counter() - start)
            page.wait_for_selector("#cards button")
            paints.append(page.evaluate(_PAINT))
            for name, change in _FILTERS.items():
                filters[name].append(page.evaluate(_TIMED, change))
            assert not page.said, page.said  # type: ignore[attr-defined]
            page.context.close()
    figures |= {
        "first_paint_ms": statistics.median(paints),
        "first_paint_max_ms": max(paints),
        "load_s": statistics.median(loads),
    }
    figures |= {
        f"filter_{name}_ms": round(statistics.median(times), 1) for name, times in filters.items()
    }
    figures |= {"filter_max_ms": round(max(max(times) for times in filters.values()), 1)}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
