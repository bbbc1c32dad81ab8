"""Runs free every file that was prefetched, whatever ends them, so that prefetching goes on."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.core.errors import OutOfSpace
from pipeline.core.types import Entry, Shard
from pipeline.inference.forward import ForwardRunner
from pipeline.inference.precision_check import measure_agreement
from pipeline.inference.predictor import Predictor
from pipeline.run import annotate as annotate_parts
from pipeline.runs.components import Components, build_components, load_predictor
from pipeline.runs.run_folder import RunFolder
from pipeline.storage import prefetch as prefetching
from pipeline.storage.listing import LocalListing
from pipeline.storage.prefetch import Prefetcher
from tests.helpers.open_files import count_nameless_files
from tests.helpers.pictures import photo
from tests.helpers.runs import settings_for

N_PHOTOS = 24
SHARD_SIZE = 8


class StoreReader:
    """Reads local files as if they were in a store, and counts the reads of each file."""

    def __init__(self, listing: LocalListing) -> None:
        self.listing = listing
        self.asked: list[str] = []

    def __call__(self, key: str, seconds: float | None) -> bytes:
        self.asked.append(key)
        with self.listing.open(key) as file:
            return file.read()


@pytest.fixture
def far_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of photographs that the source `folder` reads through a prefetcher."""
    folder = tmp_path / "far"
    folder.mkdir()
    for i in range(N_PHOTOS):
        photo(i).save(folder / f"{i:02d}.jpg")
    monkeypatch.setattr(
        "pipeline.inputs.sources.folder.make_prefetcher",
        lambda listing: Prefetcher(StoreReader(listing)),
    )
    return folder


@pytest.fixture
def settings(far_photos: Path, tmp_path: Path) -> tuple[str, ...]:
    return (
        "model=codes",
        f"input={far_photos}",
        f"output={tmp_path / 'outputs'}",
        f"shard_size={SHARD_SIZE}",
        "batch_size=4",
        "log_level=error",
    )


@pytest.fixture
def build(settings: tuple[str, ...]) -> Iterator[Callable[..., Components]]:
    """Return a function that builds a run's components. Their source is closed at the end."""
    built: list[Components] = []

    def call(*more: str) -> Components:
        built.append(build_components(settings_for(*settings, *more)))
        return built[-1]

    yield call
    for parts in built:
        parts.source.close()


def check_nothing_is_kept(source: Any, files_before: int) -> None:
    """Fail if prefetched files are left, or if they keep further files from being fetched ahead."""
    assert count_nameless_files() == files_before
    source.prefetcher._read = reader = StoreReader(source.listing)
    entries = list(source.entries())
    source.prefetch(entries, 100)
    deadline = time.monotonic() + 5
    while len(reader.asked) < len(entries) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(reader.asked) == len(entries)
    source.release(entries)


@pytest.fixture(autouse=True)
def narrow_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any byte that waits beside the oldest group stop further fetches, two at a time."""
    monkeypatch.setattr(prefetching, "_AHEAD_BYTES", 1)
    monkeypatch.setattr(prefetching, "_AT_ONCE", 2)


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("overlays=false",),
        ("engine=fast", "engine.compile=false", "precision=bf16", "overlays=false"),  # is checked
    ],
)
def test_a_run_frees_what_it_prefetched_and_reads_each_file_once(
    more: tuple[str, ...], build: Callable[..., Components], settings: tuple[str, ...]
) -> None:
    before, parts = count_nameless_files(), build(*more)
    reader = cast(Any, parts.source).prefetcher._read
    annotate_parts(settings_for(*settings, *more), parts)
    n_compared = 2 * SHARD_SIZE if "precision=bf16" in more else 0  # by both engines
    assert len(reader.asked) == N_PHOTOS + n_compared
    check_nothing_is_kept(parts.source, before)


@pytest.mark.long
def test_suspects_are_tried_and_freed(
    build: Callable[..., Components], settings: tuple[str, ...], far_photos: Path
) -> None:
    annotate_parts(settings_for(*settings), build())
    folder = next(path for path in (far_photos.parent / "outputs").iterdir() if path.is_dir())
    for marker in (folder / "_committed").iterdir():
        marker.unlink()
    (folder / "suspects.json").write_text(json.dumps({"to_try": [0, 1, 9], "given_up": {}}))

    before, parts = count_nameless_files(), build()
    annotate_parts(settings_for(*settings), parts)
    assert json.loads((folder / "suspects.json").read_text())["to_try"] == []
    check_nothing_is_kept(parts.source, before)


@pytest.mark.long
def test_retried_images_are_fetched_once_and_freed(
    build: Callable[..., Components], settings: tuple[str, ...], far_photos: Path
) -> None:
    whole = {}
    for path in sorted(far_photos.iterdir())[3:20]:
        whole[path] = path.read_bytes()
        path.write_bytes(whole[path][:400])
    annotate_parts(settings_for(*settings), build())
    for path, data in whole.items():
        path.write_bytes(data)

    again = (*settings, "retry=errors", "changed=accept")
    before, parts = count_nameless_files(), build()
    reader = cast(Any, parts.source).prefetcher._read
    annotate_parts(settings_for(*again), parts)
    # The pictures of the other images are drawn again, which needs these once too.
    assert sorted(reader.asked) == [path.name for path in sorted(far_photos.iterdir())]
    check_nothing_is_kept(parts.source, before)


@pytest.mark.long
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutOfSpace("full")])
@pytest.mark.parametrize("at", ["forward", "commit"])
def test_a_run_that_fails_frees_what_it_prefetched(
    error: BaseException,
    at: str,
    build: Callable[..., Components],
    settings: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    failing = (ForwardRunner, "run") if at == "forward" else (RunFolder, "commit")
    monkeypatch.setattr(*failing, fail)
    before, parts = count_nameless_files(), build()
    with pytest.raises(type(error)):
        annotate_parts(settings_for(*settings), parts)
    check_nothing_is_kept(parts.source, before)


@pytest.fixture
def predictor(build: Callable[..., Components], settings: tuple[str, ...]) -> Predictor:
    parts = build()
    return load_predictor(settings_for(*settings), parts, N_PHOTOS, list_entries(parts), {})


def list_entries(parts: Components) -> tuple[Entry, ...]:
    return tuple(parts.source.entries())


def take_one(predictor: Predictor, shard: Shard) -> None:
    """Abandon a generator behind its first batch."""
    next(iter(predictor.predict([shard])))


def measure_without_end(predictor: Predictor, shard: Shard) -> None:
    """Stop a measurement in the middle."""
    with closing(predictor.load_batches([shard])) as batches:
        next(batches)


def compare_with_itself(predictor: Predictor, shard: Shard) -> None:
    assert measure_agreement(predictor, predictor, shard).images == N_PHOTOS


def fail_in_the_consumer(predictor: Predictor, shard: Shard) -> None:
    with suppress(RuntimeError):
        for _ in predictor.predict([shard]):
            raise RuntimeError


@pytest.mark.parametrize(
    "use", [take_one, measure_without_end, compare_with_itself, fail_in_the_consumer]
)
def test_whoever_begins_to_predict_ends_it(
    use: Callable[[Predictor, Shard], None], predictor: Predictor
) -> None:
    source, before = predictor.loader.source, count_nameless_files()
    use(predictor, Shard(0, 0, tuple(source.entries())))
    check_nothing_is_kept(source, before)
