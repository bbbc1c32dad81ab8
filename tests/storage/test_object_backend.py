"""The commit protocol where there are no renames, on fsspec's store in memory.

Runs in buckets of an S3 server, with kills and faults, are in test_run_in_buckets.py.
"""

import json
import time

import fsspec
import pytest

from pipeline.core.errors import ConfigError, PipelineError, RunLocked
from pipeline.core.locations import Uri
from pipeline.runs.run_folder import RunFolder, update_latest
from pipeline.storage.object_publish import resolve_latest
from pipeline.storage.publish import publish_file, publish_folder
from tests.runs.test_run_folder import COMMITTED, stage_files

FS = fsspec.filesystem("memory")


@pytest.fixture
def root():
    """A new address, and nothing is left there."""
    name = f"objects-{time.monotonic_ns()}"
    yield Uri(f"memory://{name}")
    if FS.exists(f"/{name}"):
        FS.rm(f"/{name}", recursive=True)


@pytest.fixture
def folder(root):
    found = RunFolder(root / "run")
    with found.lock():
        yield found


def visible(folder):
    below = f"/{folder.path.text.partition('://')[2]}/"
    return sorted(name.removeprefix(below) for name in FS.find(below) if "/.lease" not in name)


def test_an_absent_run_has_nothing(root):
    folder = RunFolder(root / "absent")
    assert not folder.exists() and not folder.has_begun() and folder.committed_shards() == set()
    assert not folder.local("run.json").exists() and not folder.store.contains("overlays")


def test_a_commit_publishes_the_files_and_a_marker_that_is_put_last(folder, monkeypatch):
    put, order = folder.store.remote.put, []
    monkeypatch.setattr(
        folder.store.remote,
        "put",
        lambda file, path: (order.append(path.rpartition("/")[2]), put(file, path)),
    )
    stage = stage_files(folder)
    assert visible(folder) == []
    folder.commit(0, 3, stage)
    assert (
        visible(folder) == COMMITTED
        and folder.committed_shards() == {0}
        and order[-1] == "00000000.json"
    )
    assert folder.store.contains("overlays") and folder.has_begun()
    folder.check_parts()


def test_what_was_published_is_read_back_by_another(folder):
    folder.commit(0, 3, stage_files(folder))
    folder.publish_json("run.json", {"name": "é"})
    other = RunFolder(folder.path)
    assert json.loads(other.local("run.json").read_text(encoding="utf-8")) == {"name": "é"}
    assert other.read_marker(0) == folder.read_marker(0)
    part = "images/part-00000000.parquet"
    assert other.local(part).read_bytes() == FS.cat_file(
        f"/{str(folder.path).partition('://')[2]}/{part}"
    )
    assert [path.is_file() for path in other.store.fetch_all([part, "absent"])] == [True, False]
    assert other.store.find_existing([part, "overlays/sub/0.jpg", "overlays/sub", "x"]) == {
        part,
        "overlays/sub/0.jpg",
    }


def test_pictures_are_not_kept_here(folder):
    folder.commit(0, 3, stage_files(folder))
    kept = sorted(path.name for path in folder.store.mirror.rglob("*") if path.is_file())
    assert kept == ["00000000.json", "part-00000000.parquet", "part-00000000.parquet"]


def test_a_shard_that_is_committed_anew_has_no_marker_meanwhile(folder, monkeypatch):
    folder.commit(0, 3, stage_files(folder))
    stage = stage_files(folder)
    monkeypatch.setattr(
        folder.store.remote, "put", lambda file, path: (_ for _ in ()).throw(OSError("down"))
    )
    with pytest.raises(PipelineError, match=r"down\. Committed shards are kept"):
        folder.commit(0, 3, stage)
    assert folder.committed_shards() == set()


def test_leftovers_are_the_unmarked_parts_and_nothing_else(root):
    folder = RunFolder(root / "run")
    with folder.lock():
        folder.commit(3, 3, stage_files(folder, 3))
    below = f"/{str(folder.path).partition('://')[2]}"
    kept = [
        "images/notes.txt",
        "plan/part-00000009.parquet",
        "run.json",
        "overlays/part-00000009.jpg",
    ]
    gone = ["images/part-00000009.parquet", "predictions/part-00000004.parquet"]
    for name in (*kept, *gone):
        FS.pipe_file(f"{below}/{name}", b"x")
    with folder.lock():
        assert set(kept) <= set(visible(folder)) and not set(gone) & set(visible(folder))
        assert "images/part-00000003.parquet" in visible(folder)


def test_a_second_writer_is_refused_and_removes_nothing(folder):
    stage = stage_files(folder)
    with (
        pytest.raises(RunLocked, match=r"memory://.*/run is being written by another run"),
        RunFolder(folder.path).lock(),
    ):
        pytest.fail("both hold it")
    assert len([path for path in stage.rglob("*") if path.is_file()]) == 3


def test_who_has_lost_the_lease_commits_nothing(folder):
    stage = stage_files(folder)
    FS.rm(f"/{str(folder.path).partition('://')[2]}/.lease-alone")
    with pytest.raises(RunLocked, match="lease was removed"):
        folder.commit(0, 3, stage)
    assert folder.committed_shards() == set()


def test_a_log_is_there_when_the_run_is_over_and_goes_on(root):
    for i in range(2):
        folder = RunFolder(root / "run")
        with folder.lock():
            folder.append_line("timing.jsonl", {"shard": i})
    reader = RunFolder(root / "run")
    lines = reader.local("timing.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"shard": 0}, {"shard": 1}]


def test_latest_names_the_run_of_the_last_call(root):
    assert resolve_latest(root / "latest") == root / "latest"
    for name in ("first", "second"):
        update_latest(root / name)
    assert (
        resolve_latest(root / "latest") == root / "second"
        and resolve_latest(root / "first") == root / "first"
    )


def test_a_folder_takes_the_place_of_what_was_there_only_if_it_may(root):
    def contents():
        return {
            one.rpartition("/")[2]: FS.cat_file(one)
            for one in FS.find(f"/{root.text.partition('://')[2]}/out")
            if not one.endswith("/.visionbatch")
        }

    for names in (("a.txt", "b.txt"), ("b.txt", "c.txt")):
        with publish_folder(root / "out", replace=True) as stage:
            for name in names:
                (stage / "sub").mkdir(exist_ok=True)
                (stage / "sub" / name).write_text(f"{names}")
    assert contents() == dict.fromkeys(("b.txt", "c.txt"), b"('b.txt', 'c.txt')")
    with (
        pytest.raises(ConfigError, match="there is something already"),
        publish_folder(root / "out", replace=False),
    ):
        pytest.fail("begun")
    with pytest.raises(KeyError), publish_folder(root / "out", replace=True) as stage:
        (stage / "d.txt").write_text("half")
        raise KeyError
    assert set(contents()) == {"b.txt", "c.txt"}


def test_a_file_too(root):
    with publish_file(root / "report.html", replace=True) as stage:
        stage.write_text("page")
    assert FS.cat_file(f"/{root.text.partition('://')[2]}/report.html") == b"page"
    with (
        pytest.raises(ConfigError, match="there is something already"),
        publish_file(root / "report.html", replace=False),
    ):
        pytest.fail("begun")
