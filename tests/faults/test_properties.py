"""Property test: each file gets one row, and a disturbed run resumes to an undisturbed run's bytes.

Names and contents of the files, batches, workers and the failing disk operation are random.
"""

import errno
import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.keys import path_to_key
from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from tests.faults.disk import failing
from tests.faults.everywhere import contents, differing
from tests.helpers.pictures import picture
from tests.helpers.runs import read, settings_for

SUFFIXES = (b".jpg", b".png", b".JPEG", b".gif")
PICTURES = ((64, 48), (48, 64), (30, 30))
KINDS = st.sampled_from(["whole", "whole", "whole", "cut", "empty", "text"])
NAMES = st.tuples(
    st.sampled_from([b"", b"a/", b"a/\xff\xfe/", b"-o/"]),
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.text(min_size=1, max_size=60).map(lambda name: name.encode("utf-8", "replace")),
    ),
    st.sampled_from(SUFFIXES),
)
COLLECTIONS = st.dictionaries(NAMES, st.tuples(KINDS, st.integers(0, 2)), min_size=1, max_size=9)
RUNS = {
    "batch": st.integers(1, 5),
    "shard": st.integers(1, 4),
    "workers": st.tuples(st.integers(1, 4), st.integers(1, 4)),
}


def write(folder: Path, collection: dict) -> Counter[str]:
    """Write the files; return how many there are of each key."""
    keys: Counter[str] = Counter()
    for (parent, stem, suffix), (kind, size) in collection.items():
        name = stem.translate(None, b"/\0").lstrip(b".")[: 255 - len(suffix)] + suffix
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + parent + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            continue
        data = encoded(size, suffix)
        content = {
            "whole": data,
            "cut": data[: len(data) // 2],
            "empty": b"",
            "text": b"no picture",
        }[kind]
        path.write_bytes(content)
        keys[path_to_key(os.fsencode(path.relative_to(folder)))] += 1
    return keys


def encoded(size: int, suffix: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=suffix.decode()) as file:
        picture(*PICTURES[size], seed=size).save(file.name)
        return Path(file.name).read_bytes()


def check(collection: dict, batch: int, shard: int, workers: tuple[int, int], at: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        keys = write(folder / "in", collection)
        own = (
            "model=codes",
            f"input={folder / 'in'}",
            f"batch_size={batch}",
            f"shard_size={shard}",
            "log_level=error",
        )
        for output, count in (("golden", workers[0]), ("disturbed", workers[1])):
            given = settings_for(*own, f"output={folder / output}", f"workers={count}")
            if output == "disturbed":
                with suppress(OSError, PipelineError), failing(at, dead_disk, folder / output):
                    run(given)
            run(given)
        found = (folder / "disturbed" / "latest").resolve()
        images = read(found, "images")
        assert Counter(images["key"].to_pylist()) == keys
        assert images["image_id"].to_pylist() == list(range(len(images)))
        assert differing(contents(folder / "disturbed"), contents(folder / "golden")) == [
            "run.json"
        ] * (workers[0] != workers[1])
        verify_run(found)
    finally:
        shutil.rmtree(folder)


def dead_disk(name: str) -> None:
    raise OSError(errno.EIO, "Input/output error")


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(collection=COLLECTIONS, at=st.integers(1, 90), **RUNS)
def test_one_row_each_and_the_same_bytes(
    collection: dict, batch: int, shard: int, workers: tuple, at: int
) -> None:
    check(collection, batch, shard, workers, at)


@pytest.mark.faults
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(collection=COLLECTIONS, at=st.integers(1, 150), **RUNS)
def test_one_row_each_and_the_same_bytes_at_length(
    collection: dict, batch: int, shard: int, workers: tuple, at: int
) -> None:
    check(collection, batch, shard, workers, at)
