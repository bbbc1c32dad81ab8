"""The verb `anchors`: propose anchors that fit a data set, and compare them with the model's."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.ssd import SSD

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.locations import parse_location
from pipeline.core.passed_over import OWN_MARKER, OWN_MARKER_TEXT
from pipeline.core.text_tables import format_columns
from pipeline.models.anchor_generators import compute_anchor_shapes, read_anchors
from pipeline.models.anchors import Anchors
from pipeline.models.networks.detector import compute_resized_hw
from pipeline.models.registry import find_format
from pipeline.storage.publish import publish_file
from pipeline.training.anchors.box_shapes import (
    MATCHED,
    AnchorFit,
    measure_fit,
    propose_elongations,
    propose_ratios,
    propose_sizes,
)
from pipeline.training.anchors.strides import measure_stride_fit, propose_strides
from pipeline.training.data_protocols import ExampleSet
from pipeline.training.task_registry import check_sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_FCOS_BOXES = 20_000
_MAX_PLOTTED_BOXES = 5000
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#a0aec0"


@dataclass(frozen=True)
class MeasuredAnchors:
    """Anchors and how well they fit a data set's boxes."""

    anchors: Anchors
    shapes: np.ndarray  # (A, 2) widths and heights
    fit: AnchorFit

    def to_record(self) -> dict[str, Any]:
        return {**self.anchors.to_dict(), "recall": self.fit.recall, "mean_best_iou": self.fit.iou}


@dataclass(frozen=True)
class Proposal:
    own: MeasuredAnchors
    found: MeasuredAnchors | None  # None: no anchors fit better than the model's own
    strides: bool  # an FCOS: positions are measured, not anchor shapes


def propose_anchors(settings: Settings) -> str:
    """Propose anchors, write `<output>/anchors/<model>.png` and `.json`, and return the text.

    Raises:
        ConfigError: The model has no anchors to change, or the data has no boxes.
    """
    made: Any = find_format(settings)
    if not hasattr(made, "factory"):
        raise ConfigError(
            f"model={settings.model} is a program as it is; its anchors cannot be changed."
        )
    network: nn.Module = made.factory.build_skeleton(None).eval()
    read_anchors(network)  # raises ConfigError for a model without anchors
    examples = instantiate(settings.components["examples"], task=settings.task)
    check_sizes(network, examples.training)
    boxes_wh = collect_box_shapes(network, examples.training)
    if not len(boxes_wh):
        raise ConfigError(f"train.data={settings.train.data} has no boxes to fit anchors to.")
    proposal = find_better_anchors(network, boxes_wh)
    folder = parse_location(settings.output) / "anchors"
    files = [folder / f"{made.selection.display_name}.{suffix}" for suffix in ("png", "json")]
    with publish_file(folder / OWN_MARKER, replace=True) as stage:
        stage.write_text(OWN_MARKER_TEXT)
    with publish_file(files[0], replace=True) as stage:
        plot_proposal(proposal, boxes_wh).savefig(
            stage, format="png", dpi=120, metadata={"Software": None}
        )
    with publish_file(files[1], replace=True) as stage:
        stage.write_text(
            json.dumps(_build_record(settings, proposal, len(boxes_wh)), indent=1) + "\n"
        )
    return _format_proposal(
        made.selection.display_name, proposal, boxes_wh, len(examples.training), files
    )


def collect_box_shapes(network: Any, examples: ExampleSet) -> np.ndarray:
    """Return widths and heights of all boxes, (N, 2), in pixels of the resized image."""

    @cache
    def scale(size_hw: tuple[int, int]) -> tuple[float, float]:
        height, width = compute_resized_hw(network.transform, size_hw)
        return width / size_hw[1], height / size_hw[0]

    def scaled() -> Iterator[np.ndarray]:
        for size_hw, boxes_xyxy in examples.boxes():
            if len(boxes_xyxy):
                yield (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * scale(
                    (int(size_hw[0]), int(size_hw[1]))
                )

    shapes = np.concatenate([np.empty((0, 2)), *scaled()])
    return shapes[(shapes > 0).all(axis=1)]


def find_better_anchors(network: nn.Module, boxes_wh: np.ndarray) -> Proposal:
    """Find anchors that fit the boxes better than the network's own.

    The number of anchors at each place stays the same, so that the weights still fit. New sizes,
    new ratios and both are tried. Sizes and ratios are clustered separately, because a network
    combines every size with every ratio.
    """
    own = read_anchors(network)
    strides = isinstance(network, FCOS)
    if strides:  # measuring FCOS is slower, because each box is tried at many positions
        boxes_wh = boxes_wh[:: -(-len(boxes_wh) // _MAX_FCOS_BOXES)]
    before = _measure(network, own, None, boxes_wh)
    tried = []
    for candidate in _list_candidates(network, own, boxes_wh):
        try:
            tried.append(_measure(network, own, candidate, boxes_wh))
        except ConfigError:  # an anchor so thin that torchvision rounds it to 0 pixels
            continue
    best = max(tried, key=lambda candidate: candidate.fit.rank, default=before)
    return Proposal(before, best if best.fit.rank > before.fit.rank else None, strides)


def _list_candidates(network: Any, own: Anchors, boxes_wh: np.ndarray) -> list[Anchors]:
    levels = [list(level) for level in own.sizes or ()]
    if isinstance(network, FCOS):
        strides = propose_strides(boxes_wh, [level[0] for level in levels])
        return [Anchors(tuple((stride,) for stride in strides))]
    if isinstance(network, SSD):
        most = max(len(level) for level in network.anchor_generator.aspect_ratios)
        ratios = (1.0, *propose_elongations(boxes_wh, most))
        last = levels.pop()  # size of the last level's second square; it is not a level
        sizes = propose_sizes(boxes_wh, levels)
        sizes = [
            *sizes,
            [max(last[0], sizes[-1][0])]
            if sizes[-1] == levels[-1]
            else [float(f"{sizes[-1][0] * 1.2:.3g}")],
        ]
    else:
        ratios = tuple(propose_ratios(boxes_wh, len(own.ratios or ())))
        sizes = propose_sizes(boxes_wh, levels)
    by_level = tuple(tuple(level) for level in sizes)
    return [Anchors(by_level, ratios), Anchors(None, ratios), Anchors(by_level, None)]


def _measure(
    network: nn.Module, own: Anchors, others: Anchors | None, boxes_wh: np.ndarray
) -> MeasuredAnchors:
    """Measure the network's own anchors, or `others` instead.

    The network's generator makes the shapes, so that its rounding and clipping are included.
    """
    measured = others or own
    shapes = np.concatenate(compute_anchor_shapes(network, others)).astype(float)
    if not isinstance(network, FCOS):
        return MeasuredAnchors(measured, shapes, measure_fit(boxes_wh, shapes))
    strides, grids = ([level[0] for level in anchors.sizes or ()] for anchors in (measured, own))
    return MeasuredAnchors(measured, shapes, measure_stride_fit(boxes_wh, strides, grids))


def plot_proposal(proposal: Proposal, boxes_wh: np.ndarray) -> "Figure":
    """Plot the widths and heights of boxes and anchors on logarithmic axes."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    some = boxes_wh[:: -(-len(boxes_wh) // _MAX_PLOTTED_BOXES)]
    axes.scatter(
        some[:, 0],
        some[:, 1],
        s=6,
        color=_GREY,
        alpha=0.5,
        linewidths=0,
        label=f"{len(boxes_wh):,} boxes",
    )
    sets = [("own", "x", _BLUE, proposal.own)] + (
        [("proposed", "+", _RED, proposal.found)] if proposal.found else []
    )
    for name, mark, colour, measured in sets:
        label = f"{name}: recall {measured.fit.recall:.3f}"
        axes.scatter(
            measured.shapes[:, 0],
            measured.shapes[:, 1],
            marker=mark,
            s=60,
            color=colour,
            label=label,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="width",
        ylabel="height",
        title="in pixels of the network's input",
    )
    axes.legend(fontsize=9)
    return figure


def _build_record(settings: Settings, proposal: Proposal, boxes: int) -> Mapping[str, Any]:
    return {
        "model": settings.model,
        "boxes": boxes,
        "iou": MATCHED,
        "own": proposal.own.to_record(),
        "proposed": proposal.found.to_record() if proposal.found else None,
    }


def _format_proposal(
    model: str, proposal: Proposal, boxes_wh: np.ndarray, images: int, files: list[Any]
) -> str:
    own, found = proposal.own, proposal.found
    width, height = np.median(boxes_wh, axis=0)
    heading = (
        ("boxes with a place", "how central")
        if proposal.strides
        else (f"recall at IoU {MATCHED:g}", "mean best IoU")
    )
    rows = [
        ("anchors", *heading),
        _format_row("own", own),
        *([_format_row("proposed", found)] if found else []),
    ]
    lines = [
        f"{len(boxes_wh):,} boxes in {images:,} images, the median {width:.0f} x {height:.0f} "
        f"pixels of what {model} sees.",
        format_columns(rows),
        f"own: {own.anchors.to_overrides()}",
        f"plot: {files[0]}, figures: {files[1]}",
        found.anchors.to_overrides()
        if found
        else "The model's own anchors are as good: leave anchors.sizes and anchors.ratios out.",
    ]
    return "\n".join(lines)


def _format_row(name: str, one: MeasuredAnchors) -> tuple[str, str, str]:
    return name, f"{one.fit.recall:.3f}", f"{one.fit.iou:.3f}"
