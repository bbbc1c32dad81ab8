"""Recognize annotation files of other programs, and say how to export them in a known format."""

from pathlib import Path
from typing import Any

_KEYS = (  # keys of the outermost object, the program, and what to do in it
    (
        {"categories", "items"},
        "datumaro",
        "datum convert -if datumaro -f coco -i DATA -o OUTPUT",
    ),
    ({"shapes", "imagePath"}, "LabelMe", "export the set as COCO"),
    ({"_via_img_metadata"}, "VGG's annotator", "export the annotations as COCO"),
    ({"classes", "labels"}, "FiftyOne", "export with dataset_type=fo.types.COCODetectionDataset"),
    ({"samples"}, "FiftyOne", "export with dataset_type=fo.types.COCODetectionDataset"),
)
_TAGS = (  # outermost element, the program, and what to do in it
    ("annotations", "CVAT", "export the task as COCO 1.0, Pascal VOC 1.1 or Ultralytics YOLO"),
    ("dataset", "dlib", "convert the set to COCO or Pascal VOC"),
)


def describe_json(content: Any) -> str:
    """Return a sentence about JSON in another program's format; empty if it is not recognized."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        is_tasks = "data" in first or {"annotation_id", "lead_time"} & set(first)
        how = "export the project as COCO, YOLO or Pascal VOC XML"
        return _describe("Label Studio", how) if is_tasks else ""
    keys = set(content) if isinstance(content, dict) else set()
    found = next(((who, how) for names, who, how in _KEYS if names <= keys), None)
    return _describe(*found) if found and "images" not in keys else ""


def describe_xml(path: Path) -> str:
    """Return a sentence about an XML file in another program's format; empty if not recognized."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).decode("utf-8-sig", "replace")
    except OSError:
        return ""
    found = next(((who, how) for tag, who, how in _TAGS if f"<{tag}>" in start), None)
    return _describe(*found) if found else ""


def _describe(program: str, command: str) -> str:
    return f" This looks like a file of {program}: {command}."
