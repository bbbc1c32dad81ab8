"""source=zip: runs over archives, beside runs over folders."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.run import run
from tests.helpers.packed import image, pack_folder, same_rows, snapshot, zip_of
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read, settings_for


def test_a_zip_and_the_folder_give_the_same_rows(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    yard = SAMPLES / "yard"
    folder = annotate("model=codes", f"input={yard}", "overlays=false")
    archive = pack_folder("zip", yard, tmp_path / "yard.zip")
    packed = annotate(
        "model=codes", "source=zip", f"input={archive}", "shard_size=2", "batch_size=2"
    )
    same_rows(packed, folder, "yard.zip")
    assert (packed / "overlays" / "yard.zip" / "grass.jpg").is_file()


def test_a_hostile_archive_gives_rows_and_touches_nothing(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    inside = tmp_path / "deep" / "in"
    inside.mkdir(parents=True)
    members = {
        str(tmp_path / "absolute.jpg"): image(),
        "../../up.jpg": image(),
        "ok.jpg": image(),
        "C:/x.jpg": image(),
    }
    members |= {
        "zeros.bmp": bytes(200_000_000),
        "damaged.jpg": image(5),
        "text.jpg": b"PK\3\4 no picture",
    }
    path = zip_of(inside / "hostile.zip", members.items())
    with zipfile.ZipFile(path, "a") as packed:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
        at = packed.getinfo("damaged.jpg").header_offset
    data = bytearray(path.read_bytes())
    data[at + 300] ^= 0xFF
    path.write_bytes(data)
    (inside / "cut.zip").write_bytes(data[: len(data) // 2])
    before = snapshot(tmp_path)
    made = annotate("model=codes", "source=zip", f"input={inside}", "max_pixels=1_000_000")
    assert snapshot(tmp_path) == before
    assert not any("absolute" in str(path) or "up.jpg" in str(path) for path in made.rglob("*"))
    rows = {
        (row["archive"], row["member"]): (row["status"], row["error"])
        for row in read(made, "images").to_pylist()
    }
    assert {member: status for (_, member), (status, _) in rows.items()} == {
        None: "truncated",
        str(tmp_path / "absolute.jpg"): "unreadable",
        "../../up.jpg": "unreadable",
        "C:/x.jpg": "unreadable",
        "ok.jpg": "ok",
        "zeros.bmp": "too_large",
        "damaged.jpg": "corrupt",
        "text.jpg": "unsupported",
        "link.jpg": "not_a_file",
    }
    assert "200000000 bytes; no image of max_pixels" in rows["hostile.zip", "zeros.bmp"][1]


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    with pytest.raises(ConfigError, match=r"folder of zip archives, or a file ending in \.zip"):
        run(
            settings_for(
                "model=codes",
                "source=zip",
                f"input={tmp_path / 'a.tar'}",
                f"output={tmp_path / 'out'}",
            )
        )
