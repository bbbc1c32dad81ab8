"""The report of a training: one HTML page that opens offline, with data, losses and figures."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.storage.publish import publish_file
from pipeline.training.training_log import read_log

_HERE = Path(__file__).parent
_COLOURS = ("#2b6cb0", "#c53030", "#2f855a", "#b7791f", "#6b46c1", "#4a5568")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;
  color: #1a202c; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .2em .8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr { border-bottom: 1px solid #e2e8f0; } .best { font-weight: bold; }
img { max-width: 100%; } dt { float: left; clear: left; width: 11em; color: #4a5568; }
dd { margin-left: 11em; overflow-wrap: anywhere; } .wide { overflow-x: auto; }
"""


def write_training_report(
    folder: Path,
    facts: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    classes: Sequence[Mapping[str, Any]],
    figure: str,
    best: int,
) -> None:
    """Write `report.html` into the folder.

    Args:
        folder: The folder of the training.
        facts: The result of `train.collect_facts`.
        epochs: The lines of `epochs.jsonl`.
        classes: A table row for each class, with figures of the best epoch.
        figure: Name of the figure by which the best epoch was chosen.
        best: The best epoch.
    """
    names = [
        name
        for name in epochs[-1]["figures"]
        if any(epoch["figures"].get(name) is not None for epoch in epochs)
    ]
    names.sort(key=lambda name: name != figure)
    page = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page.filters["number"] = _format_number
    text = page.get_template("training.html.j2").render(
        title=f"{facts['task']} {facts['model']}",
        facts=facts,
        epochs=epochs,
        names=names[:6],
        columns=list(classes[0]) if classes else [],
        classes=classes,
        best=best,
        pictures={
            "losses": _encode_png(_plot_losses(read_log(folder / "steps.jsonl"))),
            "figures": _encode_png(_plot_figures(epochs, names[:4], best)),
        },
        style=Markup(_STYLE),  # noqa: S704 - the text is a constant
        policy=f"default-src 'none'; style-src 'sha256-{_base64_sha256(_STYLE)}'; "
        "img-src data:; base-uri 'none'",
    )
    with publish_file(folder / "report.html", replace=True) as stage:
        stage.write_text(text, encoding="utf-8")


def _plot_losses(steps: Sequence[Mapping[str, Any]]) -> Any:
    """Plot each loss term and their sum by step, smoothed, and the learning rate below."""
    figure = _new_figure((9, 5.5))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    at = np.array([line["step"] for line in steps])
    parts = sorted({name for line in steps for name in line["parts"]})
    lines = {"sum": [line["loss"] for line in steps]} if len(parts) > 1 else {}
    lines |= {name: [line["parts"].get(name, np.nan) for line in steps] for name in parts}
    for colour, (name, values) in zip(_COLOURS * 3, lines.items(), strict=False):
        upper.plot(
            at,
            _moving_average(np.array(values)),
            color=colour,
            label=name,
            linewidth=2 if name == "sum" else 1.2,
        )
    if lines:
        upper.legend(fontsize=8)
    upper.set_ylabel("loss")
    upper.set_ylim(bottom=0)
    lower.plot(at, [line["lr"] for line in steps], color=_COLOURS[-1])
    lower.set_ylabel("learning rate")
    lower.set_xlabel("step")
    return figure


def _plot_figures(epochs: Sequence[Mapping[str, Any]], names: Sequence[str], best: int) -> Any:
    figure = _new_figure((9, 3.5))
    axes = figure.subplots()
    at = [line["epoch"] for line in epochs]
    for colour, name in zip(_COLOURS, names, strict=False):
        values = [
            np.nan if line["figures"].get(name) is None else line["figures"][name]
            for line in epochs
        ]
        axes.plot(at, values, color=colour, label=name, marker=".")
    axes.axvline(best, color="#a0aec0", linestyle=":", label=f"best: epoch {best}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch (0: before training)")
    axes.legend(fontsize=8)
    return figure


def _moving_average(values: np.ndarray) -> np.ndarray:
    """Average each value with its neighbours, about 3 % of all steps. NaN is left out."""
    width = max(1, len(values) // 33)
    kernel = np.ones(width)
    known = np.convolve(~np.isnan(values), kernel, mode="same")
    return np.asarray(
        np.convolve(np.nan_to_num(values), kernel, mode="same") / np.maximum(known, 1)
    )


def _new_figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=size, layout="constrained")


def _encode_png(figure: Any) -> str:
    """Render a figure as a `data:` URL."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _format_number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _base64_sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
