"""Small annotated data sets: the same pictures in every format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from pipeline.training.examples.annotated_set import AnnotatedImage, AnnotatedSet

NAMES = ("cat", "dog")


@dataclass(frozen=True)
class Scene:
    """An image with its boxes: (class name, x_min, y_min, x_max, y_max), whole pixels."""

    name: str
    size: tuple[int, int] = (64, 48)  # width, height
    objects: tuple[tuple[str, int, int, int, int], ...] = ()


SCENES = (
    Scene("a.png", objects=(("dog", 4, 6, 30, 40), ("cat", 32, 8, 60, 44))),
    Scene("b.png", (48, 64), (("cat", 0, 0, 48, 64),)),
    Scene("c.png"),
    Scene("d.png", (80, 40), (("dog", 10, 5, 79, 39),)),
)


def images(part: AnnotatedSet) -> list[AnnotatedImage]:
    return [part.get_image(number) for number in range(len(part))]


def paint(scene: Scene, folder: Path) -> Path:
    """Write a grey picture with red rectangles at the objects."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", scene.size, (90, 90, 90))
    for _, x_min, y_min, x_max, y_max in scene.objects:
        ImageDraw.Draw(image).rectangle((x_min, y_min, x_max - 1, y_max - 1), fill=(250, 20, 20))
    image.save(folder / scene.name)
    return folder / scene.name


def coco_of(scenes: Sequence[Scene] = SCENES, names: Sequence[str] = NAMES) -> dict[str, Any]:
    """Return the content of a COCO file.

    Category ids are 3, 5, 7 ..., image ids start at 10, annotation ids at 1. Each mask is the box
    as a polygon.
    """
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 3 + 2 * i, "name": name} for i, name in enumerate(names)]
    for number, scene in enumerate(scenes, start=10):
        width, height = scene.size
        content["images"].append(
            {"id": number, "file_name": scene.name, "width": width, "height": height}
        )
        for name, x, y, x_max, y_max in scene.objects:
            one = {
                "id": len(content["annotations"]) + 1,
                "image_id": number,
                "category_id": 3 + 2 * names.index(name),
            }
            polygon = [x, y, x_max, y, x_max, y_max, x, y_max]
            content["annotations"].append(
                one | {"bbox": [x, y, x_max - x, y_max - y], "segmentation": [polygon]}
            )
    return content


def write_coco(
    folder: Path, scenes: Sequence[Scene] = SCENES, content: dict[str, Any] | None = None
) -> Path:
    for scene in scenes:
        paint(scene, folder / "images")
    file = folder / "set.json"
    file.write_text(json.dumps(content or coco_of(scenes)))
    return file


def write_yolo(folder: Path, scenes: Sequence[Scene] = SCENES, **more: Any) -> Path:
    """Write a YOLO data set. Only images with objects have a file of labels."""
    (folder / "labels").mkdir(parents=True)
    for scene in scenes:
        paint(scene, folder / "images")
        width, height = scene.size
        lines = [
            f"{NAMES.index(name)} {(x + x_max) / 2 / width:.8f} {(y + y_max) / 2 / height:.8f} "
            f"{(x_max - x) / width:.8f} {(y_max - y) / height:.8f}\n"
            for name, x, y, x_max, y_max in scene.objects
        ]
        if lines:
            (folder / "labels" / scene.name).with_suffix(".txt").write_text("".join(lines))
    file = folder / "data.yaml"
    file.write_text(
        yaml.safe_dump({"train": "images", "val": "images", "names": dict(enumerate(NAMES))} | more)
    )
    return file


def write_voc(folder: Path, scenes: Sequence[Scene] = SCENES, **parts: str) -> Path:
    """Write a VOC folder. `parts` are the lists in ImageSets/Main, such as train="a b"."""
    (folder / "Annotations").mkdir(parents=True)
    for scene in scenes:
        paint(scene, folder / "JPEGImages")
        objects = "".join(
            f"<object><name>{name}</name><difficult>1</difficult><bndbox>"
            f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x_max}</xmax><ymax>{y_max}</ymax></bndbox></object>"
            for name, x, y, x_max, y_max in scene.objects
        )
        width, height = scene.size
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{scene.name}</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / scene.name).with_suffix(".xml").write_text(text)
    for part, names in parts.items():
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names.split()) + "\n")
    return folder


def write_classes(folder: Path, **images: int) -> Path:
    """Write class folders. cat=3 makes cat/0.png, cat/1.png and cat/sub/2.png."""
    for name, count in images.items():
        for i in range(count):
            place = folder / name / "sub" if i == count - 1 else folder / name
            paint(Scene(f"{i}.png", (32 + i, 24)), place)
    return folder
