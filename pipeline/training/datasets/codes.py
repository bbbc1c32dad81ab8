"""Generated scenes with codes; the built-in detector of codes learns from them.

Run it with `make train experiment=codes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.annotations.file_finder import list_files
from pipeline.core.background import BACKGROUND
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_text
from pipeline.core.locations import expand_home
from pipeline.training.data_protocols import Example

if TYPE_CHECKING:
    from pipeline.training.synthetic.backgrounds import Backgrounds
    from pipeline.training.synthetic.fonts_and_words import Typography

VERSION = "1"  # part of the data's identity: increase it when scenes change


class Codes:
    """Generated training data.

    Each epoch has `scenes` new scenes. The `validation_scenes` are always the same, and have
    words, fonts and backgrounds that training never shows.
    """

    categories = (BACKGROUND, "qr code", "barcode", "data matrix", "fiducial marker")
    keypoint_names: tuple[str, ...] = ()

    def __init__(
        self,
        scenes: int,
        validation_scenes: int,
        size: int,
        backgrounds: str | None,
        seed: int,
        max_pixels: int,
        task: str,
    ) -> None:
        """Check the settings and find the photographs.

        Args:
            scenes: Number of training scenes in each epoch.
            validation_scenes: Number of validation scenes.
            size: Side of a scene in pixels.
            backgrounds: A folder of photographs without codes; None: generated backgrounds.
            seed: Seed of all scenes.
            max_pixels: Larger photographs are refused.
            task: Must be detect.

        Raises:
            ConfigError: A setting is out of range or a library is missing.
        """
        if task != "detect":
            raise ConfigError(
                f"examples=codes has boxes only; task={task} needs more. Say task=detect."
            )
        for name, value, least in (
            ("scenes", scenes, 1),
            ("validation_scenes", validation_scenes, 1),
            ("size", size, 64),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    f"examples.{name}={value}: expected a whole number, {least} or more."
                )
        try:
            from pipeline.training.synthetic.backgrounds import Backgrounds
            from pipeline.training.synthetic.fonts_and_words import TRAINING, VALIDATION
            from pipeline.training.synthetic.scene import render_scene as _drawable  # noqa: F401 - imports all drawing libraries
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"Scenes are drawn with zxing-cpp and opencv, and {error.name} is not installed. "
                "Install visionbatch[train]."
            ) from None
        files = _find_photographs(backgrounds)
        behind = Backgrounds(tuple(map(str, files)), max_pixels)
        self.identity = {
            "scenes": f"{scenes} and {validation_scenes} of {size} pixels, version {VERSION}",
            "seed": str(seed),
            "backgrounds": hash_text(
                "".join(f"{file.name} {file.stat().st_size}\n" for file in files)
            )
            if files
            else "drawn",
        }
        self.training = SceneSet(scenes, size, seed, 0, TRAINING, behind.training_part(), "scene")
        self.validation = SceneSet(
            validation_scenes,
            size,
            seed,
            1,
            VALIDATION,
            behind.validation_part(),
            "validation scene",
        )


@dataclass(frozen=True)
class SceneSet:
    """An `ExampleSet` of scenes; each is a function of (seed, part, epoch, number)."""

    count: int
    size: int
    seed: int
    part: int  # 0: training, new scenes each epoch; 1: validation, always the same
    stock: "Typography"
    backgrounds: "Backgrounds"
    label: str

    def __len__(self) -> int:
        return self.count

    @property
    def sizes_hw(self) -> np.ndarray:
        return np.full((self.count, 2), self.size, np.int64)

    def name(self, number: int) -> str:
        return f"{self.label} {number}"

    def example(self, number: int, epoch: int) -> Example:
        from pipeline.training.synthetic.scene import render_scene

        pixels, truth = render_scene(
            self._seed(number, epoch), self.stock, self.backgrounds, self.size
        )
        target = {"boxes": torch.from_numpy(truth.boxes), "labels": torch.from_numpy(truth.labels)}
        return Example(torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), target)

    def boxes(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yield the boxes of the first epoch's scenes."""
        from pipeline.training.synthetic.scene import compute_truth

        for number in range(self.count):
            yield (
                (self.size, self.size),
                compute_truth(self._seed(number, 0), self.stock, self.size).boxes,
            )

    def _seed(self, number: int, epoch: int) -> tuple[int, ...]:
        return self.seed, self.part, epoch if self.part == 0 else 0, number


def _find_photographs(folder: str | None) -> list[Path]:
    if folder is None:
        return []
    root = expand_home(folder)
    if not root.is_dir():
        raise ConfigError(
            f"examples.backgrounds={folder}: not a folder. "
            "Expected one of photographs without codes, or null."
        )
    files = sorted(path for path in list_files(root) if path.is_file())
    if not files:
        raise ConfigError(
            f"examples.backgrounds={folder}: no images in it. "
            "Expected photographs without codes, or null."
        )
    return files
