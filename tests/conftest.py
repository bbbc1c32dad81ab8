"""Fixtures that pytest finds by name. Everything that tests import is in tests/helpers/."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.types import Model
from pipeline.models.formats.builder import TorchvisionBuilder
from pipeline.run import run
from tests.helpers.objectstore import Store, running
from tests.helpers.pictures import photo, picture
from tests.helpers.runs import settings_for


@pytest.fixture
def annotate(tmp_path: Path) -> Callable[..., Path]:
    """annotate("task=detect", "input=...") runs in this process and returns the run folder."""

    def call(*overrides: str) -> Path:
        output = tmp_path / "outputs"
        run(settings_for(f"output={output}", "log_level=error", *overrides))
        return (output / "latest").resolve()

    return call


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Store]:
    with running() as store:
        yield store


@pytest.fixture
def s3(s3_server: Store) -> Store:
    """An S3 server on this machine, without faults until a test asks for some."""
    s3_server.rules()
    return s3_server


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """Restore the log level, which a command line in this process sets, after each test."""
    yield
    logging.getLogger("pipeline").setLevel(logging.NOTSET)


@pytest.fixture
def refuse_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str], str], None]:
    """Return a function that checks that a run is refused with `message` and leaves nothing.

    The run must be refused before weights are loaded.
    """

    def call(overrides: list[str], message: str) -> None:
        monkeypatch.setattr(
            TorchvisionBuilder, "load", lambda self: pytest.fail("weights were loaded")
        )
        with pytest.raises(ConfigError, match=message):
            run(settings_for(f"output={tmp_path}", *overrides))
        assert list(tmp_path.iterdir()) == []

    return call


@pytest.fixture
def load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One load per weights file: the batch sizes that a parity test compares share it."""
    load, loaded = TorchvisionBuilder.load, {}

    def cached(self: TorchvisionBuilder) -> Model:
        if self.file not in loaded:
            loaded[self.file] = load(self)
        return loaded[self.file]

    monkeypatch.setattr(TorchvisionBuilder, "load", cached)


@pytest.fixture
def mixed_images(tmp_path: Path) -> Path:
    """Six pictures of mixed sizes and formats, three of them of one size, in two folders."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    sizes = [(96, 64), (64, 96), (120, 120), (96, 64), (200, 50), (96, 64)]
    for i, (width, height) in enumerate(sizes):
        name = f"{'sub/' if i % 3 == 2 else ''}{i}.{'png' if i % 2 else 'jpg'}"
        picture(width, height, seed=i).save(folder / name, quality=95)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures of two sizes, 00.jpg to 11.jpg, as `photo` makes them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        photo(i).save(folder / f"{i:02d}.jpg")
    return folder
