"""source=tar: runs over archives, beside runs over folders."""

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError, InputChanged
from pipeline.core.shard_names import make_marker_name
from pipeline.results.commands.verify import verify_run
from pipeline.run import run
from pipeline.runs.session import RunSession
from tests.helpers.packed import image, pack_folder, same_rows, snapshot, special, tar_of
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read, settings_for


@pytest.mark.long
def test_a_tar_and_the_folder_give_the_same_rows(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    same = [
        "model=codes",
        "shard_size=5",
        "batch_size=2",
    ]  # a batch of one differs from others by rounding
    folder = annotate(*same, f"input={SAMPLES}", "overlays=false")
    archive = pack_folder("tar", SAMPLES, tmp_path / "samples.tar")
    packed = annotate(*same, "source=tar", f"input={archive}")
    same_rows(packed, folder, "samples.tar")
    assert (packed / "overlays" / "samples.tar" / "desk" / "page.jpg").is_file()
    images = read(packed, "images")
    assert (
        set(images["archive"].to_pylist()) == {"samples.tar"}
        and "desk/page.jpg" in images["member"].to_pylist()
    )


def test_a_hostile_archive_gives_rows_and_touches_nothing(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    inside = tmp_path / "deep" / "in"
    inside.mkdir(parents=True)
    bait = tmp_path / "bait.jpg"
    bait.write_bytes(image(9))
    members = [
        (str(tmp_path / "absolute.jpg"), image()),
        ("../../up.jpg", image()),
        ("a.jpg", image()),
        ("a.jpg", image(1)),
    ]
    members += [
        ("bomb.png", bomb()),
        ("a.jpg/under.jpg", image(2)),
        ("n" * 300 + ".jpg", image(3)),
        ("<img onerror>.jpg", b""),
    ]
    path = tar_of(inside / "hostile.tar", members)
    special(path, "sym.jpg", tarfile.SYMTYPE, "/etc/passwd")
    special(path, "hard.jpg", tarfile.LNKTYPE, str(bait))
    special(path, "null.jpg", tarfile.CHRTYPE)
    before = snapshot(tmp_path)
    made = annotate(
        "model=codes", "source=tar", f"input={inside}", "sink=[parquet,overlays,contact_sheets]"
    )
    assert snapshot(tmp_path) == before
    assert not any("absolute" in str(path) or "up.jpg" in str(path) for path in made.rglob("*"))
    statuses = {
        row["member"]: row["status"]
        for row in read(made, "images").to_pylist()
        if row["member"][-5:] != "a.jpg"
    }
    assert statuses.pop("n" * 300 + ".jpg") == "ok"
    assert statuses == {
        str(tmp_path / "absolute.jpg"): "unreadable",
        "../../up.jpg": "unreadable",
        "bomb.png": "too_large",
        "a.jpg/under.jpg": "ok",
        "<img onerror>.jpg": "empty",
        "sym.jpg": "not_a_file",
        "hard.jpg": "not_a_file",
        "null.jpg": "not_a_file",
    }
    assert "one row each" in verify_run(made)


def bomb() -> bytes:
    """A PNG that says it has 4 billion pixels."""
    data = bytearray(image(kind="PNG"))
    data[16:24] = (65_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_a_damaged_archive_costs_what_it_hit(annotate: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        tar_of(tmp_path / "in" / f"{name}.tar", [(f"{i}.jpg", image(i)) for i in range(3)])
    whole = (tmp_path / "in" / "b.tar").read_bytes()
    (tmp_path / "in" / "b.tar").write_bytes(whole[: whole.index(b"1.jpg") + 600])
    (tmp_path / "in" / "c.tar").write_text("no archive")
    made = annotate("model=codes", "source=tar", f"input={tmp_path / 'in'}", "shard_size=3")
    rows = {row["key"]: (row["status"], row["member"]) for row in read(made, "images").to_pylist()}
    assert rows == {f"a.tar/{i}.jpg": ("ok", f"{i}.jpg") for i in range(3)} | {
        "b.tar/": ("truncated", None),
        "b.tar/0.jpg": ("ok", "0.jpg"),
        "b.tar/1.jpg": ("truncated", "1.jpg"),
        "c.tar/": ("truncated", None),
    }


def test_a_run_that_goes_on_leaves_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        tar_of(tmp_path / "in" / f"{name}.tar", [(f"{i}.jpg", image(i)) for i in range(3)])
    common = (
        "model=codes",
        "source=tar",
        f"input={tmp_path / 'in'}",
        "shard_size=2",
        "log_level=error",
        "overlays=false",
    )
    run(settings_for(*common, f"output={tmp_path / 'out'}"))
    made = (tmp_path / "out" / "latest").resolve()
    parts = {path: path.read_bytes() for path in made.rglob("part-*.parquet")}
    for shard in (1, 2):
        (made / make_marker_name(shard)).unlink()
    run(settings_for(*common, f"output={tmp_path / 'out'}", "workers=1"))
    assert {path: path.read_bytes() for path in made.rglob("part-*.parquet")} == parts


def test_new_members_are_appended_and_changed_ones_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", [(f"{i}.jpg", b"no picture") for i in range(4)])
    common = (
        "model=codes",
        "source=tar",
        f"input={path}",
        "log_level=error",
        f"output={tmp_path / 'out'}",
        "overlays=false",
    )
    run(settings_for(*common))
    (tmp_path / "1a.jpg").write_bytes(b"new")
    with tarfile.open(path, "a") as tar:
        tar.add(tmp_path / "1a.jpg", "1a.jpg")
    run(settings_for(*common))
    made = (tmp_path / "out" / "latest").resolve()
    assert read(made, "images")["member"].to_pylist() == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "1a.jpg",
    ]
    tar_of(path, [(f"{i}.jpg", b"no picture either") for i in range(4)])
    with pytest.raises(InputChanged, match=r"removed \(1\): a.tar/1a.jpg"):
        run(settings_for(*common))
    run(settings_for(*common, "changed=accept"))


def test_an_archive_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar_of(tmp_path / "a.tar", [(f"{i}.jpg", image(i)) for i in range(4)])
    common = (
        "model=codes",
        "source=tar",
        f"input={path}",
        "log_level=error",
        f"output={tmp_path / 'out'}",
        "overlays=false",
    )
    opened = RunSession.open_runner

    def changed(*arguments):
        tar_of(path, [(f"{i}.jpg", image(i) + b"longer" * 200) for i in range(4)])
        return opened(*arguments)

    monkeypatch.setattr(RunSession, "open_runner", changed)
    assert run(settings_for(*common)).bad_images == 4
    assert set(read((tmp_path / "out" / "latest").resolve(), "images")["status"].to_pylist()) == {
        "changed"
    }


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "a.txt").touch()
    (tmp_path / "none" / "a.zip").touch()
    for given, said in (
        ("none", "No inputs found"),
        ("a.txt", "folder of tar archives, or a file"),
        ("x", "not exist"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(
                settings_for(
                    "model=codes",
                    "source=tar",
                    f"input={tmp_path / given}",
                    f"output={tmp_path / 'out'}",
                )
            )
    with pytest.raises(ConfigError, match="for archives source=tar"):
        run(settings_for("model=codes", f"input={tmp_path / 'none'}", f"output={tmp_path / 'out'}"))


def test_duplicates_are_found_in_archives_too(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    path = tar_of(
        tmp_path / "a.tar", [("a.jpg", image(1)), ("b.jpg", image(2)), ("c.jpg", image(1))]
    )
    special(path, "d.jpg", tarfile.SYMTYPE, "a.jpg")
    made = annotate(
        "model=codes", "source=tar", f"input={path}", "skip_duplicates=near", "overlays=false"
    )
    assert read(made, "images")["status"].to_pylist() == ["ok", "ok", "duplicate", "not_a_file"]
