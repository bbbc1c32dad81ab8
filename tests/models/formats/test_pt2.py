"""The user's own exported program."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError
from pipeline.models.formats.pt2 import Pt2
from pipeline.models.registry import find_format
from tests.helpers.own_files import CLASSIFIER, Classifier, save
from tests.helpers.runs import settings_for


class FixedBoxes(nn.Module):
    """Return boxes at fixed fractions of the image, scored by its colours.

    It creates a tensor on a fixed device.
    """

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        image = images[0]
        unit = torch.tensor([0.0, 0.0, 1.0, 0.5], device=image.device)
        boxes = unit * torch.tensor(2.0, device=image.device) * image.mean()
        return [
            {
                "scores": image.mean(dim=(1, 2)),
                "boxes": boxes.expand(3, 4),
                "labels": torch.arange(1, 4),
            }
        ]


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    return f"categories={tmp_path / 'names.txt'}"


def find_pt2(file: Path, *more: str) -> Pt2:
    trusted = [
        "task=classify",
        "model=pt2",
        f"weights={file}",
        "input=.",
        CLASSIFIER,
        "trust_code=true",
    ]
    made = find_format(settings_for(*trusted, *more))
    assert isinstance(made, Pt2)
    return made


@pytest.mark.parametrize(
    ("example", "dynamic", "batch"),
    [(2, {0: "batch"}, (2, None)), (4, {}, (4, 4)), (1, {}, (1, 1))],
)
def test_the_logits_are_the_modules_whatever_batch_the_file_takes(
    example: int, dynamic: dict[int, str], batch: tuple[int, int | None], names: str, tmp_path: Path
) -> None:
    module = Classifier()
    made = find_pt2(save(module, "pt2", tmp_path, torch.rand(example, 3, 224, 224), dynamic), names)
    assert made.read_signature().batch == batch
    model = made.load()
    images = torch.rand(6, 3, 224, 224)
    with torch.inference_mode():
        outputs = model.network(list(images), [(224, 224)] * 6)
        torch.testing.assert_close(torch.stack([one["logits"] for one in outputs]), module(images))
        alone = model.network([images[5]], [(224, 224)])[0]["logits"]
    torch.testing.assert_close(alone, outputs[5]["logits"])


def test_a_range_of_batches_is_kept(names: str, tmp_path: Path) -> None:
    sizes = ({0: torch.export.Dim("batch", min=2, max=4)},)
    exported = torch.export.export(
        Classifier(), (torch.rand(3, 3, 224, 224),), dynamic_shapes=sizes
    )
    torch.export.save(exported, tmp_path / "own.pt2")
    made = find_pt2(tmp_path / "own.pt2", names)
    assert made.read_signature().batch == (2, 4)
    images = list(torch.rand(5, 3, 224, 224))  # in calls of 4 and 1
    outputs = made.load().network(images, [(224, 224)] * 5)
    torch.testing.assert_close(outputs[4]["logits"], Classifier()(images[4][None])[0])


def test_a_detector_gets_images_of_any_size_and_can_move(tmp_path: Path) -> None:
    dynamic = ([{1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}],)
    exported = torch.export.export(FixedBoxes(), ([torch.rand(3, 20, 30)],), dynamic_shapes=dynamic)
    torch.export.save(exported, tmp_path / "own.pt2")
    model = find_pt2(
        tmp_path / "own.pt2", "task=detect", "preprocess=DEFAULT", "categories=coco"
    ).load()
    images = [torch.rand(3, 40, 50), torch.rand(3, 31, 33)]
    with torch.inference_mode():
        for one, image in zip(model.network(images, [(40, 50), (31, 33)]), images, strict=True):
            expected = FixedBoxes()([image])[0]
            assert all(one[name].equal(expected[name]) for name in ("boxes", "labels", "scores"))
    moved = model.network.eval().to("meta")  # the only other device that every machine has
    assert moved([image.to("meta") for image in images], [(40, 50)] * 2)[1]["boxes"].is_meta


def test_inspect_tells_sizes(names: str, tmp_path: Path) -> None:
    details = find_pt2(
        save(Classifier(), "pt2", tmp_path, torch.rand(2, 3, 224, 224), {0: "batch"}), names
    ).details()
    assert details["input"] == "any x 3 x 224 x 224" and details["outputs"].endswith(": any x 5)")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trust_code=false", "torch.export archive: parts of it may be pickles.*trust_code=true"),
        ("categories=null", "has 5 outputs and no class names: say categories=imagenet"),
        ("categories=imagenet", "has 5 outputs, but categories=imagenet has 1000 names"),
        (
            "preprocess=Inception_V3_Weights.IMAGENET1K_V1",
            "takes 224 x 224 pixels .* makes 299 x 299",
        ),
        (
            "task=detect preprocess=DEFAULT",
            "gives mul any x 5; task=detect expects boxes, labels, scores.*task=classify or "
            "segment",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_the_run(
    override: str, message: str, names: str, tmp_path: Path
) -> None:
    file = save(Classifier(), "pt2", tmp_path, torch.rand(2, 3, 224, 224), {0: "batch"})
    with pytest.raises(ConfigError, match=message):
        find_pt2(file, names, *override.split()).describe()


@pytest.mark.parametrize("content", ["bytes", "another zip", "a damaged archive"])
def test_a_file_that_is_no_archive_is_refused(content: str, names: str, tmp_path: Path) -> None:
    file = tmp_path / "own.pt2"
    if content == "bytes":
        file.write_bytes(b"not an archive")
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(
                "own/models/model.json" if content == "a damaged archive" else "readme", "{}"
            )
    with pytest.raises(
        ConfigError, match=r"not an archive with an exported program|cannot be opened by torch"
    ):
        find_pt2(file, names).describe()
