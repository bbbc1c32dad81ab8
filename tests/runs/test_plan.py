import json
import re
import tracemalloc
from dataclasses import dataclass, field

import pytest

from pipeline.core.errors import ConfigError, InputChanged
from pipeline.core.passed_over import PassedOver
from pipeline.core.types import Entry
from pipeline.inputs.sources.folder import Folder
from pipeline.runs import plan_freezing as plan_module
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.plan_freezing import PlanDifference, find_new_entries, freeze_plan
from pipeline.runs.run_folder import RunFolder


@dataclass
class Listed:
    """A source of entries with these names. It counts the entries that were read."""

    names: list[str]
    sizes: dict[str, int] = field(default_factory=dict)
    identity: str = "folder:/somewhere"
    drawn: int = 0
    columns: tuple = ()
    hint_if_empty: str = ""
    passed_over: PassedOver = field(default_factory=PassedOver)

    def entries(self):
        for name in sorted(self.names):
            self.drawn += 1
            yield Entry(name, self.sizes.get(name, 10), 1_000_000_007)


def named(n, first=0):
    return [f"{i:04d}.jpg" for i in range(first, first + n)]


def begin(tmp_path, names, shard_size=4, limit=None):
    folder = RunFolder(tmp_path / "run")
    return folder, freeze_plan(folder, Listed(names), shard_size, limit, False)


def keys_by_shard(plan):
    return [[entry.key for entry in plan.read_shard(i).entries] for i in range(plan.n_shards)]


def ids_by_key(plan):
    shards = [plan.read_shard(i) for i in range(plan.n_shards)]
    return {
        entry.key: shard.first_image_id + i
        for shard in shards
        for i, entry in enumerate(shard.entries)
    }


def test_a_folder_without_a_plan_has_an_empty_one(tmp_path):
    plan = load_plan(RunFolder(tmp_path / "absent"))
    assert (
        plan.n_images,
        plan.n_shards,
        list(plan.entries_by_key()),
        list(plan.shard_sizes()),
    ) == (
        0,
        0,
        [],
        [],
    )


@pytest.mark.parametrize(
    "file",
    ["../x", "/x", "plan/../x.parquet", "plan/part-٣.parquet", "plan/part-00000000.parquet\n", ""],
)
def test_parts_have_the_names_that_runs_give_them(tmp_path, file):
    folder, _ = begin(tmp_path, named(3))
    path = folder.path / "plan" / "plan.json"
    path.write_text(
        json.dumps({"parts": [json.loads(path.read_text())["parts"][0] | {"file": file}]})
    )
    with pytest.raises(ConfigError, match="expected parts called"):
        load_plan(folder)


def test_an_empty_input_is_refused_and_leaves_no_plan(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match="No inputs found in /somewhere"):
        freeze_plan(folder, Listed([]), 4, None, False)
    assert load_plan(folder).parts == ()


@pytest.mark.parametrize(
    ("n", "shard_size", "sizes"),
    [
        (1, 4, [1]),
        (3, 4, [3]),
        (4, 4, [4]),
        (5, 4, [4, 1]),
        (8, 4, [4, 4]),
        (9, 4, [4, 4, 1]),
        (3, 1, [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("shards_per_part", [1, 2, 1000])
def test_the_input_is_cut_into_shards_in_order(
    tmp_path, monkeypatch, n, shard_size, sizes, shards_per_part
):
    monkeypatch.setattr(plan_module, "_SHARDS_PER_PART", shards_per_part)
    folder, plan = begin(tmp_path, named(n), shard_size)
    for found in (plan, load_plan(folder)):
        assert (found.n_images, found.n_shards) == (n, len(sizes))
        assert list(found.shard_sizes()) == list(enumerate(sizes))
        assert [len(found.read_shard(i)) for i in range(found.n_shards)] == sizes
        assert [key for keys in keys_by_shard(found) for key in keys] == named(n)
        assert ids_by_key(found) == {key: i for i, key in enumerate(named(n))}
        assert [found.read_shard(i).shard_id for i in range(found.n_shards)] == list(
            range(found.n_shards)
        )
        assert list(found.entries_by_key()) == list(Listed(named(n)).entries())
        assert len(found.parts) == -(-len(sizes) // shards_per_part)


def test_an_entry_keeps_its_size_and_its_time(tmp_path):
    folder = RunFolder(tmp_path / "run")
    source = Listed(["a.jpg", "\u202eb.jpg", "new\nline.jpg"], {"a.jpg": 2**40})
    freeze_plan(folder, source, 2, None, False)
    assert list(load_plan(folder).entries_by_key()) == list(source.entries())


def test_a_plan_is_not_cut_anew_when_the_shard_size_changes(tmp_path):
    folder, first = begin(tmp_path, named(5), 4)
    again = freeze_plan(folder, Listed(named(5)), 2, None, False)
    assert keys_by_shard(again) == keys_by_shard(first)


def test_nothing_of_the_plan_is_visible_before_it_is_whole(tmp_path):
    folder = RunFolder(tmp_path / "run")

    class Breaks(Listed):
        def entries(self):
            yield from super().entries()
            raise OSError("the listing broke")

    with pytest.raises(OSError, match="the listing broke"):
        freeze_plan(folder, Breaks(named(9)), 4, None, False)
    assert load_plan(folder).n_images == 0
    with folder.lock():
        assert freeze_plan(folder, Listed(named(3)), 4, None, False).n_images == 3


# --- limit


@pytest.mark.parametrize("limit", [1, 4, 5, 9, 10, 100])
def test_a_limit_takes_the_first(tmp_path, limit):
    _, plan = begin(tmp_path, named(10), 4, limit)
    assert [entry.key for entry in plan.entries_by_key()] == named(min(limit, 10))


def test_a_limit_does_not_list_the_rest(tmp_path):
    source = Listed(named(1000))
    freeze_plan(RunFolder(tmp_path / "run"), source, 4, 5, False)
    assert source.drawn <= 6


def test_a_limited_plan_does_not_grow(tmp_path):
    folder, _ = begin(tmp_path, named(10), 4, 5)
    again = freeze_plan(folder, Listed(["0000-new.jpg", *named(10)]), 4, 5, False)
    assert [entry.key for entry in again.entries_by_key()] == named(5)


# --- growth


@pytest.mark.parametrize("shards_per_part", [1, 1000])
def test_files_that_come_later_become_further_shards_and_old_ids_stay(
    tmp_path, monkeypatch, shards_per_part
):
    monkeypatch.setattr(plan_module, "_SHARDS_PER_PART", shards_per_part)
    folder, first = begin(tmp_path, named(5), 4)
    before, ids = keys_by_shard(first), ids_by_key(first)
    later = [
        "0000a.jpg",
        "0002a.jpg",
        "9.jpg",
        "a/b.jpg",
        "z.jpg",
    ]  # before, among and behind the old ones
    grown = freeze_plan(folder, Listed([*named(5), *later]), 4, None, False)
    assert keys_by_shard(grown)[: len(before)] == before
    assert keys_by_shard(grown)[len(before) :] == [later[:4], later[4:]]
    assert ids_by_key(grown) == ids | {key: 5 + i for i, key in enumerate(later)}
    assert [entry.key for entry in grown.entries_by_key()] == sorted([*named(5), *later])
    assert ids_by_key(load_plan(folder)) == ids_by_key(grown)


def test_a_plan_can_grow_again_and_again(tmp_path):
    folder, plan = begin(tmp_path, ["m.jpg"])
    names = ["m.jpg"]
    for name in ("z.jpg", "a.jpg", "n.jpg"):
        names.append(name)
        plan = freeze_plan(folder, Listed(names), 4, None, False)
        assert keys_by_shard(plan) == [[one] for one in names]
    assert freeze_plan(folder, Listed(names), 4, None, False).parts == plan.parts


def test_an_unchanged_input_leaves_the_plan_as_it_is(tmp_path):
    folder, first = begin(tmp_path, named(5))
    before = {path: path.stat().st_mtime_ns for path in (folder.path / "plan").iterdir()}
    again = freeze_plan(folder, Listed(named(5)), 4, None, False)
    assert again.parts == first.parts
    assert {path: path.stat().st_mtime_ns for path in (folder.path / "plan").iterdir()} == before


# --- changes


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Listed(named(5), {"0002.jpg": 11}), [r"changed \(1\): 0002\.jpg"]),
        (Listed(named(4)), [r"removed \(1\): 0004\.jpg"]),
        (Listed(named(4, first=1)), [r"removed \(1\): 0000\.jpg"]),
        (Listed([]), [r"removed \(5\): 0000\.jpg, 0001\.jpg"]),
        (
            Listed(named(3), {"0001.jpg": 0}),
            [r"changed \(1\): 0001\.jpg", r"removed \(2\): 0003\.jpg, 0004\.jpg"],
        ),
    ],
)
@pytest.mark.parametrize("limit", [None, 5])
def test_what_changed_or_is_gone_is_named_and_refused(tmp_path, source, said, limit):
    folder, plan = begin(tmp_path, named(5))
    with pytest.raises(InputChanged) as caught:
        freeze_plan(folder, source, 4, limit, False)
    for text in (*said, str(folder.path), "changed=accept"):
        assert re.search(text, str(caught.value))
    assert keys_by_shard(load_plan(folder)) == keys_by_shard(plan)


def test_a_file_written_anew_with_the_same_size_is_changed(tmp_path):
    folder, _ = begin(tmp_path, ["a.jpg"])

    class Later(Listed):
        def entries(self):
            yield Entry("a.jpg", 10, 1_000_000_008)

    with pytest.raises(InputChanged, match=r"changed \(1\): a\.jpg"):
        freeze_plan(folder, Later(["a.jpg"]), 4, None, False)


def test_a_long_list_of_changes_is_counted_and_shortened(tmp_path):
    folder, _ = begin(tmp_path, named(3000), 1000)
    with pytest.raises(InputChanged, match=r"removed \(3000\): 0000\.jpg.* and \d+ more") as caught:
        freeze_plan(folder, Listed([]), 4, None, False)
    assert len(str(caught.value)) < 1000


def test_accepted_changes_keep_the_plan_and_let_it_grow(tmp_path):
    folder, first = begin(tmp_path, named(5))
    source = Listed([*named(4), "new.jpg"], {"0000.jpg": 99})
    grown = freeze_plan(folder, source, 4, None, True)
    assert keys_by_shard(grown) == [*keys_by_shard(first), ["new.jpg"]]


def test_a_refusal_leaves_the_plan_as_it_was(tmp_path):
    folder, first = begin(tmp_path, named(5))
    with pytest.raises(InputChanged):
        freeze_plan(folder, Listed([*named(5), "new.jpg"], {"0000.jpg": 99}), 4, None, False)
    assert load_plan(folder).parts == first.parts


# --- the merge itself


def entries(text):
    """`a1 b2` -> entries a of size 1 and b of size 2."""
    return [Entry(word[0], int(word[1:] or 1), 0) for word in text.split()]


@pytest.mark.parametrize(
    ("planned", "listed", "new", "changed", "removed"),
    [
        ("", "", "", "", ""),
        ("", "a b", "ab", "", ""),
        ("a b", "", "", "", "ab"),
        ("a b", "a b", "", "", ""),
        ("b", "a b c", "ac", "", ""),
        ("a b c", "b", "", "", "ac"),
        ("a1 b1", "a2 b1", "", "a", ""),
        ("a b1 d", "b2 c e", "ce", "b", "ad"),
        ("a c e", "b d f", "bdf", "", "ace"),
        ("z", "a", "a", "", "z"),
    ],
)
def test_additions(planned, listed, new, changed, removed):
    difference = PlanDifference()
    found = [entry.key for entry in find_new_entries(entries(planned), entries(listed), difference)]
    assert found == list(new)
    assert (list(difference.changed), list(difference.removed)) == (list(changed), list(removed))
    assert difference.new == len(new)


def test_the_merge_streams():
    def endless():
        for i in range(10**9):
            yield Entry(f"{i:010d}", 1, 0)

    found = find_new_entries(iter([Entry("0000000001", 1, 0)]), endless(), PlanDifference())
    assert [next(found).key for _ in range(3)] == ["0000000000", "0000000002", "0000000003"]


class Many(Listed):
    def entries(self):
        return (
            Entry(f"a/folder/of/images/{i:08d}.jpg", i, 1_700_000_000_000_000_000 + i)
            for i in range(10_000)
        )


def test_no_object_is_kept_for_each_input(tmp_path):
    """10,000 entries in a list are more than 3 MB; a million would be 300."""
    folder, source = RunFolder(tmp_path / "run"), Many([])
    freeze_plan(
        folder, Listed(["a.jpg"]), 1, None, False
    )  # what libraries keep from their first use
    folder = RunFolder(tmp_path / "many")
    tracemalloc.start()
    try:
        for _ in ("begun", "resumed"):
            plan = freeze_plan(folder, source, 256, None, False)
        assert sum(size for _, size in plan.shard_sizes()) == plan.n_images == 10_000
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()


def on_disk(tmp_path, *names):
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"x")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder, Folder(str(tmp_path / "in"))


def test_what_was_accepted_is_not_asked_again(tmp_path):
    folder, source = on_disk(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    freeze_plan(folder, source, 2, None, accept_changes=False)
    (source.listing.root / "a.jpg").write_bytes(b"longer than before")
    (source.listing.root / "c.jpg").unlink()
    with pytest.raises(InputChanged):
        freeze_plan(folder, source, 2, None, accept_changes=False)
    freeze_plan(folder, source, 2, None, accept_changes=True)
    plan = freeze_plan(folder, source, 2, None, accept_changes=False)
    assert [entry.key for entry in plan.entries_by_key()] == ["a.jpg", "b.jpg", "c.jpg"]
    assert plan.read_shard(0).entries[0].size == len(b"longer than before")
    (source.listing.root / "c.jpg").write_bytes(b"back again")
    with pytest.raises(InputChanged, match=r"c\.jpg"):
        freeze_plan(folder, source, 2, None, accept_changes=False)


def test_a_limit_leaves_room_for_later_files(tmp_path):
    folder, source = on_disk(tmp_path, "a.jpg", "b.jpg")
    assert freeze_plan(folder, source, 2, 3, accept_changes=False).n_images == 2
    for name in ("c.jpg", "d.jpg"):
        (source.listing.root / name).write_bytes(b"x")
    assert freeze_plan(folder, source, 2, 3, accept_changes=False).n_images == 3
    assert freeze_plan(folder, source, 2, 3, accept_changes=False).n_images == 3


def test_the_parts_are_named_in_plan_json(tmp_path):
    folder, _ = begin(tmp_path, named(9))
    content = json.loads((folder.path / "plan" / "plan.json").read_text())
    assert [(folder.path / part["file"]).is_file() for part in content["parts"]] == [True]
    assert sum(part["images"] for part in content["parts"]) == 9


def test_parts_of_one_listing_are_open_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.plan_freezing._SHARDS_PER_PART", 2)
    names = [f"{i:02d}.jpg" for i in range(40)]
    folder = RunFolder(tmp_path / "run")
    freeze_plan(folder, Listed(names[::2]), 1, None, False)
    plan = freeze_plan(folder, Listed(names), 1, None, False)
    assert [part.listing for part in plan.parts] == [0] * 10 + [1] * 10
    opened = [0]
    real = Plan._entries_of

    def counted(self, part):
        opened[0] += 1
        yield from real(self, part)
        opened[0] -= 1

    monkeypatch.setattr(Plan, "_entries_of", counted)
    keys = []
    for entry in plan.entries_by_key():
        assert opened[0] <= 2
        keys.append(entry.key)
    assert keys == names
