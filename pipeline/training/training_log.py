"""The log of a training: a JSON line for each step and each epoch, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.storage.durable_files import append_line
from pipeline.storage.publish import publish_file

_MAX_STEP_LINES = 20_000  # a training with more steps logs only every n-th step


class TrainingLog:
    """Writes the logs of a training into its folder.

    - `steps.jsonl`: step, epoch, learning rate, loss and its terms.
    - `epochs.jsonl`: step, epoch, figures, seconds.
    - `tensorboard/`: the same values.
    """

    def __init__(self, folder: Path, step: int, total: int) -> None:
        """Open the logs at `step`, where a training starts (0) or resumes.

        Lines after that step are removed, because these steps will be repeated.
        """
        self.folder, self.every = folder, -(-total // _MAX_STEP_LINES)
        for name in ("steps.jsonl", "epochs.jsonl"):
            _truncate_log(folder / name, step)
        self.board = load_summary_writer()(
            str(folder / "tensorboard"), purge_step=step + 1 if step else None
        )

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.board.close()

    def log_step(self, step: int, epoch: int, rate: float, losses: Mapping[str, float]) -> None:
        if step % self.every:
            return
        line = {
            "step": step,
            "epoch": epoch,
            "lr": rate,
            "loss": sum(losses.values()),
            "parts": dict(losses),
        }
        append_line(self.folder / "steps.jsonl", json.dumps(line).encode())
        for name, value in (
            ("loss", line["loss"]),
            ("lr", rate),
            *((f"loss/{k}", v) for k, v in losses.items()),
        ):
            self.board.add_scalar(name, value, step)

    def log_epoch(
        self, step: int, epoch: int, figures: Mapping[str, float | None], seconds: float
    ) -> None:
        line = {
            "step": step,
            "epoch": epoch,
            "figures": dict(figures),
            "seconds": round(seconds, 1),
        }
        append_line(self.folder / "epochs.jsonl", json.dumps(line).encode())
        for name, value in figures.items():
            if value is not None:
                self.board.add_scalar(f"validation/{name}", value, step)
        self.board.flush()

    def read_epochs(self) -> list[dict[str, Any]]:
        return read_log(self.folder / "epochs.jsonl")


def load_summary_writer() -> Any:
    """Import torch's SummaryWriter. Raises ConfigError if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "train writes logs for TensorBoard, which is not installed: "
            "pip install 'visionbatch[train]', or in a clone "
            ".venv/bin/pip install -c constraints.txt -e '.[train]'"
        ) from None
    return SummaryWriter


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a JSONL log, without an incomplete last line."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [line for line in map(_parse_line, lines) if line is not None]


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return content


def _truncate_log(path: Path, step: int) -> None:
    """Remove the lines after `step`, or all lines if `step` is 0."""
    kept = [line for line in read_log(path) if step and line["step"] <= step]
    with publish_file(path, replace=True) as stage:
        stage.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
