"""Runs in object stores of three other projects: kills, several writers, odd names, long listings.

`make test-stores` installs the servers and runs these tests. Tests with faults on request, on moto,
are in tests/end_to_end/test_run_in_buckets.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from pipeline.core.errors import RunLocked
from pipeline.core.locations import Uri
from pipeline.inputs.sources.folder import Folder
from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from pipeline.storage import leases
from pipeline.storage.leases import Lease, hold_lease
from pipeline.storage.object_client import ObjectClient
from tests.contract.test_contract import parts_of
from tests.end_to_end.test_run_in_buckets import PROGRAM
from tests.engines.processes import wait_until
from tests.engines.store_servers import SERVERS, StoreServer
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import settings_for

pytestmark = pytest.mark.stores

COMMON = ("model=codes", "shard_size=2", "log_level=error", "overlays=false")
N_SHARDS = 3
NUMBERS = count()  # of buckets, whose names must differ
NAMES = [
    "plain.jpg",
    "with blank.jpg",
    " leading.jpg",
    "per%20cent.jpg",
    "100%.jpg",
    "plus+plus.jpg",
    "hash#tag.jpg",
    "what?.jpg",
    "a&b;c:d,e=f@g$h!.jpg",
    "quotes'\".jpg",
    "<img>.jpg",
    "star*[a-z]{b}|^~.jpg",
    "ne\u0301.jpg",
    "né.jpg",
    "日本\U0001f600.jpg",
    "UPPER.JPG",
    "upper.jpg",
    "long" * 50 + ".jpg",
    # Names whose order is another one for a store that lists folder by folder.
    "a/x.jpg",
    "a.jpg",
    "a-b/x.jpg",
    "a!/x.jpg",
    "a/b/x.jpg",
    "a/b.jpg",
    "star*/x.jpg",
    "with.suffix.jpg/x.jpg",
    "/".join(["deep"] * 20) + "/x.jpg",
]


@pytest.fixture(scope="module", params=SERVERS)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoreServer]:
    with SERVERS[request.param](tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six images, of which two show codes: three shards."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "desk").mkdir()
    for name in ("coins.png", "desk/page.jpg"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    for name in ("1.jpg", "desk#2/what?.jpg", "desk/é 3.jpg", "desk.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(96, 64, seed=len(name)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def expected(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the SHA-256 of the parts of a run on files."""
    output = tmp_path_factory.mktemp("expected")
    run(settings_for(*COMMON, f"input={images}", f"output={output}"))
    return parts_of((output / "latest").resolve())


@pytest.fixture(scope="module")
def samples(store: StoreServer, images: Path) -> str:
    address = f"{store.make_bucket(f'samples-{next(NUMBERS)}')}/in"
    store.upload(address, images)
    return address


@pytest.fixture
def bucket(store: StoreServer) -> str:
    return store.make_bucket(f"bucket-{next(NUMBERS)}")


@pytest.fixture
def words(samples: str, bucket: str) -> list[str]:
    """Return the settings of a run from the store to the store."""
    return [*COMMON, f"input={samples}", f"output={bucket}/runs"]


def start(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def call(*words: str) -> None:
    process = start(*words)
    said = process.communicate(timeout=240)
    assert process.returncode == 0 and "Traceback" not in said[1], (words, said)


def read_parts(store: StoreServer, output: str) -> dict[str, str]:
    """Return the SHA-256 of the parts of the only run below an address."""
    return {
        name.partition("/")[2]: sha256(data).hexdigest()
        for name, data in store.read_all(output).items()
        if "/part-" in name and "/plan/" not in name
    }


def check_run(store: StoreServer, output: str, expected: dict[str, str]) -> None:
    """Check that the run is complete and has the expected bytes, and that no lease is left."""
    assert read_parts(store, output) == expected
    found = store.read_all(output)
    assert not [name for name in found if ".lease" in name or ".tmp" in name]
    run_name = found["latest"].decode()
    assert f"{run_name}/report.html" in found
    assert "one row each" in verify_run(Uri(f"{output}/{run_name}"))


def check_markers(store: StoreServer, output: str) -> int:
    """Check that the parts of each marker are there as it says. Return the number of markers."""
    found = store.read_all(output)
    markers = [name for name in found if "/_committed/" in name]
    for name in markers:
        root = name.partition("/")[0]
        for part, facts in json.loads(found[name])["parts"].items():
            assert sha256(found[f"{root}/{part}"]).hexdigest() == facts["sha256"]
    return len(markers)


def test_a_run_has_the_bytes_of_one_on_files(
    store: StoreServer, words: list[str], bucket: str, expected: dict[str, str], tmp_path: Path
) -> None:
    run(settings_for(*words))
    check_run(store, f"{bucket}/runs", expected)
    assert "nothing was left to do" in run(settings_for(*words)).text
    for name, data in store.read_all(bucket).items():
        assert not any(secret.encode() in data for secret in store.secrets), name

    run(settings_for(*words[:-1], f"output={tmp_path}"))
    assert parts_of((tmp_path / "latest").resolve()) == expected


def test_verbs_read_and_write_runs_there(store: StoreServer, words: list[str], bucket: str) -> None:
    run(settings_for(*words))
    latest = f"{bucket}/runs/latest"
    call("verify", f"run={latest}")
    call("report", f"run={latest}")
    call("export", f"run={latest}", "to=jsonl", f"output={bucket}/exported")
    call("refilter", f"run={latest}", "min_score=0.9", f"output={bucket}/strict")
    names = store.read_all(f"{bucket}/strict")
    strict = {f"{bucket}/strict/{name.partition('/')[0]}" for name in names if "/" in name}.pop()
    call("compare", f"runs=[{latest},{strict}]", f"output={bucket}/compared")
    names = {name.partition("/")[0] for name in store.read_all(bucket)}
    assert names >= {"runs", "strict", "exported", "compared"}


@pytest.mark.parametrize("at", [3, 9])
def test_a_run_that_dies_at_a_write_is_resumed_to_the_same_bytes(
    at: int, store: StoreServer, words: list[str], bucket: str, expected: dict[str, str]
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(at), *words]
    assert subprocess.run(command, check=False, cwd=REPOSITORY).returncode == 9
    assert check_markers(store, f"{bucket}/runs") < N_SHARDS
    run(settings_for(*words))
    check_run(store, f"{bucket}/runs", expected)


def test_a_run_that_is_killed_is_resumed_to_the_same_bytes(
    store: StoreServer, words: list[str], bucket: str, expected: dict[str, str]
) -> None:
    process = start("run", *words)
    wait_until(lambda: check_markers(store, f"{bucket}/runs") or process.poll() is not None, 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # ends when the runner has ended too, which has the lease
    check_markers(store, f"{bucket}/runs")
    call("run", *words)
    check_run(store, f"{bucket}/runs", expected)


def test_two_writers_share_a_run(
    store: StoreServer, words: list[str], bucket: str, expected: dict[str, str]
) -> None:
    processes = [start("run", *words, f"shard.index={i}", "shard.count=2") for i in range(2)]
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    check_run(store, f"{bucket}/runs", expected)


def test_of_two_runs_at_once_one_is_refused(
    store: StoreServer, words: list[str], bucket: str, expected: dict[str, str]
) -> None:
    processes = [start("run", *words) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) in ([0, 3], [0, 0]), said
    for code, (output, errors) in zip(codes, said, strict=True):
        expected_words = "is being written by another run" if code else "6 images"
        assert expected_words in output + errors and "Traceback" not in errors
    check_run(store, f"{bucket}/runs", expected)


def test_only_one_of_many_creates_an_object(bucket: str) -> None:
    clients = [ObjectClient(Uri(bucket)) for _ in range(12)]
    path = f"{clients[0].root}/lease"
    with ThreadPoolExecutor(len(clients)) as pool:
        for _ in range(5):
            texts = [str(i).encode() for i in range(len(clients))]
            winners = list(pool.map(lambda c, text: c.create(path, text), clients, texts))
            assert sum(winners) == 1
            assert clients[0].read(path) == texts[winners.index(True)]
            clients[0].remove(path)


def test_a_lease_of_another_machine_ends_when_it_is_not_renewed(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = ObjectClient(Uri(f"{bucket}/run"))
    lease = Lease(remote, f"{remote.root}/.lease-alone", "the run")
    lease.holder = replace(lease.holder, machine="another", process=1)
    lease.acquire()
    with (
        pytest.raises(RunLocked, match=r"its lease ends in \d+ s"),
        hold_lease(remote, remote.root, "the run"),
    ):
        pytest.fail("the lease was acquired")
    monkeypatch.setattr(leases, "_LEASE_S", 5.0)
    time.sleep(6)
    with hold_lease(remote, remote.root, "the run") as held:
        held.check()
        with pytest.raises(RunLocked, match="taken over by"):
            lease.check()


def test_every_name_is_listed_once_in_order_and_read(bucket: str) -> None:
    remote = ObjectClient(Uri(f"{bucket}/odd"))
    for name in NAMES:
        remote.write(f"{remote.root}/{name}", name.encode())
    with closing(Folder(f"{bucket}/odd")) as source:
        entries = list(source.entries())
        keys = [entry.key for entry in entries]
        assert keys == sorted(NAMES)
        for entry in entries:
            with source.open(entry) as file:
                assert file.read() == entry.key.encode()
        assert all(entry.mtime_ns > 10**18 for entry in entries)


def test_an_object_for_a_folder_hides_nothing(store: StoreServer, bucket: str) -> None:
    remote = ObjectClient(Uri(f"{bucket}/in"))
    for name in ("folder/", "folder/x.jpg", "other/y.jpg"):
        remote.write(f"{remote.root}/{name}", b"x" * (not name.endswith("/")))
    with closing(Folder(f"{bucket}/in")) as source:
        assert [entry.key for entry in source.entries()] == ["folder/x.jpg", "other/y.jpg"]


def test_more_names_than_a_page_has(bucket: str) -> None:
    remote = ObjectClient(Uri(f"{bucket}/many"))
    names = [f"{i % 3}/{i:05d}.jpg" for i in range(2300)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: remote.write(f"{remote.root}/{name}", b"x"), names))
    with closing(Folder(f"{bucket}/many")) as source:
        assert next(source.entries()).key == "0/00000.jpg"
        assert [entry.key for entry in source.entries()] == sorted(names)
        assert [entry.key for entry in source.entries()] == sorted(names)


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # of drivers
def test_a_large_file_is_sent_in_parts(bucket: str, tmp_path: Path) -> None:
    remote = ObjectClient(Uri(bucket))
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(os.urandom(1 << 20) * 60)
    remote.put(sent, f"{remote.root}/large")
    remote.get(f"{remote.root}/large", received)
    assert received.read_bytes() == sent.read_bytes()
    assert remote.read(f"{remote.root}/large", 10**7, 10**7 + 5) == sent.read_bytes()[10**7 :][:5]


@pytest.mark.parametrize("given", ["input", "output"])
def test_a_bucket_that_is_not_there_is_refused_in_a_sentence(
    given: str, store: StoreServer, words: list[str]
) -> None:
    process = start("run", *words, f"{given}={store.scheme}://not-there-at-all/x")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and len(errors.splitlines()) == 1, errors
    expected = {"input": "does not exist", "output": "Make the bucket first"}[given]
    assert expected in errors and "<" not in errors


def test_a_wrong_key_is_refused_in_a_sentence(store: StoreServer, words: list[str]) -> None:
    if not store.secrets:
        pytest.skip("this server accepts every client")
    wrong = {
        name: value.replace(store.secrets[-1], "d3Jvbmcta2V5LW9mLXRlc3Rz")
        for name, value in os.environ.items()
    }
    command = [sys.executable, "-m", "pipeline", "run", *words]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, capture_output=True, text=True, env=wrong, timeout=120
    )
    assert done.returncode == 2 and "the store refuses" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "<" not in done.stderr
