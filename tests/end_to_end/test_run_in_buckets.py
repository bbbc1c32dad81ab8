"""Runs whose images and results are in a bucket of a real S3 server (moto, as a process)."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from pipeline.core.errors import PipelineError, RunLocked
from pipeline.core.locations import Uri
from pipeline.inputs.sources.folder import Folder
from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage import object_client as remote
from tests.helpers.paths import SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.long

OURS = ("model=codes", "shard_size=4", "log_level=error")
NO_RESULTS = ("timing.jsonl", "report.html", "run.json")  # timings, and where things are


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten images, of which two show codes: three shards."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "desk").mkdir()
    for name in ("coins.png", "desk/page.jpg", "desk/cat.jpg"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    for i in range(7):
        picture(96, 64, seed=i).save(folder / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def samples(s3_server, images):
    s3_server.rules()
    # pytest-xdist may set this up twice in one process. The objects must stay the same then.
    if not s3_server.contents(s3_server.bucket("samples")):
        s3_server.upload("samples", "in", images)
    return "s3://samples/in"


@pytest.fixture
def bucket(s3):
    """A new one for results."""
    return s3.bucket(f"out-{time.monotonic_ns()}")


@pytest.fixture(scope="module")
def undisturbed(samples, s3_server):
    """Return (name of the run folder, its files) of an undisturbed run in a bucket."""
    s3_server.bucket("undisturbed")
    ended = run(settings_for(f"input={samples}", "output=s3://undisturbed/runs", *OURS))
    return ended.run.name, results(s3_server, "undisturbed")


def results(s3, bucket):
    """What a run leaves, but for what is no result."""
    return {
        name: data
        for name, data in s3.contents(bucket, "runs/").items()
        if name.rpartition("/")[2] not in NO_RESULTS
    }


@pytest.mark.long
def test_rows_and_pictures_are_those_of_files(undisturbed, images, annotate):
    name, found = undisturbed
    local = annotate(f"input={images}", *OURS)
    parts = sorted(
        path
        for path in local.rglob("*")
        if path.is_file() and path.parts[-2] in ("images", "predictions")
    )
    assert len(parts) == 6
    for path in parts:
        assert found[f"{name}/{path.relative_to(local)}"] == path.read_bytes()
    overlays = {
        str(path.relative_to(local)): path.read_bytes()
        for path in (local / "overlays").rglob("*.*")
    }
    assert {
        one.removeprefix(f"{name}/"): data for one, data in found.items() if "/overlays/" in one
    } == overlays
    assert found["latest"].decode() == name
    assert not [one for one in found if "/.lease" in one or "/.tmp" in one]


def test_the_same_command_again_has_nothing_to_do_and_writes_nothing(undisturbed, samples, s3):
    ended = run(settings_for(f"input={samples}", "output=s3://undisturbed/runs", *OURS))
    assert "nothing was left to do" in ended.text
    assert results(s3, "undisturbed") == undisturbed[1]


@pytest.mark.long
def test_results_in_a_bucket_of_files_and_files_of_a_bucket(
    undisturbed, samples, images, bucket, s3, annotate
):
    ended = run(settings_for(f"input={images}", f"output=s3://{bucket}/others", *OURS))
    s3.rules()
    local = annotate(f"input={samples}", *OURS)
    asked = [path for path, _ in s3.requests("GET", r"^/samples/in/.*\.(jpg|png)")]
    assert len(asked) == len(set(asked)) == 10, (
        "each is fetched once, though it is decoded again for its overlay"
    )
    for kind in ("images", "predictions"):
        name = f"{kind}/part-00000001.parquet"
        expected = undisturbed[1][f"{undisturbed[0]}/{name}"]
        assert (local / name).read_bytes() == expected
        assert s3.contents(bucket, f"others/{ended.run.name}/")[name] == expected


def test_credentials_are_written_nowhere(undisturbed, s3):
    for name, data in s3.contents("undisturbed").items():
        assert b"SECRET" not in data and b"testing" not in data, name


@pytest.mark.long
def test_an_object_that_the_server_cannot_give_is_one_row(samples, annotate, s3, monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_S", 0.01)
    s3.rules(
        {"method": "GET", "match": "/in/coins.png", "status": 500},
        {"method": "GET", "match": "/in/3.jpg", "status": 503, "times": 3},
        {"method": "GET", "match": "/in/desk/", "status": 500, "times": 2},
    )
    images = read(annotate(f"input={samples}", *OURS), "images").to_pylist()
    bad = {row["key"]: row for row in images if row["status"] != "ok"}
    assert list(bad) == ["coins.png"] and len(images) == 10
    assert (
        bad["coins.png"]["status"] == "unreadable"
        and "HTTP status 500" in bad["coins.png"]["error"]
    )


def test_a_hanging_object_is_a_timeout_and_the_process_lives(samples, annotate, s3):
    s3.rules({"method": "GET", "match": "/in/coins.png", "seconds": 6})
    images = read(annotate(f"input={samples}", "timeout=3", *OURS), "images").to_pylist()
    assert [(row["key"], row["status"]) for row in images if row["status"] != "ok"] == [
        ("coins.png", "timeout")
    ]


@pytest.mark.long
def test_a_store_that_goes_down_ends_the_run_and_is_no_images_fault(
    samples, tmp_path, s3, monkeypatch
):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_S", 0.01)
    folder = Folder(samples)
    keys = [entry.key for entry in folder.entries()]
    folder.close()
    s3.rules({"match": "/samples/in/", "status": 503})
    ours = [f"input={samples}", f"output={tmp_path}", *OURS]
    with pytest.raises(PipelineError, match=r"s3://samples/in: .*503.*Nothing can be read there"):
        run(settings_for(*ours))
    s3.rules()
    ended = run(settings_for(*ours))
    images = read(ended.run, "images").to_pylist()
    assert [row["key"] for row in images] == keys and {row["status"] for row in images} == {"ok"}


def test_slow_answers_overlap(s3, tmp_path):
    """64 objects of which each takes a fifth of a second: one by one they would take 13 seconds."""
    s3.bucket("slow")
    for i in range(64):
        picture(64, 48, seed=i).save(tmp_path / "one.jpg")
        s3.put("slow", f"{i:03d}.jpg", (tmp_path / "one.jpg").read_bytes())
    s3.rules({"method": "GET", "match": "/slow/0", "seconds": 0.2})
    with closing(Folder("s3://slow")) as source:
        entries = list(source.entries())
        source.prefetch(entries, 100)
        assert {source.read_size_hw(entry, 10**6) for entry in entries} == {(48, 64)}
    times = [at for _, at in s3.requests("GET", r"^/slow/0")]
    assert len(times) == 64 and max(times) - min(times) < 64 * 0.2 / 3


# --- one writer, kills


@pytest.mark.long
def test_a_second_run_on_the_same_address_is_refused(samples, bucket):
    settings = settings_for(f"input={samples}", f"output=s3://{bucket}/runs", *OURS)
    from pipeline.runs.run_folder import RunFolder

    name = run(
        settings_for(f"input={samples}", f"output=s3://{bucket}/runs", "dry_run=true", *OURS)
    ).text.split()[-1]
    with (
        RunFolder(Uri(name)).lock(),
        pytest.raises(RunLocked, match=rf"{name} is being written by another run"),
    ):
        run(settings)


PROGRAM = """
import os, sys
from pipeline.storage import object_client as remote
from pipeline.run import run
from tests.helpers.runs import settings_for
at, done, ask = int(sys.argv[1]), 0, remote.ObjectClient.call
def dying(self, name, *arguments, **options):
    global done
    if name in ("put_file", "pipe_file", "rm_file"):
        done += 1
        if done == at:
            os._exit(9)
    return ask(self, name, *arguments, **options)
remote.ObjectClient.call = dying
run(settings_for(*sys.argv[2:]))
"""


def in_a_process(at, *settings):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(at), *settings], check=False
    ).returncode


def check_visible(s3, bucket):
    """Nothing that a reader trusts is torn: each marker's parts are there, as it says."""
    from hashlib import sha256

    found = s3.contents(bucket, "runs/")
    for name, data in found.items():
        if "/_committed/" in name:
            root = name.partition("/")[0]
            for part, said in json.loads(data)["parts"].items():
                assert sha256(found[f"{root}/{part}"]).hexdigest() == said["sha256"]


@pytest.mark.long
def test_a_run_that_dies_at_a_write_is_resumed_to_the_same_bytes(undisturbed, samples, s3, at=12):
    bucket = s3.bucket(f"dies-{at}-{time.monotonic_ns()}")
    ours = (f"input={samples}", f"output=s3://{bucket}/runs", *OURS)
    assert in_a_process(at, *ours) == 9
    check_visible(s3, bucket)
    ended = run(settings_for(*ours))
    assert results(s3, bucket) == undisturbed[1]
    assert "all as committed" in verify_run(ended.run)


@pytest.mark.faults
def test_at_many_writes(undisturbed, samples, s3):
    """Kill at every seventeenth operation, because each kill needs two processes with PyTorch.

    The test with a disk kills at each operation.
    """
    at, code = 1, 9
    while code == 9:
        bucket = s3.bucket(f"every-{at}")
        ours = (f"input={samples}", f"output=s3://{bucket}/runs", *OURS)
        code = in_a_process(at, *ours)
        check_visible(s3, bucket)
        in_a_process(at + 1, *ours)
        check_visible(s3, bucket)
        run(settings_for(*ours))
        assert results(s3, bucket) == undisturbed[1], at
        at += 17
    assert code == 0 and at > 20


@pytest.mark.faults
def test_a_run_that_is_killed_at_its_work_is_resumed_to_the_same_bytes(undisturbed, samples, s3):
    bucket = s3.bucket(f"killed-{time.monotonic_ns()}")
    ours = (f"input={samples}", f"output=s3://{bucket}/runs", *OURS)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "0", *ours]) as process:
        for _ in range(600):
            if s3.s3.list_objects_v2(
                Bucket=bucket, Prefix=f"runs/{undisturbed[0]}/_committed/"
            ).get("KeyCount"):
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    check_visible(s3, bucket)
    run(settings_for(*ours))
    assert results(s3, bucket) == undisturbed[1]


@pytest.mark.long
def test_a_store_that_cannot_take_a_part_fails_the_run_and_leaves_no_marker(
    samples, bucket, s3, monkeypatch
):
    monkeypatch.setattr(remote, "_FIRST_PAUSE_S", 0.01)
    settings = settings_for(f"input={samples}", f"output=s3://{bucket}/runs", *OURS)
    s3.rules({"method": "PUT", "match": "/predictions/part-00000001", "status": 500})
    with pytest.raises(PipelineError, match=r"HTTP status 500.*Committed shards are kept"):
        run(settings)
    assert [name.rpartition("/")[2] for name in s3.contents(bucket) if "_committed" in name] == [
        "00000000.json"
    ]
    s3.rules()
    assert "10 images" in run(settings).text


# --- who reads a run


def test_a_run_in_a_bucket_is_read_like_one_on_a_disk(undisturbed):
    finished = FinishedRun.open(Uri("s3://undisturbed/runs/latest"))
    assert finished.path == Uri(f"s3://undisturbed/runs/{undisturbed[0]}")
    markers = [
        json.loads(data)["parts"] for name, data in undisturbed[1].items() if "/_committed/" in name
    ]
    rows = sum(
        part["rows"]
        for parts in markers
        for name, part in parts.items()
        if name.startswith("predictions/")
    )
    assert (finished.count_rows("images"), finished.count_rows("predictions"), finished.task) == (
        10,
        rows,
        "detect",
    ) and rows > 0
    assert str(finished.input) == "s3://samples/in"


def test_a_part_that_is_gone_is_named(undisturbed, samples, bucket, s3):
    for name, data in undisturbed[1].items():
        if not name.endswith("images/part-00000001.parquet"):
            s3.put(bucket, f"runs/{name}", data)
    with pytest.raises(
        PipelineError,
        match=rf"s3://{bucket}/runs/.*/images/part-00000001.parquet is missing or damaged",
    ):
        run(settings_for(f"input={samples}", f"output=s3://{bucket}/runs", *OURS))


@pytest.mark.parametrize("output", ["https://host/runs", "s3://nobucket-there/runs"])
def test_a_place_that_cannot_be_written_to_is_refused_before_a_model_is_loaded(
    output, samples, refuse_early
):
    refuse_early(
        [f"input={samples}", "model=codes", f"output={output}"],
        "Make the bucket first|are written to and read from stores",
    )


@pytest.mark.long
def test_no_copy_is_left_when_a_run_is_over(undisturbed, tmp_path, monkeypatch):
    import gc
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    finished = FinishedRun.open(Uri("s3://undisturbed/runs/latest"))
    finished.count_rows("images")
    assert list(tmp_path.iterdir())
    del finished
    gc.collect()
    assert list(tmp_path.iterdir()) == []
