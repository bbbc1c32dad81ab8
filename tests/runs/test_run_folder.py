import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import ConfigError, PipelineError, RunLocked
from pipeline.core.shard_names import make_part_name
from pipeline.runs.run_folder import RunFolder, update_latest
from pipeline.storage.publish import publish_file, publish_folder


def stage_files(folder, shard_id=0, images=3, predictions=2):
    """Create a stage with two parts and an overlay, as the sinks write it."""
    stage = folder.create_stage(shard_id)
    for kind, rows in (("images", images), ("predictions", predictions)):
        path = stage / kind / make_part_name(shard_id)
        path.parent.mkdir()
        pq.write_table(pa.table({"image_id": pa.array(range(rows), pa.int64())}), path)
    overlay = stage / "overlays" / "sub" / f"{shard_id}.jpg"
    overlay.parent.mkdir(parents=True)
    overlay.write_bytes(b"a picture")
    return stage


def list_visible(folder):
    """Return every file of the run that a reader sees."""
    found = (path.relative_to(folder.path) for path in folder.path.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] not in (".tmp", ".lock"))


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(tmp_path / "run")
    with found.lock():
        yield found


COMMITTED = [
    "_committed/00000000.json",
    "images/part-00000000.parquet",
    "overlays/sub/0.jpg",
    "predictions/part-00000000.parquet",
]


def test_an_absent_folder_has_nothing_committed(tmp_path):
    assert RunFolder(tmp_path / "absent").committed_shards() == set()


def test_a_stage_is_new_and_empty_and_not_visible(folder):
    (folder.create_stage(3) / "left.txt").write_text("from an earlier try")
    assert list(folder.create_stage(3).iterdir()) == []
    assert list_visible(folder) == []


def test_a_commit_publishes_the_files_and_a_marker(folder):
    folder.commit(0, 3, stage_files(folder))
    assert list_visible(folder) == COMMITTED
    assert folder.committed_shards() == {0}
    assert not any(path.is_file() for path in folder.staging.rglob("*"))


def test_the_marker_tells_rows_bytes_and_sha256_of_every_part(folder):
    folder.commit(0, 3, stage_files(folder))
    marker = json.loads((folder.path / "_committed" / "00000000.json").read_text())
    assert (marker["shard"], marker["images"], marker["other_files"]) == (0, 3, 1)
    assert set(marker["parts"]) == {
        "images/part-00000000.parquet",
        "predictions/part-00000000.parquet",
    }
    for name, rows in (("images", 3), ("predictions", 2)):
        data = (folder.path / name / "part-00000000.parquet").read_bytes()
        expected = {"rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert marker["parts"][f"{name}/part-00000000.parquet"] == expected


def test_the_marker_comes_last(folder, monkeypatch):
    published = []
    replace = Path.replace
    monkeypatch.setattr(
        Path,
        "replace",
        lambda self, target: (published.append(Path(target).name), replace(self, target))[1],
    )
    folder.commit(0, 3, stage_files(folder))
    assert published[-1] == "00000000.json"
    assert set(published[:-1]) == {"part-00000000.parquet", "0.jpg"}


def test_shards_are_committed_side_by_side(folder):
    for shard_id in (0, 7, 12345):
        folder.commit(shard_id, 3, stage_files(folder, shard_id))
    assert folder.committed_shards() == {0, 7, 12345}
    assert len(list_visible(folder)) == 12


def test_a_shard_can_be_committed_without_parquet(folder):
    stage = folder.create_stage(0)
    (stage / "notes.txt").write_text("a sink of another kind")
    folder.commit(0, 3, stage)
    assert list_visible(folder) == ["_committed/00000000.json", "notes.txt"]


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_a_wrong_number_of_rows_commits_nothing(folder, rows):
    with pytest.raises(
        PipelineError, match=f"shard 0 has {rows} image rows for 3 inputs; nothing was committed"
    ):
        folder.commit(0, 3, stage_files(folder, images=rows))
    assert list_visible(folder) == [] and folder.committed_shards() == set()


@pytest.mark.parametrize("keep", [0, 4, 100, -4])
def test_a_part_that_cannot_be_read_commits_nothing(folder, keep):
    stage = stage_files(folder)
    part = stage / "predictions" / "part-00000000.parquet"
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(pa.ArrowInvalid):
        folder.commit(0, 3, stage)
    assert list_visible(folder) == []


def failing(monkeypatch, name, at):
    """Make the n-th call of `os.<name>` fail like a broken disk. Returns the calls so far."""
    calls, real = [], getattr(os, name)

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, call)
    return calls


def test_a_disk_that_fails_to_flush_leaves_no_marker(tmp_path, monkeypatch):
    """Fail at each flush of a commit in turn.

    The folder of the marker is flushed last, after everything else.
    """
    at, outcomes = 0, []
    while not outcomes or outcomes[-1] != "committed":
        at += 1
        folder = RunFolder(tmp_path / f"run{at}")
        with folder.lock(), monkeypatch.context() as patch:
            stage = stage_files(folder)
            calls = failing(patch, "fsync", at)
            try:
                folder.commit(0, 3, stage)
            except OSError:
                assert len(calls) == at, "a failed flush is not tried again"
                outcomes.append("marker" if folder.committed_shards() else "no marker")
            else:
                outcomes.append("committed")
        if folder.committed_shards():
            assert list_visible(folder) == COMMITTED
    without = outcomes.count("no marker")
    assert without >= 4  # three files and the marker, at least
    assert outcomes == ["no marker"] * without + ["marker"] * (len(outcomes) - without - 1) + [
        "committed"
    ]
    assert at < 20


def test_what_an_interrupted_commit_left_is_gone_at_the_next_start(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        folder.commit(0, 3, stage_files(folder, 0))
        stage = stage_files(folder, 1)
        with monkeypatch.context() as patch:
            patch.setattr(
                folder,
                "publish_json",
                lambda *_: (_ for _ in ()).throw(OSError("killed before the marker")),
            )
            with pytest.raises(OSError, match="killed"):
                folder.commit(1, 3, stage)
    assert "images/part-00000001.parquet" in list_visible(folder)
    with folder.lock():
        parts = [name for name in list_visible(folder) if name.endswith(".parquet")]
        assert parts == ["images/part-00000000.parquet", "predictions/part-00000000.parquet"]
        assert not folder.staging.exists()


def test_leftovers_are_the_unmarked_parts_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        folder.commit(3, 3, stage_files(folder, 3))
    kept = [
        "images/notes.txt",
        "plan/part-00000009.parquet",
        "plan/plan.json",
        "run.json",
        "overlays/part-00000009.jpg",
    ]
    gone = [
        "images/part-00000009.parquet",
        "predictions/part-00000004.parquet",
        "images/part-123456.parquet",
        ".tmp/a/b",
    ]
    for name in (*kept, *gone):
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with folder.lock():
        pass
    assert all((folder.path / name).is_file() for name in kept)
    assert not any((folder.path / name).exists() for name in gone)
    assert (folder.path / "images" / "part-00000003.parquet").is_file()


# --- lock


def test_a_second_run_on_the_folder_is_refused_and_names_the_first(folder):
    with (
        pytest.raises(RunLocked, match=f"written by another run .*process {os.getpid()} on "),
        RunFolder(folder.path).lock(),
    ):
        pytest.fail("both hold the lock")


def test_a_lock_held_by_another_process_is_respected(tmp_path):
    program = "import fcntl, sys; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); "
    program += (
        "f.write('process 1 on mars'); f.flush(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunLocked, match=r"\(process 1 on mars\)") as caught,
            RunFolder(tmp_path).lock(),
        ):
            pytest.fail("both hold the lock")
        other.stdin.close()
        other.wait(10)
    assert caught.value.exit_code == 3
    with RunFolder(tmp_path).lock():
        assert "mars" not in (tmp_path / ".lock").read_text()


def test_a_refused_run_removes_nothing(folder):
    stage = stage_files(folder)
    with pytest.raises(RunLocked), RunFolder(folder.path).lock():
        pass
    assert len([path for path in stage.rglob("*") if path.is_file()]) == 3


def test_the_lock_is_free_again_after_a_failure(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="inside"), folder.lock():
        raise ValueError("inside")
    with folder.lock():
        assert (folder.path / ".lock").read_text().count("process") == 1


# --- other files


def test_a_json_file_is_published_whole_or_not_at_all(folder, monkeypatch):
    folder.publish_json("sub/settings.json", {"name": "é", "n": 1})
    path = folder.path / "sub" / "settings.json"
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é", "n": 1}
    failing(monkeypatch, "fsync", 1)
    with pytest.raises(OSError, match="Input/output error"):
        folder.publish_json("sub/settings.json", {"n": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é", "n": 1}


def test_a_staged_file_is_moved_to_its_place(folder):
    path = folder.staging / "plan" / "part-00000000.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    folder.publish_file("plan/part-00000000.parquet")
    assert (folder.path / "plan" / "part-00000000.parquet").read_bytes() == b"content"
    assert not path.exists()


def test_a_log_gets_line_after_line(folder):
    for i in range(3):
        folder.append_line("timing.jsonl", {"shard": i})
    lines = (folder.path / "timing.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"shard": i} for i in range(3)]


def test_latest_points_to_the_run_of_the_last_call(tmp_path):
    for name in ("first", "second", "second"):
        (tmp_path / name).mkdir(exist_ok=True)
        update_latest(tmp_path / name)
        assert (tmp_path / "latest").readlink() == Path(name)  # relative: the outputs can be moved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "latest", "second"]


@pytest.mark.parametrize("published", [publish_folder, publish_file])
def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_made(published, tmp_path):
    (tmp_path / "file").touch()
    for target, reason in (
        (tmp_path / "file" / "new", "Not a directory|File exists"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        said = f"output: cannot write to .*: ({reason}). Choose another output="
        with pytest.raises(ConfigError, match=said), published(target, replace=True):
            pytest.fail("it was begun")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
