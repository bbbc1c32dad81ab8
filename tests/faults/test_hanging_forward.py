"""A forward pass that hangs meets its deadline, and only its image is lost."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.helpers.own_files import CLASSIFIER
from tests.helpers.paths import REPOSITORY
from tests.helpers.pictures import picture
from tests.helpers.runs import read

pytestmark = pytest.mark.long


class HangsOnWhite(nn.Module):
    """A classifier: images (B, 3, h, w) -> logits (B, 5). A batch with a white image never ends."""

    def forward(self, images: Tensor) -> Tensor:
        # White is above 2 in every channel after the preset's normalisation.
        while bool((images.amin(dim=(1, 2, 3)) > 2.0).any()):
            images = images * 1.0
        return images.mean(dim=(2, 3)).repeat(1, 2)[:, :5]


@pytest.mark.parametrize("batch_size", [4, pytest.param(1, marks=pytest.mark.faults)])
def test_only_the_image_whose_forward_pass_hangs_is_lost(batch_size: int, tmp_path: Path) -> None:
    program, images, output = tmp_path / "program.pt", tmp_path / "images", tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(HangsOnWhite()).save(program)
    classes = tmp_path / "classes.txt"
    classes.write_text("a\nb\nc\nd\ne\n")
    images.mkdir()
    for index in range(6):
        picture(160, 120, seed=index).save(images / f"{index}.png")
    Image.new("RGB", (160, 120), "white").save(images / "2-white.png")

    words = ["task=classify", "model=torchscript", f"weights={program}", "trust_code=true"]
    words += [f"categories={classes}", CLASSIFIER, f"input={images}", f"output={output}"]
    words += ["timeout=3", f"batch_size={batch_size}", "overlays=false"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", *words],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 5, done.stdout + done.stderr
    rows = read((output / "latest").resolve(), "images").to_pylist()
    assert len(rows) == 7
    lost = [(row["key"], row["status"], row["error"]) for row in rows if row["status"] != "ok"]
    assert [one[:2] for one in lost] == [("2-white.png", "timeout")]
    assert "longer than timeout= allows in two tries" in lost[0][2]
