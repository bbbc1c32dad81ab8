"""retry=errors computes failed images again and keeps the rows of all others."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core.errors import ConfigError
from pipeline.inference.forward import ForwardRunner
from pipeline.results.commands.verify import verify_run
from pipeline.storage.local_backend import LocalBackend
from tests.helpers.pictures import photo
from tests.helpers.runs import read, settings_for

BROKEN = ("03.jpg", "04.jpg", "10.jpg")


@pytest.fixture
def photos(photos: Path) -> Path:
    """Return a folder of photographs of which three are cut off."""
    for name in BROKEN:
        (photos / name).write_bytes((photos / name).read_bytes()[:800])
    return photos


def mend(photos: Path, *names: str) -> None:
    for name in names:
        photo(int(name[:2])).save(photos / name)


def others(rows: pa.Table) -> list[dict]:
    """Return the rows of the images that were never broken."""
    return [row for row in rows.to_pylist() if row["key"] not in BROKEN]


def statuses(run: Path) -> dict[str, str]:
    return dict(
        zip(*(read(run, "images")[column].to_pylist() for column in ("key", "status")), strict=True)
    )


@pytest.mark.long
def test_mended_images_are_computed_and_nothing_else(
    annotate: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model=codes", f"input={photos}", "shard_size=5", "min_score=0.05")
    run = annotate(*settings)
    assert [key for key, status in statuses(run).items() if status != "ok"] == list(BROKEN)
    before = {kind: read(run, kind) for kind in ("images", "predictions")}
    untouched = (run / "_committed" / "00000001.json").stat().st_mtime_ns
    mend(photos, "03.jpg", "10.jpg")
    computed: list[str] = []
    run_batch = ForwardRunner.run

    def noted(self: ForwardRunner, inputs: list) -> list:
        computed.extend(one.item.key for one in inputs)
        return run_batch(self, inputs)

    monkeypatch.setattr(ForwardRunner, "run", noted)
    assert annotate(*settings, "retry=errors", "changed=accept") == run
    assert computed == ["03.jpg", "10.jpg"]
    assert [key for key, status in statuses(run).items() if status != "ok"] == ["04.jpg"]
    assert (run / "_committed" / "00000001.json").stat().st_mtime_ns == untouched, (
        "a shard without errors is not touched"
    )
    assert "12 images with one row each" in verify_run(run)
    for kind, table in before.items():
        assert others(read(run, kind)) == others(table)
    assert (run / "overlays" / "03.jpg").is_file() and not (run / "overlays" / "04.jpg").exists()


@pytest.mark.long
def test_with_nothing_to_retry_no_weights_are_loaded(
    annotate: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    mend(photos, *BROKEN)
    run = annotate("model=codes", f"input={photos}")
    markers = [path.stat().st_mtime_ns for path in (run / "_committed").iterdir()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipeline.models.formats.builder.TorchvisionBuilder.load",
            lambda self: pytest.fail("weights were loaded"),
        )
        annotate("model=codes", f"input={photos}", "retry=errors")
    assert [path.stat().st_mtime_ns for path in (run / "_committed").iterdir()] == markers


@pytest.mark.long
def test_a_retry_that_is_interrupted_between_old_and_new_leaves_a_run_that_can_go_on(
    annotate: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model=codes", f"input={photos}", "shard_size=5")
    run = annotate(*settings)
    mend(photos, *BROKEN)
    publish = LocalBackend.publish

    def fail(self: LocalBackend, files: list[Path], base: Path) -> None:
        if base.name.startswith("shard-"):
            raise OSError("killed")
        publish(self, files, base)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "publish", fail)
        with pytest.raises(OSError, match="killed"):
            annotate(*settings, "retry=errors", "changed=accept")
    assert (
        not (run / "_committed" / "00000000.json").exists()
        and (run / "_committed" / "00000002.json").exists()
    )
    annotate(*settings)
    assert (
        statuses(run)["03.jpg"] == statuses(run)["04.jpg"] == "ok"
        and statuses(run)["10.jpg"] != "ok"
    )
    annotate(*settings, "retry=errors")
    assert set(statuses(run).values()) == {"ok"} and "12 images" in verify_run(run)


def test_what_else_it_might_be_is_answered() -> None:
    with pytest.raises(
        ConfigError, match=r"retry=error: expected errors, got.* Did you mean 'errors'"
    ):
        settings_for("retry=error")
