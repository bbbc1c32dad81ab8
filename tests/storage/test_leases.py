import json
import subprocess
import sys
import time
from dataclasses import replace
from threading import Thread

import pytest

from pipeline.core.errors import ConfigError, RunLocked
from pipeline.core.locations import Uri
from pipeline.core.types import Writer
from pipeline.storage import leases as lease
from pipeline.storage.lease_holder import Holder
from pipeline.storage.leases import Lease, hold_lease, lease_critical_section
from pipeline.storage.object_client import ObjectClient


@pytest.fixture
def place(s3, monkeypatch):
    """(store, a new folder's path in it); who takes a lease over need not wait long."""
    monkeypatch.setattr(lease, "_SETTLED_S", 0.05)
    bucket = s3.bucket(f"lease-{time.monotonic_ns()}")
    return ObjectClient(Uri(f"s3://{bucket}")), f"{bucket}/run"


def held_by(place, holder, name=".lease-alone"):
    remote, folder = place
    remote.write(f"{folder}/{name}", json.dumps(vars(holder)).encode())


ELSEWHERE = Holder(7, "mars", "another machine", "1", "token")


@pytest.mark.long
def test_it_is_one_object_while_it_is_held_and_none_afterwards(place, s3):
    remote, folder = place
    with hold_lease(remote, folder, "the run") as held:
        held.check()
        content = s3.contents(folder.partition("/")[0])
        assert list(content) == ["run/.lease-alone"]
        assert json.loads(content["run/.lease-alone"])["process"] == held.holder.process
    assert s3.contents(folder.partition("/")[0]) == {}


def test_a_second_writer_is_refused_and_told_who_and_for_how_long(place):
    with (
        hold_lease(*place, "the run"),
        pytest.raises(RunLocked) as caught,
        hold_lease(*place, "the run"),
    ):
        pytest.fail("both hold it")
    assert "the run is being written by another run (process" in str(caught.value)
    assert 50 <= int(str(caught.value).split("ends in ")[1].split()[0]) <= 60
    with hold_lease(*place, "the run"):
        pass


def test_one_elsewhere_counts_until_it_ends(place, monkeypatch):
    held_by(place, ELSEWHERE)
    with pytest.raises(RunLocked, match="process 7 on mars"), hold_lease(*place, "the run"):
        pytest.fail("taken while it is valid")
    monkeypatch.setattr(lease, "_LEASE_S", 0.5)
    time.sleep(1.6)  # S3 tells whole seconds
    with hold_lease(*place, "the run") as held:
        held.check()


def test_a_holder_that_died_on_this_machine_gives_way_at_once(place):
    program = "from pipeline.storage.lease_holder import Holder; import json; "
    program += "print(json.dumps(vars(Holder.for_this_process())))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    dead = Holder(**json.loads(done.stdout))
    assert dead.is_dead() and not Holder.for_this_process().is_dead() and not ELSEWHERE.is_dead()
    held_by(place, dead)
    with hold_lease(*place, "the run") as held:
        held.check()


@pytest.mark.long
def test_what_is_no_lease_of_ours_counts_as_one(place):
    remote, folder = place
    remote.write(f"{folder}/.lease-alone", b"what is this")
    with pytest.raises(RunLocked, match="unknown"), hold_lease(remote, folder, "the run"):
        pytest.fail("taken")


def test_who_has_lost_it_is_told_and_does_not_remove_the_others(place):
    remote, folder = place
    with hold_lease(remote, folder, "the run") as held:
        held_by(place, ELSEWHERE)
        with pytest.raises(
            RunLocked, match=r"lease was taken over by process 7 on mars\. It stops"
        ):
            held.check()
    assert json.loads(remote.read(f"{folder}/.lease-alone"))["host"] == "mars"
    remote.remove(f"{folder}/.lease-alone")
    with hold_lease(remote, folder, "the run") as held:
        remote.remove(f"{folder}/.lease-alone")
        with pytest.raises(RunLocked, match="lease was removed"):
            held.check()


def test_it_is_renewed_while_it_is_held(place, s3, monkeypatch):
    monkeypatch.setattr(lease, "_LEASE_S", 0.8)
    s3.rules()
    with hold_lease(*place, "the run"):
        time.sleep(1.0)
    assert len(s3.requests("PUT", r"\.lease-alone$")) >= 3


def test_two_that_take_it_over_at_once_do_not_both_have_it(place):
    one, other = (Lease(place[0], f"{place[1]}/.lease-alone", "the run") for _ in range(2))
    for each in (one, other):  # both saw that it was free
        each.remote.write(each.path, each._content())
    other.check()
    with pytest.raises(RunLocked, match="taken over"):
        one.check()


def test_parts_of_one_count_are_written_side_by_side_and_of_two_counts_are_not(place):
    remote, folder = place
    alone = []
    with hold_lease(remote, folder, "the run", Writer.for_shards(0, 2), alone.append):
        with hold_lease(remote, folder, "the run", Writer.for_shards(1, 2), alone.append):
            pass
        for index, count in ((0, 2), (0, 1), (2, 3)):
            writer = replace(Writer.for_shards(index, count), patience_s=0.0)
            with (
                pytest.raises(RunLocked),
                hold_lease(remote, folder, "the run", writer, alone.append),
            ):
                pytest.fail("beside the other")
    assert alone == [True, False] and remote.list_folder(folder) == []


def test_what_writers_share_is_for_one_at_a_time(place):
    remote, folder = place
    order = []

    def second():
        with lease_critical_section(remote, folder, "the run"):
            order.append("second")

    with lease_critical_section(remote, folder, "the run"):
        thread = Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and remote.list_folder(folder) == []


def test_a_bucket_that_is_not_there(s3):
    from pipeline.runs.run_folder import RunFolder

    with pytest.raises(ConfigError, match=r"there is no s3://nowhere/run.*Make the bucket first"):
        RunFolder(Uri("s3://nowhere/run")).lock().__enter__()
