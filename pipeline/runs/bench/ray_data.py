"""Measure a Ray Data job that does the same work on this machine, for comparison."""

import logging
import shutil
from collections.abc import Callable
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.core.locations import expand_home
from pipeline.runs.bench.measured_loops import Measurement, measure
from pipeline.runs.bench.plain_model import PlainModel, PlainReader


def prepare_ray_data_job(
    plain_model: PlainModel, batch_size: int, output: str
) -> Callable[[], Measurement]:
    """Return a function that runs the Ray Data job once and measures it.

    The job reads files, decodes and preprocesses in `map`, predicts in `map_batches` with one
    actor, and writes Parquet. The time includes the start of the job's workers but not that of Ray.
    Ray is stopped after each job, because its servers would slow the other measurements.

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "bench.peers=true needs Ray: pip install 'visionbatch[ray]', or say bench.peers=false."
        ) from None

    def run_job(folder: str) -> None:
        reader, model_reference = plain_model.reader, ray.put(plain_model)
        items = ray.data.from_items([{"index": i} for i in range(len(reader))])
        predictions = items.map(lambda row: _prepare(row, reader)).map_batches(
            _Model,
            fn_constructor_args=[model_reference],
            batch_size=batch_size,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_gpus=int(plain_model.device.startswith("cuda")),
        )
        predictions.write_parquet(folder)

    def measure_job() -> Measurement:
        folder = mkdtemp(prefix="ray-", dir=expand_home(output))
        ray.init(logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            return measure(len(plain_model.reader), lambda: run_job(folder))
        finally:
            ray.shutdown()
            shutil.rmtree(folder)

    return measure_job


def _prepare(row: dict[str, Any], reader: PlainReader) -> dict[str, Any]:
    pixels, size_hw = reader[int(row["index"])]
    return {"index": row["index"], "pixels": pixels.numpy(), "size_hw": np.array(size_hw)}


class _Model:
    """The callable that a Ray actor runs; it has the model."""

    def __init__(self, model_reference: Any) -> None:
        import ray

        self.plain_model: PlainModel = ray.get(model_reference)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        images = [torch.from_numpy(np.array(pixels)) for pixels in batch["pixels"]]
        sizes = [(int(height), int(width)) for height, width in batch["size_hw"]]
        outputs = self.plain_model.predict(list(zip(images, sizes, strict=True)))
        return {
            "index": batch["index"],
            "found": [_list_numbers(output) for output in _split_by_image(outputs)],
        }


def _split_by_image(outputs: Any) -> Any:
    """Return a sequence with the outputs of each image. A segmenter's outputs are in a mapping."""
    return outputs["out"] if isinstance(outputs, dict) else outputs


def _list_numbers(output: Any) -> list[float]:
    """Return the numbers to write for an image: scores or logits, or the maximum of each map."""
    if isinstance(output, dict):
        output = output.get("scores", next(iter(output.values())))
    values = output.float().cpu()
    return (values.flatten(1).amax(1) if values.dim() > 1 else values).tolist()
