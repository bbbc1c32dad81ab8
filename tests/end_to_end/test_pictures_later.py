"""Pictures that are requested later are drawn from the committed rows, without the model.

They equal the pictures of the run itself.
"""

import json
from pathlib import Path

import pytest

from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from pipeline.runs.run_folder import RunFolder
from tests.helpers.runs import settings_for
from tests.helpers.videos import make_video, steady

pytestmark = pytest.mark.long

PICTURES = ("overlays", "contact_sheets", "label_maps")
TASKS = {
    "detect": ("model=codes",),
    "classify": ("model=squeezenet1_1", "weights=random"),
    "embed": ("model=squeezenet1_1", "weights=random"),
    "segment": ("model=lraspp_mobilenet_v3_large", "weights=random", "sink=[parquet,{}label_maps]"),
    "instances": ("model=maskrcnn_resnet50_fpn", "weights=random", "sink=[parquet,{}label_maps]"),
    "keypoints": ("model=keypointrcnn_resnet50_fpn", "weights=random"),
    "video": ("model=r3d_18", "weights=random", "source.length=4", "source.fps=5"),
}


def read_pictures(folder: Path) -> dict[str, bytes]:
    files = (file for name in PICTURES for file in (folder / name).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def refuse_to_load(*arguments: object) -> None:
    pytest.fail("the model was loaded")


@pytest.mark.parametrize("task", TASKS)
def test_they_equal_those_that_the_run_draws(
    task: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = photos
    if task == "video":
        source = tmp_path / "clips"
        source.mkdir()
        make_video(source / "a.mp4", steady(12))
    extra = [word for word in TASKS[task] if not word.startswith("sink=")]
    maps = ",label_maps" if len(extra) < len(TASKS[task]) else ""
    common = (
        *(f"task={task}", f"input={source}", "limit=3", "shard_size=2", "log_level=error"),
        *(["min_score=0.0", "max_detections=5"] if task in ("instances", "keypoints") else []),
        *extra,
    )
    all_sinks = f"sink=[parquet,overlays,contact_sheets{maps}]"
    at_once = run(settings_for(*common, all_sinks, f"output={tmp_path / 'a'}")).run
    later = (*common, f"output={tmp_path / 'b'}")
    plain = run(settings_for(*later, "sink=[parquet]")).run
    assert at_once.name == plain.name and read_pictures(plain) == {}

    monkeypatch.setattr("pipeline.runs.session.load_predictor", refuse_to_load)
    said = run(settings_for(*later, all_sinks))
    assert said.run == plain and "were drawn from the committed rows" in said.text
    assert read_pictures(plain) == read_pictures(at_once) != {}
    assert "all as committed" in verify_run(plain)
    for marker in sorted((plain / "_committed").iterdir()):
        assert marker.read_bytes() == (at_once / "_committed" / marker.name).read_bytes()
    assert "drawn" not in run(settings_for(*later, all_sinks)).text


def common(photos: Path, tmp_path: Path) -> tuple[str, ...]:
    settings = ("model=codes", "shard_size=4", "log_level=error")
    return (*settings, f"input={photos}", f"output={tmp_path / 'out'}")


def test_a_larger_number_adds_pictures_and_leaves_those_that_exist(
    photos: Path, tmp_path: Path
) -> None:
    settings = common(photos, tmp_path)
    folder = run(settings_for(*settings, "overlays=5")).run
    first = {file: file.stat().st_mtime_ns for file in (folder / "overlays").iterdir()}
    assert len(first) == 5

    again = run(settings_for(*settings, "overlays=7")).run
    now = {file: file.stat().st_mtime_ns for file in (folder / "overlays").iterdir()}
    assert again == folder and len(now) == 7 and first.items() <= now.items()

    run(settings_for(*settings, "overlays=2"))
    run(settings_for(*settings, "overlays=false"))
    assert {file: file.stat().st_mtime_ns for file in (folder / "overlays").iterdir()} == now


def test_turned_off_while_shards_are_missing_new_shards_get_none(
    photos: Path, tmp_path: Path
) -> None:
    settings = common(photos, tmp_path)
    folder = run(settings_for(*settings)).run
    every = read_pictures(folder)
    (folder / "_committed" / "00000001.json").unlink()
    for name in sorted(every)[4:8]:
        (folder / name).unlink()
    run(settings_for(*settings, "overlays=false"))
    markers = [RunFolder(folder).read_marker(i) for i in (0, 1)]
    assert [marker["pictures"] for marker in markers] == [{"overlays": 4}, {}]
    assert [marker["other_files"] for marker in markers] == [4, 0]

    run(settings_for(*settings))
    assert read_pictures(folder).keys() == every.keys()


@pytest.mark.parametrize("step", ["before the pictures", "between pictures and marker"])
def test_an_interrupted_drawing_is_completed_by_the_next_call(
    step: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = common(photos, tmp_path)
    expected = read_pictures(run(settings_for(*settings, f"output={tmp_path / 'a'}")).run)
    folder = run(settings_for(*settings, "overlays=false")).run
    calls = {"before the pictures": "create_stage", "between pictures and marker": "publish_json"}
    original, n_calls = getattr(RunFolder, calls[step]), []

    def fail_at_the_second(self: RunFolder, *arguments: object) -> object:
        n_calls.append(arguments)
        if len(n_calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, calls[step], fail_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(settings_for(*settings))
    assert "all as committed" in verify_run(folder)

    run(settings_for(*settings))
    assert read_pictures(folder) == expected
    markers = [json.loads(file.read_text()) for file in (folder / "_committed").iterdir()]
    assert all(marker["pictures"] == {"overlays": marker["images"]} for marker in markers)
    assert sum(marker["other_files"] for marker in markers) == len(expected)


def test_an_image_that_is_gone_is_said_and_the_rest_is_drawn(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = (*common(photos, tmp_path)[:2], "log_level=warning", *common(photos, tmp_path)[3:])
    folder = run(settings_for(*settings, "overlays=false")).run
    gone = sorted(photos.iterdir())[0]
    gone.unlink()
    run(settings_for(*settings, "changed=trust"))
    assert f"no overlay for {gone.name}" in caplog.text
    assert len(read_pictures(folder)) == len(list(photos.iterdir()))
