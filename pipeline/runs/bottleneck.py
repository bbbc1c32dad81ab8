"""Find the slowest stage of a run, and advise how to make the run faster."""

from collections.abc import Mapping

_MIN_SHARE = 0.4  # of the elapsed time; a stage below it is not called the bottleneck
_LOADER_STAGES = ("read", "decode", "transform", "copy")
_WRITER_STAGES = ("rows", "write", "draw")
_MORE_WORKERS = (
    "workers={workers} of {cores} cores were used; workers={more} may help, or smaller images"
)
_FEWER_PIXELS = "all {cores} cores were used: smaller images, or more cores"
_ADVICE = {
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
    """Return the bottleneck of a run and advice, as text for the user.

    The main loop spends its time in `wait` (for the loader), `forward` or `behind` (waiting for the
    writer). The longest of these is the bottleneck. If it is `wait`, the bottleneck is the
    longest stage of the loader.

    Args:
        seconds: Seconds by stage, from `StageTimer.total_seconds`.
        wall: Elapsed seconds.
        workers: Decoding threads.
        cores: Available cores.
        device: Device of the forward pass.
        precision: Precision of the forward pass.
    """
    in_loop = {name: seconds[name] for name in ("wait", "forward", "behind")}
    name = max(in_loop, key=lambda stage: in_loop[stage])
    share = in_loop[name] / wall if wall > 0 else 0.0
    if share < _MIN_SHARE:
        return "No single stage is the bottleneck."
    if name == "wait":
        name = max(_LOADER_STAGES, key=lambda stage: seconds[stage])
        kind = "more" if workers < cores else "all"
        advice = _ADVICE.get(name) or (_MORE_WORKERS if kind == "more" else _FEWER_PIXELS)
    else:
        name = name if name != "behind" else max(_WRITER_STAGES, key=lambda stage: seconds[stage])
        fast = " of fast" if precision != "fp32" else ""
        on_cuda = " on cuda" if device.startswith("cuda") else ""
        advice = _ADVICE[f"forward{fast}{on_cuda}" if name == "forward" else name]
    values = {"workers": workers, "more": max(cores, 2 * workers), "cores": cores}
    return (
        f"Bottleneck: {name}, {share:.0%} of the time. "
        f"What would move it: {advice.format(**values)}."
    )
