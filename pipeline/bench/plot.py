"""The figures of a benchmark as a picture."""

from collections.abc import Mapping
from pathlib import Path


def save_plot(result: Mapping, path: Path) -> None:
    """Horizontal bars of images/s with their spread, and a line at what the hardware allows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same bytes
    names = list(result["contenders"])[::-1]
    rows = [result["contenders"][name] for name in names]
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots()
    rates = [row["images_per_s"] for row in rows]
    spread = [[row["images_per_s"] - row["least"] for row in rows], [row["most"] - row["images_per_s"] for row in rows]]
    colours = ["#2b6cb0" if name == "this pipeline" else "#a0aec0" for name in names]
    axes.barh(names, rates, xerr=spread, color=colours, ecolor="#4a5568", capsize=3)
    for y, row in enumerate(rows):
        axes.annotate(f" {row['images_per_s']:.1f}  ({row['ratio_to_loop']:.2f} x loop)", (row["most"], y), va="center")
    axes.axvline(result["bound_images_per_s"], color="#c53030", linestyle="--", label="what the hardware allows")
    axes.set_xlim(0, 1.4 * max(result["bound_images_per_s"], *(row["most"] for row in rows)))
    axes.set_xlabel("images per second (median, least to most)")
    axes.set_title(f"{result['task']} {result['model']}: efficiency {result['efficiency']:.2f}")
    axes.legend(loc="upper right")
    figure.savefig(path, metadata={"Date": None})
