"""Where a run's time went, and what would move it: one sentence at its end."""

from collections.abc import Mapping

_LEAST = 0.4  # of the time: less is nobody's fault alone
_AHEAD = ("read", "decode", "transform", "copy")
_BEHIND = ("rows", "write", "draw")
_MORE_WORKERS = (
    "workers={workers} of {cores} cores were used; workers={more} may help, or smaller images"
)
_FEWER_PIXELS = "all {cores} cores were used: smaller images, or more cores"
_MOVES = {
    "read": "a faster disk, or more workers: workers={more} instead of {workers}",
    "copy": "a smaller network input; the link to the device is full",
    "forward": "engine=fast (bf16 where the processor has it, compiled), a smaller model, or a GPU",
    "forward of fast": "a smaller model, or a GPU",
    "forward on cuda": "engine=fast, batch_size=auto, or a smaller model",
    "forward of fast on cuda": "batch_size=auto, or a smaller model",
    "rows": "fewer predictions an image, e.g. model_args={{box_detections_per_img: 30}}",
    "draw": "overlays=1000 draws only the first 1000 images, overlays=false none",
    "write": "a faster disk for output=",
}


def describe_bottleneck(
    seconds: Mapping[str, float], wall: float, workers: int, cores: int, device: str, precision: str
) -> str:
    """`seconds` as `StageTimer` has them, `wall` the time on the clock.

    The loop itself is in `wait` (for inputs), `forward` or `behind` (waiting for rows and files); the longest of them is the
    bottleneck. Where it waits, the longest of the stages that it waits for is to blame.
    """
    in_loop = {name: seconds[name] for name in ("wait", "forward", "behind")}
    name = max(in_loop, key=lambda one: in_loop[one])
    share = in_loop[name] / wall if wall > 0 else 0.0
    if share < _LEAST:
        return "No single stage is the bottleneck."
    if name == "wait":
        name = max(_AHEAD, key=lambda one: seconds[one])
        kind = "more" if workers < cores else "all"
        advice = _MOVES.get(name) or (_MORE_WORKERS if kind == "more" else _FEWER_PIXELS)
    else:
        name = name if name != "behind" else max(_BEHIND, key=lambda one: seconds[one])
        fast = " of fast" if precision != "fp32" else ""
        on_cuda = " on cuda" if device.startswith("cuda") else ""
        advice = _MOVES[f"forward{fast}{on_cuda}" if name == "forward" else name]
    told = {"workers": workers, "more": max(cores, 2 * workers), "cores": cores}
    return (
        f"Bottleneck: {name}, {share:.0%} of the time. What would move it: {advice.format(**told)}."
    )
