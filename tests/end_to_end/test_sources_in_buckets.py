"""Lists, tables and archives in a bucket, and several writers of one run there.

Rows and bytes are those of the same inputs as files.
"""

import shutil
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from tests.helpers.packed import pack_folder
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.long

OURS = ("model=codes", "shard_size=2", "log_level=error", "overlays=false")
DESK = SAMPLES / "desk"


@pytest.fixture(scope="module")
def collection(tmp_path_factory, s3_server):
    """Return a folder with pictures as files, a list, a table and archives, and an equal bucket."""
    folder = tmp_path_factory.mktemp("collection")
    shutil.copytree(DESK, folder / "desk", ignore=shutil.ignore_patterns("*.json"))
    pictures = sorted((folder / "desk").glob("*.jpg"))
    (folder / "list.csv").write_text(
        "path,site\n" + "".join(f"desk/{one.name},{i}\n" for i, one in enumerate(pictures))
    )
    for kind in ("tar", "zip"):
        (folder / kind).mkdir()
        pack_folder(kind, folder / "desk", folder / kind / f"desk.{kind}")
    (folder / "tables").mkdir()
    pq.write_table(
        pa.table({"image": [one.read_bytes() for one in pictures]}), folder / "tables" / "a.parquet"
    )
    s3_server.rules()
    s3_server.upload(s3_server.bucket("collection"), "in", folder)
    return folder, "s3://collection/in"


@pytest.mark.parametrize(
    ("source", "name"),
    [("manifest", "list.csv"), ("tar", "tar"), ("zip", "zip"), ("hf_parquet", "tables")],
)
def test_a_source_gives_the_same_rows(source, name, collection, s3, annotate):
    folder, address = collection
    found = []
    for root in (folder, address):
        made = annotate(f"source={source}", f"input={root}/{name}", *OURS)
        found.append([read(made, kind).to_pydict() for kind in ("images", "predictions")])
    assert found[0] == found[1] and len(found[0][1]["key"]) > 0
    assert set(found[0][0]["status"]) == {"ok"}


def test_a_list_may_name_addresses_and_files(collection, s3, tmp_path, annotate):
    folder, address = collection
    names = sorted(path.name for path in (folder / "desk").glob("*.jpg"))
    lines = [
        f"{address}/desk/{names[0]}",
        f"{folder}/desk/{names[1]}",
        f"{address}/desk/nothing.jpg",
        "s3://u:p@x/a.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    rows = read(
        annotate("source=manifest", f"input={tmp_path}/list.txt", *OURS), "images"
    ).to_pylist()
    assert {row["key"].rpartition("/")[2]: row["status"] for row in rows} == {
        names[0]: "ok",
        names[1]: "ok",
        "nothing.jpg": "missing",
        "a.jpg": "unreadable",
    }


@pytest.mark.long
def test_two_writers_of_one_run_in_a_bucket(collection, s3, annotate):
    folder, _ = collection
    alone = annotate(f"input={folder}/desk", *OURS)
    bucket = s3.bucket(f"shared-{time.monotonic_ns()}")
    words = [f"input={folder}/desk", f"output=s3://{bucket}/runs", *OURS]
    commands = [
        [sys.executable, "-m", "pipeline", "run", *words, f"shard.index={i}", "shard.count=2"]
        for i in range(2)
    ]
    writers = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) for command in commands
    ]
    assert [writer.wait(timeout=240) for writer in writers] == [0, 0]
    found = s3.contents(bucket, f"runs/{alone.name}/")
    for path in alone.rglob("part-*.parquet"):
        if path.parts[-2] in ("images", "predictions"):
            assert found[str(path.relative_to(alone))] == path.read_bytes()
    assert not [name for name in found if ".lease" in name] and "report.html" in found
    ended = run(settings_for(*words))
    assert "nothing was left to do" in ended.text
    assert "one row each" in verify_run(ended.run)
