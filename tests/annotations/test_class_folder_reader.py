"""A folder for each class."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from tests.training.datasets.test_files import opened
from tests.training.made_sets import Scene, images, paint, write_classes


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, dog=3, cat=2)
    (tmp_path / "README.txt").write_text("not a picture")
    paint(Scene("x.png"), tmp_path / ".ipynb_checkpoints")
    data = opened(tmp_path, "classify", validation=0.4)
    assert data.categories == ("cat", "dog")
    labels = {
        part.name(i): part.example(i, 0).target["label"]
        for part in (data.training, data.validation)
        for i in range(len(part))
    }
    assert {name: int(label) for name, label in labels.items()} == {
        "cat/0.png": 0, "cat/sub/1.png": 0, "dog/0.png": 1, "dog/1.png": 1, "dog/sub/2.png": 1,
    }  # fmt: skip
    assert all(label.shape == () for label in labels.values())


def test_every_class_is_in_both_parts(tmp_path: Path) -> None:
    data = opened(write_classes(tmp_path, cat=20, dog=3, newt=2), "classify", validation=0.2)
    counts = [
        [sum(int(one.labels[0]) == k for one in images(part)) for k in range(3)]
        for part in (data.training, data.validation)
    ]
    assert counts == [[16, 2, 1], [4, 1, 1]]


def test_the_only_image_of_a_class_is_learnt_from(tmp_path: Path) -> None:
    data = opened(write_classes(tmp_path, cat=4, dog=1), "classify", validation=0.5)
    assert [one.name for one in images(data.validation) if one.labels[0] == 1] == []


@pytest.mark.parametrize("own", ["val", "valid", "validation", "test"])
def test_parts_of_its_own(own: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    write_classes(tmp_path / "train", cat=2, dog=2)
    write_classes(tmp_path / own, dog=1)
    data = opened(tmp_path, "classify")
    assert (len(data.training), [one.name for one in images(data.validation)]) == (
        4,
        [f"{own}/dog/sub/0.png"],
    )
    assert (
        data.validation.example(0, 0).target["label"] == 1
        and "of its own, which is used" in caplog.text
    )


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    for name in ("train", "test"):
        paint(Scene("0.png"), tmp_path / name)
        paint(Scene("1.png"), tmp_path / name)
    assert opened(tmp_path, "classify", validation=0.5).categories == ("test", "train")


def test_a_class_that_only_validation_has(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", cat=2, dog=2)
    write_classes(tmp_path / "val", cat=1, newt=1)
    with pytest.raises(ConfigError, match="val/newt: train/ has no such class"):
        opened(tmp_path, "classify")
    with pytest.raises(
        ConfigError, match=r"(?s)train.validation=.*newt/sub/0.png: the class 'newt' is none"
    ):
        opened(tmp_path / "train", "classify", validation=str(tmp_path / "val"))


def test_only_some_classes_are_learnt(tmp_path: Path) -> None:
    data = opened(
        write_classes(tmp_path, cat=4, dog=4, newt=2),
        "classify",
        validation=0.5,
        classes=["cat", "newt"],
    )
    assert data.categories == ("cat", "newt") and (len(data.training), len(data.validation)) == (
        3,
        3,
    )


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, cat=3, dog=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    paint(Scene("loose.png"), tmp_path)
    expected = (
        r"(?s)3 problems.*loose.png: it is in no class's folder.*"
        r"empty: the class has no images.*cat/0.png: .*zero bytes"
    )
    with pytest.raises(ConfigError, match=expected):
        opened(tmp_path, "classify")


def test_no_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has no folders"):
        opened(tmp_path, "classify")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_folders_have_no_objects(task: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"for task={task} expected"):
        opened(write_classes(tmp_path, cat=2), task)


def test_the_identity_knows_the_files(tmp_path: Path) -> None:
    first = dict(opened(write_classes(tmp_path, cat=3, dog=2), "classify").identity)
    assert dict(opened(tmp_path, "classify").identity) == first
    (tmp_path / "cat" / "1.png").rename(tmp_path / "dog" / "9.png")
    assert dict(opened(tmp_path, "classify").identity) != first
