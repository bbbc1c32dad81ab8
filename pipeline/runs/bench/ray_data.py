"""Ray Data at the same work, for comparison: what its users write, on this machine's cores."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.runs.bench.baseline import PlainModel, PlainReader
from pipeline.runs.bench.contenders import Measurement, measure


def prepare_ray_data_job(
    tutorial: PlainModel, batch_size: int, output: str
) -> Callable[[], Measurement]:
    """Files -> map (decode and prepare) -> map_batches (one actor with the model) -> Parquet. The start of Ray itself is not
    in the time, that of the job's workers is. Ray is stopped afterwards: its servers would take time from the others."""
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "bench.peers=true needs Ray: pip install 'visionbatch[ray]', or say bench.peers=false."
        ) from None

    def job(folder: str) -> None:
        reader, model = tutorial.reader, ray.put(tutorial)
        items = ray.data.from_items([{"index": i} for i in range(len(reader))])
        found = items.map(lambda row: _prepare(row, reader)).map_batches(
            _Model,
            fn_constructor_args=[model],
            batch_size=batch_size,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_gpus=int(tutorial.device.startswith("cuda")),
        )
        found.write_parquet(folder)

    def measured() -> Measurement:
        folder = mkdtemp(prefix="ray-", dir=Path(output).expanduser())
        ray.init(logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            return measure(len(tutorial.reader), lambda: job(folder))
        finally:
            ray.shutdown()
            shutil.rmtree(folder)

    return measured


def _prepare(row: dict[str, Any], reader: PlainReader) -> dict[str, Any]:
    pixels, size_hw = reader[int(row["index"])]
    return {"index": row["index"], "pixels": pixels.numpy(), "size_hw": np.array(size_hw)}


class _Model:
    """One actor with the model."""

    def __init__(self, stored: Any) -> None:
        import ray

        self.tutorial: PlainModel = ray.get(stored)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = [torch.from_numpy(np.array(pixels)) for pixels in batch["pixels"]]
        sizes = [(int(height), int(width)) for height, width in batch["size_hw"]]
        answers = self.tutorial.predict(list(zip(images, sizes, strict=True)))
        return {"index": batch["index"], "found": [_numbers(one) for one in _one_by_one(answers)]}


def _one_by_one(answers: Any) -> Any:
    return (
        answers["out"] if isinstance(answers, dict) else answers
    )  # a segmenter's are in a mapping


def _numbers(answer: Any) -> list[float]:
    """Something of each image's answer to be written: scores or logits; of maps their maxima."""
    if isinstance(answer, dict):
        answer = answer.get("scores", next(iter(answer.values())))
    values = answer.float().cpu()
    return (values.flatten(1).amax(1) if values.dim() > 1 else values).tolist()
