"""task=video: rows, pictures, and agreement with the plain torchvision loop over clips."""

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model_weights

from pipeline.core.types import Item
from pipeline.tasks.video import Video
from tests.helpers.paths import shared
from tests.helpers.pictures import spec_of
from tests.helpers.reference import build, save_model, wake
from tests.helpers.runs import read

SPEC = spec_of("archery", "bowling", "clapping")
STRIDE = 1000  # the first clip of each video and the last
BUILDERS = {  # one of each architecture: frames of a clip, batch sizes; the large ones on one video
    "r3d_18": (2, (1, 4)),
    "swin3d_t": (2, (1, 4)),
    "s3d": (14, (4,)),
    "mvit_v2_s": (16, (4,)),
}


def test_rows_are_those_of_classify() -> None:
    task = Video(SPEC, top_k=1)
    rows = task.make_rows([{"logits": torch.tensor([0.0, 2.0, 1.0])}], [Item(3, "a.mp4/00000000")])
    assert rows["class_name"].to_pylist() == ["bowling"] and rows["rank"].to_pylist() == [1]
    assert task.takes_clips and task.schema.metadata[b"task"] == b"video"
    drawn = task.draw(torch.zeros(3, 64, 300, dtype=torch.uint8), rows)
    assert drawn.any() and drawn.shape == (3, 64, 300)


def plain_clips(path: Path, length: int) -> list[Tensor]:
    """Return (T, 3, H, W) uint8 clips as a tutorial's loop cuts them.

    The last clip ends with the video.
    """
    with av.open(path) as container:
        frames = [
            torch.from_numpy(frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]
    video = torch.stack(frames).permute(0, 3, 1, 2)
    last = len(video) - length
    return [video[start : start + length] for start in [*range(0, last, STRIDE), last]]


@pytest.mark.long
@pytest.mark.usefixtures("load_once")
@pytest.mark.parametrize("name", BUILDERS)
def test_clips_equal_the_plain_loops(
    name: str, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    """Two videos of different sizes; batches of one and of all."""
    length, batch_sizes = BUILDERS[name]
    (tmp_path / "in").mkdir()
    clips = []
    for video in ("video1.mp4", "video3.mp4")[: len(batch_sizes)]:
        shutil.copy(shared(f"data/video/{video}"), tmp_path / "in" / video)
        clips += plain_clips(tmp_path / "in" / video, length)
    model = build(name, detector=False)
    transform = get_model_weights(name).DEFAULT.transforms()
    inputs = [transform(clip).unsqueeze(0) for clip in clips]
    heads = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv3d)][-1:]
    wake(model, lambda: model(inputs[0]), heads, spread=2)
    with torch.inference_mode():
        expected = (
            torch.cat([model(one) for one in inputs]).softmax(dim=1).sort(dim=1, descending=True)
        )
    assert expected.values.std(dim=1).min() > 0.05, "a flat answer would agree with anything"
    file = save_model(model, tmp_path / "m.safetensors", detector=False)
    clip_settings = (
        f"source.length={length}",
        "source.fps=null",
        f"source.stride={STRIDE}",
        f"input={tmp_path / 'in'}",
    )
    for batch_size in batch_sizes:
        output = tmp_path / f"batch-{batch_size}"
        settings = ("top_k=6", "overlays=false", f"batch_size={batch_size}", f"output={output}")
        annotate("task=video", f"model={name}", f"weights={file}", *clip_settings, *settings)
        rows = read((output / "latest").resolve(), "predictions")
        assert rows.num_rows == 6 * len(clips)
        np.testing.assert_allclose(
            rows["score"].to_numpy().reshape(-1, 6), expected.values.numpy(), atol=2e-4
        )
        assert (
            rows["class_id"].to_numpy().reshape(-1, 6)[:, 0].tolist()
            == expected.indices[:, 0].tolist()
        )


@pytest.mark.long
def test_a_run_leaves_one_row_and_one_picture_a_clip(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    """The three clips as they are."""
    made = annotate(
        "task=video", "model=r3d_18", "weights=random", f"input={shared('data/video')}",
        "source.length=2", "source.fps=2", "source.stride=8",
    )  # fmt: skip
    images, rows = read(made, "images"), read(made, "predictions")
    assert (
        images["key"].to_pylist() == rows["key"].to_pylist()
        and images["status"].to_pylist() == ["ok"] * images.num_rows
    )
    assert images.column_names[-4:] == ["video", "clip", "start_s", "end_s"]
    of_first = images.filter(pa.compute.equal(images["video"], "video1.mp4")).to_pylist()
    assert [(row["clip"], row["start_s"], row["end_s"]) for row in of_first] == [
        (0, 0.0, 1.0), (1, 4.0, 5.0), (2, 7.5, pytest.approx(247 / 30)),
    ]  # fmt: skip
    with Image.open(made / "overlays" / "video1.mp4" / "00000001.overlay.jpg") as picture:
        assert picture.size == (452, 256)
