"""Plot the figures of a benchmark."""

from collections.abc import Mapping
from pathlib import Path


def save_bench_plot(result: Mapping, path: Path) -> None:
    """Plot images/s as horizontal bars, with the spread and the limit of the hardware."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same bytes
    names = list(result["contenders"])[::-1]
    rows = [result["contenders"][name] for name in names]
    figure = Figure(figsize=(9, 0.4 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots()
    rates = [row["images_per_s"] for row in rows]
    spread = [
        [row["images_per_s"] - row["least"] for row in rows],
        [row["most"] - row["images_per_s"] for row in rows],
    ]
    colours = ["#2b6cb0" if name.endswith(": pipeline") else "#a0aec0" for name in names]
    axes.barh(names, rates, xerr=spread, color=colours, ecolor="#4a5568", capsize=3)
    for y, (name, row) in enumerate(zip(names, rows, strict=True)):
        axes.annotate(
            f" {row['images_per_s']:.1f}  ({row['ratio_to_loop']:.2f} x loop)",
            (row["most"], y),
            va="center",
        )
        if engine := result["engines"].get(name.removesuffix(": pipeline")):
            axes.plot([engine["bound_images_per_s"]] * 2, [y - 0.4, y + 0.4], color="#c53030")
    axes.plot([], [], color="#c53030", label="what the hardware allows")
    axes.set_xlim(0, 1.35 * max(row["most"] for row in rows))
    axes.set_xlabel("images per second (median, least to most)")
    axes.set_title(f"{result['task']} {result['model']}", parse_math=False)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})
