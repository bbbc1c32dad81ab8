"""Every export method writes a program that the pipeline opens, with the original's outputs."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.models.registry import find_format
from pipeline.training.export_model.exporters import (
    PROGRAM_FILES,
    list_export_methods,
    silence_exporters,
)
from pipeline.training.export_model.reference_network import SingleImageDetector
from pipeline.training.export_model.shape_probes import build_logit_probes, probe_program
from tests.helpers.own_files import CLASSIFIER, SEGMENTER, Classifier, Regions
from tests.helpers.runs import settings_for

NETWORKS = {"classify": (Classifier, (224, 224), CLASSIFIER), "segment": (Regions, None, SEGMENTER)}


def ways(to: str, task: str) -> list[str]:
    return [
        one.how
        for one in list_export_methods(
            to, task, SingleImageDetector(nn.Identity()), torch.zeros(2, 3, 8, 8)
        )
    ]


CASES = [(to, task, how) for to in PROGRAM_FILES for task in NETWORKS for how in ways(to, task)]
CASES.remove(
    ("onnx", "classify", "by torch.export, opset 18")
)  # six seconds; the segmenter has more to leave open


@pytest.mark.long
@pytest.mark.parametrize(("to", "task", "how"), CASES)
def test_each_way(to: str, task: str, how: str, tmp_path: Path) -> None:
    network, input_hw, preprocess = NETWORKS[task]
    original = network().eval()
    probes = build_logit_probes(original, input_hw)
    (way,) = [
        one for one in list_export_methods(to, task, original, probes.example) if one.how == how
    ]
    file = tmp_path / PROGRAM_FILES[to]
    with silence_exporters():
        way.write(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "its weights are in the file"
    settings = settings_for(
        f"task={task}", f"model={to}", f"weights={file}", preprocess, "trust_code=true", "input=."
    )
    found = probe_program(find_format(settings).load_program(), probes)  # type: ignore[attr-defined]
    assert found.difference < 1e-4 and found.any_size is (None if task == "classify" else True)
    assert found.any_batch is ("one image" not in how)


def test_a_detector_has_one_way_each() -> None:
    assert ways("onnx", "detect") == ["traced, opset 17"] and ways("torchscript", "detect") == [
        "scripted"
    ]
