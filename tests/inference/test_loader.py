"""The loader: one item per input, batches of one shape, failures, views, memory and threads."""

import itertools
import threading
import time
import weakref

import pytest
import torch
from torch import nn

from pipeline.core.timing import STAGES, StageTimer
from pipeline.core.types import Model, Shard, Status
from pipeline.inference.loader import Loader
from pipeline.inference.memory_plan import ImageLimits
from pipeline.inference.views import Views, crop_view
from pipeline.inputs.sources.folder import Folder
from tests.helpers.pictures import picture
from tests.helpers.reference import decoded

LIMITS = ImageLimits(10**6)


def no_preprocessing(image):
    return image


def model(preprocess=no_preprocessing, bucket=lambda size_hw: size_hw):
    return Model(nn.Identity(), preprocess, bucket)


def load(
    folder,
    batch_size=2,
    shard_size=100,
    max_pixels=10**6,
    workers=2,
    first_image_id=0,
    views=None,
    **parts,
):
    """Return all batches, the entries in the order of the source, and the loader."""
    source = Folder(str(folder))
    entries = list(source.entries())
    cuts = range(0, len(entries), shard_size)
    shards = [
        Shard(i, first_image_id + at, tuple(entries[at : at + shard_size]))
        for i, at in enumerate(cuts)
    ]
    loader = Loader(source, model(**parts), batch_size, workers, ImageLimits(max_pixels), views)
    return list(loader.load_batches(shards)), entries, loader


def by_key(batches):
    return {item.key: item for batch in batches for item in batch.items}


def inputs_by_key(batches):
    """Return the model inputs by (key, view index), and check that each comes once."""
    found = [
        ((one.item.key, one.view_index), one.pixels) for batch in batches for one in batch.inputs
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.fixture
def bad_images(mixed_images):
    """The mixed images and one of every kind of failure."""
    whole = (mixed_images / "0.jpg").read_bytes()
    (mixed_images / "empty.jpg").write_bytes(b"")
    (mixed_images / "text.jpg").write_text("not a picture")
    (mixed_images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (mixed_images / "stub.jpg").write_bytes(whole[:30])
    (mixed_images / "folder.jpg").mkdir()
    (mixed_images / "broken.jpg").symlink_to("nowhere")
    picture(300, 200).save(mixed_images / "huge.png")
    return mixed_images


EXPECTED = {
    "empty.jpg": Status.EMPTY,
    "text.jpg": Status.UNSUPPORTED,
    "cut.jpg": Status.TRUNCATED,
    "stub.jpg": Status.TRUNCATED,
    "folder.jpg": Status.NOT_A_FILE,
    "broken.jpg": Status.MISSING,
    "huge.png": Status.TOO_LARGE,
}


def test_no_shards_are_no_batches(mixed_images):
    assert list(Loader(Folder(str(mixed_images)), model(), 2, 1, LIMITS).load_batches([])) == []


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_every_input_comes_out_once_in_its_own_shard(bad_images, batch_size, shard_size):
    batches, entries, _ = load(
        bad_images, batch_size, shard_size, max_pixels=30_000, first_image_id=1000
    )
    items = sorted((item.image_id, item.key) for batch in batches for item in batch.items)
    assert items == [(1000 + i, entry.key) for i, entry in enumerate(entries)]
    order = [batch.shard.shard_id for batch in batches]
    assert order == sorted(order)
    for batch in batches:
        assert {item.key for item in batch.items} <= {entry.key for entry in batch.shard.entries}


def test_a_batch_has_one_shape_and_at_most_the_asked_size(mixed_images):
    batches, _, _ = load(mixed_images, 2)
    for batch in batches:
        assert len(batch.items) <= 2 and len({item.size_hw for item in batch.items}) == 1
    assert max(len(batch.items) for batch in batches) == 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_failures_stay_as_items_and_their_neighbours_survive(bad_images, batch_size):
    batches = load(bad_images, batch_size, max_pixels=30_000, bucket=lambda size_hw: None)[0]
    found, inputs = by_key(batches), inputs_by_key(batches)
    assert {key: found[key].status for key in EXPECTED} == EXPECTED
    good = {key: item for key, item in found.items() if key not in EXPECTED}
    assert len(good) == 6
    assert set(inputs) == {(key, 0) for key in good}
    for key, item in good.items():
        assert item.status is Status.OK and item.error is None
        pixels = inputs[key, 0]
        assert tuple(pixels.shape) == (3, *item.size_hw) and pixels.dtype == torch.uint8
    for key in EXPECTED:
        assert found[key].error and "\n" not in found[key].error


VIEWS = [Views(), Views(flip=True), Views(tile=48), Views(tile=32, overlap=0.5, flip=True)]


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_every_view_comes_once_and_an_item_with_the_last_batch_of_its_views(
    bad_images, batch_size, views
):
    batches, entries, _ = load(bad_images, batch_size, max_pixels=30_000, views=views)
    assert sorted(item.key for batch in batches for item in batch.items) == [
        entry.key for entry in entries
    ]
    good = {key: item for key, item in by_key(batches).items() if item.status is Status.OK}
    assert len(good) == 6
    assert set(inputs_by_key(batches)) == {
        (key, n) for key, item in good.items() for n in range(len(item.views))
    }
    through = set()
    for batch in batches:
        assert len(batch.inputs) <= batch_size and len({one.size_hw for one in batch.inputs}) <= 1
        assert not through & {one.item.key for one in batch.inputs}, (
            "an item was through before its views were"
        )
        through |= {item.key for item in batch.items}
        for one in batch.inputs:
            view = one.item.views[one.view_index]
            assert torch.equal(
                one.pixels, crop_view(decoded(bad_images / one.item.key), view)
            ) or one.item.key.endswith("jpg")
            assert one.pixels.shape[-2:] == view.size_hw
    for item in good.values():
        assert item.views == views.list_views(item.size_hw)


def test_no_batch_is_kept_in_memory_after_the_consumer_drops_it(mixed_images):
    for views, overlap in itertools.product(VIEWS, (True, False)):
        source = Folder(str(mixed_images))
        loader = Loader(source, model(torch.clone), 3, 2, LIMITS, views, overlap=overlap)
        batches = loader.load_batches([Shard(0, 0, tuple(source.entries()))])
        inputs = []
        for _ in range(3):
            inputs += [weakref.ref(one.pixels) for one in next(batches).inputs]
            assert not any(pixels() is not None for pixels in inputs), (views, overlap)
        inputs += [weakref.ref(one.pixels) for batch in batches for one in batch.inputs]
        assert inputs and not any(pixels() is not None for pixels in inputs), "memory is held"


def test_an_image_of_many_views_is_cut_batch_by_batch(mixed_images):
    """Only the inputs of a few batches are in memory, not those of the whole image."""
    made = []

    def preprocess(image):
        made.append(image.shape)
        return image

    source = Folder(str(mixed_images))
    entry = next(entry for entry in source.entries() if entry.key == "4.jpg")  # 200 x 50
    loader = Loader(source, model(preprocess), 2, 1, LIMITS, Views(tile=32, overlap=0.5))
    n_views = len(loader.views.list_views((50, 200)))
    assert n_views > 20
    batches = loader.load_batches([Shard(0, 0, (entry,))])
    next(batches)
    time.sleep(0.3)
    assert len(made) <= 2 * 5  # one consumed, two queued, one waiting for the queue, one being made
    assert 2 + sum(len(batch.inputs) for batch in batches) + 1 > n_views
    assert len(made) == n_views


def test_images_share_a_batch_when_all_their_views_do(mixed_images):
    batches, _, _ = load(mixed_images, 100, views=Views(flip=True))
    assert sorted(len(batch.inputs) for batch in batches) == [
        2,
        2,
        2,
        6,
    ]  # three pictures of one size


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_view_that_cannot_be_preprocessed_fails_its_image_alone(mixed_images, batch_size):
    def preprocess(image):
        if image.shape[1:] == (50, 100):  # the tiles of 200 x 50 pixels
            raise ValueError("no such tiles, please")
        return image

    batches = load(mixed_images, batch_size, preprocess=preprocess, views=Views(tile=100))[0]
    found = by_key(batches)
    assert (
        found["4.jpg"].status is Status.MODEL_ERROR
        and "(50, 100) (h, w): no such tiles" in found["4.jpg"].error
    )
    assert [item.status for key, item in found.items() if key != "4.jpg"] == [Status.OK] * 5
    assert sum(len(item.views) > 1 for item in found.values()) == 2


def test_a_failure_keeps_the_size_that_its_header_told(bad_images):
    found = by_key(load(bad_images, max_pixels=30_000)[0])
    assert found["huge.png"].size_hw == (200, 300)
    assert found["cut.jpg"].size_hw == (64, 96)
    assert found["empty.jpg"].size_hw is None


def test_batches_do_not_depend_on_the_number_of_threads(bad_images):
    def batches_of(workers, views):
        batches, _, _ = load(bad_images, 2, 5, workers=workers, views=views)
        items = [
            [(item.image_id, item.status, item.error) for item in batch.items] for batch in batches
        ]
        return items, [
            [(one.item.image_id, one.view_index) for one in batch.inputs] for batch in batches
        ]

    for views in VIEWS:
        assert batches_of(1, views) == batches_of(4, views)


def test_what_the_preprocessing_cannot_take_is_a_model_error(mixed_images):
    def preprocess(image):
        if image.shape[2] == 200:
            raise ZeroDivisionError("a very\nodd shape")
        return image.float()

    batches = load(mixed_images, preprocess=preprocess)[0]
    found = by_key(batches)
    assert found["4.jpg"].status is Status.MODEL_ERROR
    assert "a very odd shape" in found["4.jpg"].error and "(50, 200)" in found["4.jpg"].error
    assert sum(item.status is Status.OK for item in found.values()) == 5
    assert inputs_by_key(batches)["0.jpg", 0].dtype == torch.float32


def test_a_file_that_changes_after_its_header_was_read_is_a_row(mixed_images):
    def cut_then_bucket(size_hw):
        (mixed_images / "0.jpg").write_bytes(b"")
        (mixed_images / "1.png").unlink(missing_ok=True)
        picture(20, 20).save(mixed_images / "4.jpg")

    found = by_key(load(mixed_images, bucket=cut_then_bucket)[0])
    assert found["0.jpg"].status is Status.CHANGED
    assert found["1.png"].status is Status.MISSING
    assert found["4.jpg"].status is Status.CHANGED and "the plan lists" in found["4.jpg"].error
    assert sum(item.status is Status.OK for item in found.values()) == 3


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), PermissionError(13, "Permission denied")]
)
def test_a_file_that_cannot_be_read_is_unreadable(mixed_images, monkeypatch, error):
    real = Folder.open

    def broken(self, entry):
        if entry.key == "0.jpg":
            raise error
        return real(self, entry)

    monkeypatch.setattr(Folder, "open", broken)
    found = by_key(load(mixed_images)[0])
    assert (found["0.jpg"].status, found["0.jpg"].error) == (Status.UNREADABLE, error.strerror)
    assert sum(item.status is Status.OK for item in found.values()) == 5


def test_an_error_in_the_models_own_bucket_is_raised(mixed_images):
    def bucket(size_hw):
        raise RuntimeError("a bug, not an input")

    with pytest.raises(RuntimeError, match="a bug, not an input"):
        load(mixed_images, bucket=bucket)


def test_closing_early_leaves_no_thread(mixed_images):
    source = Folder(str(mixed_images))
    batches = Loader(source, model(), 1, 2, LIMITS).load_batches(
        [Shard(0, 0, tuple(source.entries()))]
    )
    next(batches)
    batches.close()
    assert not [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("decode", "prefetch"))
    ]


def test_time_is_counted_by_stage(mixed_images):
    source, timer = Folder(str(mixed_images)), StageTimer()
    shard = Shard(0, 0, tuple(source.entries()))
    assert list(Loader(source, model(), 2, 2, LIMITS).load_batches([shard], timer))
    seconds = timer.total_seconds()
    assert set(seconds) == set(STAGES) and seconds["decode"] > 0 and seconds["forward"] == 0


def test_decoding_ahead_changes_no_batch(mixed_images):
    def keys(overlap):
        source = Folder(str(mixed_images))
        loader = Loader(source, model(), 2, 2, LIMITS, overlap=overlap)
        return [
            [item.key for item in batch.items]
            for batch in loader.load_batches([Shard(0, 0, tuple(source.entries()))])
        ]

    assert sorted(keys(True)) == sorted(keys(False)) != []


@pytest.mark.parametrize("views", [Views(), Views(flip=True), Views(tile=64)])
def test_what_a_batch_holds_depends_on_neither_workers_nor_overlap(mixed_images, views):
    def batches_of(workers, overlap):
        source = Folder(str(mixed_images))
        loader = Loader(source, model(), 2, workers, LIMITS, views, overlap=overlap)
        batches = loader.load_batches([Shard(0, 0, tuple(source.entries()))])
        return sorted([(one.item.key, one.view_index) for one in batch.inputs] for batch in batches)

    expected = batches_of(1, True)
    assert expected == batches_of(1, False) == batches_of(4, False) == batches_of(4, True) != []


def test_inputs_are_brought_to_the_device_ahead(mixed_images):
    def upload(pixels):
        return [one + 1 for one in pixels]

    source = Folder(str(mixed_images))
    shard = Shard(0, 0, tuple(source.entries()))
    plain = {
        one.item.key: one.pixels
        for batch in Loader(source, model(), 2, 2, LIMITS).load_batches([shard])
        for one in batch.inputs
    }
    loader, timer = Loader(source, model(), 2, 2, LIMITS, upload=upload), StageTimer()
    batches = loader.load_batches([shard], timer)
    there = {one.item.key: one.pixels for batch in batches for one in batch.inputs}
    assert there.keys() == plain.keys() and all(
        torch.equal(there[key], plain[key] + 1) for key in plain
    )
    assert timer.total_seconds()["copy"] >= 0


def test_in_turns_nothing_is_decoded_before_it_is_asked_for(mixed_images):
    source, made = Folder(str(mixed_images)), []
    loader = Loader(
        source, model(lambda image: made.append(1) or image), 1, 2, LIMITS, overlap=False
    )
    batches = loader.load_batches([Shard(0, 0, tuple(source.entries()))])
    next(batches)
    time.sleep(0.05)
    assert len(made) <= 3  # the images of one shape, not all six
    batches.close()
