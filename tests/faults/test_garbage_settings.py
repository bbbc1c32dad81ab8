"""Verbs that need a model, and evaluation, answer garbage with a documented exit code."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import cli
from tests.faults.test_garbage import DOCUMENTED
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

pytestmark = pytest.mark.long
FEW = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# --- words of settings

# What each verb is given before the garbage. None of these commands downloads or trains.
COMMANDS: dict[str, Sequence[str]] = {
    "run": ("task=detect", "model=codes", "input=pictures", "dry_run=true"),
    "sweep": ("task=detect", "model=codes", "input=pictures", "min_score=0.1,0.2", "dry_run=true"),
    "inspect": ("task=detect", "model=codes"),
    "models": (),
    "duplicates": ("input=pictures",),
    "bench": ("task=detect", "model=garbage.pt", "input=pictures"),
    "train": ("task=detect", "model=ssdlite320_mobilenet_v3_large", "train.data=garbage.json"),
    "anchors": ("task=detect", "model=ssdlite320_mobilenet_v3_large", "train.data=garbage.json"),
    "export-model": ("task=detect", "model=garbage.pt", "to=onnx"),
}
KEYS = (
    "task", "model", "input", "output", "source", "sink", "engine", "executor", "device", "limit",
    "batch_size", "shard_size", "workers", "classes", "exclude", "min_score", "categories",
    "preprocess", "channels", "levels", "bands", "tiles.size", "max_pixels", "memory", "model_args",
    "anchors.sizes", "backbone", "train.data", "train.epochs", "train.images", "examples", "to",
    "sort", "bench.images", "source.column", "hydra.run.dir", "experiment", "x", "", "+a", "~task",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([
        "", "null", "true", "-1", "0", "1e300", "nan", "[]", "[null]", "[[1]]", "{}", "{a: 1}", "{",
        "[", "'", '"', "${x}", "${oc.env:NONE}", "garbage.json", "garbage.yaml", "garbage.pt",
        "garbage.onnx", "garbage.safetensors", "pictures", "/", "..", "s3://", "file://", "a,b",
        "\udcff", "\0", "\n", "🙂", "x" * 5000,
    ]),
    st.text(max_size=12),
    st.integers().map(str),
)  # fmt: skip
WORDS = st.lists(
    st.one_of(st.tuples(st.sampled_from(KEYS), VALUES).map("=".join), st.text(max_size=12)),
    min_size=1,
    max_size=3,
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working folder with one picture, and files that are not what their names say."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    picture(32, 24).save(tmp_path / "pictures" / "a.png")
    for suffix in ("json", "yaml", "pt", "onnx", "safetensors"):
        (tmp_path / f"garbage.{suffix}").write_bytes(b"PK\x03\x04[{garbage")
    return tmp_path


def check(words: Sequence[str], unexpected: list[Exception]) -> None:
    unexpected.clear()
    code = cli.main(list(words))
    if unexpected:
        raise AssertionError(f"{list(words)} met {unexpected[0]!r}") from unexpected[0]
    assert code in DOCUMENTED


@pytest.mark.parametrize("verb", COMMANDS)
def test_words_of_every_kind(verb: str, desk: Path, unexpected: list[Exception]) -> None:
    @FEW
    @given(WORDS)
    def refuse_or_run(words: list[str]) -> None:
        check([verb, *COMMANDS[verb], *words], unexpected)

    refuse_or_run()


# --- models and annotations

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "images", "annotations", "categories", "id", "image_id", "category_id", "bbox", "name",
            "file_name", "key", "label", "width", "height", "segmentation", "a.png",
        ]),
        below,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
CONTENTS = st.one_of(
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(["key", "label", ",", "\n", '"', "a.png", "dog", "\t", ";"]), max_size=12
    )
    .map("".join)
    .map(str.encode),
    st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf", "key,label".encode("utf-16")]
    ),
)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "parquet", "xml", "yaml", "txt"])
def test_truth_of_every_kind(suffix: str, tmp_path: Path, unexpected: list[Exception]) -> None:
    (tmp_path / "in").mkdir()
    ranked = [{"class_id": 1, "score": 0.9, "rank": 1}]
    found = {"detect": [box(1, 0.9, 1, 2, 30, 40)], "classify": ranked}
    for task, predictions in found.items():
        made_run(tmp_path / task, [Row("a.png", found=predictions)], task, input=tmp_path / "in")
    truth = tmp_path / f"truth.{suffix}"

    @FEW
    @given(CONTENTS)
    def refuse_or_evaluate(content: bytes) -> None:
        truth.write_bytes(content)
        for task in found:
            check(["evaluate", f"run={tmp_path / task}", f"truth={truth}"], unexpected)

    refuse_or_evaluate()


@pytest.mark.parametrize(
    ("verb", "suffix"),
    [("train", "json"), ("train", "yaml"), ("train", "data"), ("anchors", "json")],
)
def test_annotations_of_every_kind(
    verb: str, suffix: str, desk: Path, unexpected: list[Exception]
) -> None:
    data = desk / f"data.{suffix}"

    @FEW
    @given(CONTENTS)
    def refuse(content: bytes) -> None:
        data.write_bytes(content)
        check([verb, *COMMANDS[verb], f"train.data={data}"], unexpected)

    refuse()


@pytest.mark.parametrize("suffix", ["pt", "onnx", "safetensors", "pt2"])
@pytest.mark.parametrize("verb", ["inspect", "export-model"])
def test_model_files_of_every_kind(
    verb: str, suffix: str, desk: Path, unexpected: list[Exception]
) -> None:
    contents: list[bytes] = [
        b"",
        b"\0" * 64,
        b"PK\x03\x04",
        b"\x80\x02.",
        b"\x80\x02}q\0.",
        b"[" * 9999,
    ]
    contents += [(2**60).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"{}"]
    model = desk / f"model.{suffix}"
    for content in contents:
        model.write_bytes(content)
        more = [word for word in COMMANDS[verb] if not word.startswith("model=")]
        check([verb, *more, f"model={model}", "trust_code=true"], unexpected)


def test_lists_of_every_kind(
    unexpected: list[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists that are no lists are refused with exit code 2."""
    monkeypatch.chdir(tmp_path)
    tables = {
        "empty.csv": b"",
        "bom.csv": b"\xef\xbb\xbf",
        "nameless.csv": b",,\n1,2,3\n",
        "twice.csv": b"path,path\na,b\n",
        "carried.csv": b"path,site,site\na.jpg,1,2\n",
        "reserved.csv": b"path,key\na.jpg,1\n",
        "planned.csv": b"path,at\na.jpg,1\n",
        "ragged.csv": b"path,site\na.jpg\n",
        "utf16.csv": "path\na.jpg".encode("utf-16"),
        "binary.csv": bytes(range(256)),
        "header.csv": b"path\n",
        "empty.parquet": b"",
        "text.parquet": b"path\na.jpg\n",
        "empty.txt": b"",
        "binary.txt": bytes(range(128, 256)),
    }
    for name, content in tables.items():
        (tmp_path / name).write_bytes(content)
        for source in ("manifest", "hf_parquet"):
            code = cli.main(
                ["run", "task=detect", "model=codes", f"source={source}", f"input={name}",
                 "output=out", "dry_run=true"]
            )  # fmt: skip
            assert (code in (0, 2), unexpected) == (True, []), (name, source)


def test_words_that_no_verb_can_use(
    unexpected: list[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in cli._VERBS:
        for word in (
            "",
            "=",
            "run=",
            "x=1",
            "task={",
            "input=[]",
            "task=null",
            "output=\0",
            "🙂=1",
        ):
            code = cli.main([verb, word])
            assert (code in DOCUMENTED, unexpected) == (True, []), (verb, word)
