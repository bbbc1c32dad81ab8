"""Classes of whole images: whose label it is, and the figures."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import ConfigError
from pipeline.results.evaluation.evaluate import evaluate
from pipeline.results.evaluation.label_files import read_label_file
from pipeline.results.evaluation.label_tables import read_label_table
from pipeline.results.evaluation.result import Evaluation
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.made_runs import Row, made_run
from tests.helpers.pictures import picture

NAMES = ("cat", "dog", "crane", "crane", "owl", "emu")


def ranked(*class_ids: int) -> list[dict[str, Any]]:
    return [{"class_id": c, "score": 0.5 / (i + 1), "rank": i + 1} for i, c in enumerate(class_ids)]


ROWS = [
    Row("cat/1.jpg", found=ranked(0, 1, 2, 4, 5)),
    Row("cat/2.jpg", found=ranked(1, 0, 2, 4, 5)),
    Row("crane/x/3.jpg", found=ranked(3, 0, 2, 4, 5)),
    Row("dog/4.jpg", None, status="empty", error="0 bytes"),
    Row("dog/5.jpg", found=ranked(2, 3, 4, 5, 0)),
]
TRUTH = [
    ("cat/1.jpg", "cat"),
    ("cat/2.jpg", "Cat"),
    ("crane/x/3.jpg", "crane"),
    ("dog/4.jpg", "dog"),
    ("dog/5.jpg", "dog"),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(
        tmp_path / "run", ROWS, "classify", NAMES, shard_size=2, top_k=5, input=tmp_path / "photos"
    )


def evaluated(run: Path, truth: Path) -> Evaluation:
    return evaluate(FinishedRun.open(run), truth)


def as_csv(path: Path, pairs: list) -> Path:
    path.write_text("key,label\n" + "".join(f"{key},{label}\n" for key, label in pairs))
    return path


def as_parquet(path: Path, pairs: list) -> Path:
    keys, labels = zip(*pairs, strict=True)
    pq.write_table(
        pa.table({"label": pa.array(labels).dictionary_encode(), "key": keys, "more": keys}), path
    )
    return path


def as_json(path: Path, pairs: list) -> Path:
    path.write_text(json.dumps(dict(pairs)))
    return path


def as_rows(path: Path, pairs: list) -> Path:
    path.write_text(json.dumps([{"key": key, "label": label} for key, label in pairs]))
    return path


def as_folders(path: Path, pairs: list) -> Path:
    for key, _ in pairs:
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).touch()
    return path


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (as_csv, "t.csv"),
        (as_parquet, "t.parquet"),
        (as_json, "t.json"),
        (as_rows, "t.json"),
        (as_folders, "copies"),
    ],
)
def test_every_form_of_truth_gives_the_same(
    write: Callable, name: str, run: Path, tmp_path: Path
) -> None:
    result = evaluated(run, write(tmp_path / name, TRUTH))
    top = result.figures["labels"]
    assert top["top1"] == pytest.approx(2 / 5) and top["top5"] == pytest.approx(
        3 / 5
    )  # the two cranes are one class
    assert top["mean_class_accuracy"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (result.images.truth, result.images.failed) == (5, 1)
    assert "Several classes have one name and count as one: crane" in "\n".join(result.notes)


LABELS = ["no", "on", "null", "007", "1.10", "1e3", "~", "true", "a, b", "犬", "nan"]


def as_labels(path: Path, labels: list[str | None]) -> Path:
    """Write labels in the format of the suffix; None is a missing label."""
    keys = [f"{i}.jpg" for i in range(len(labels))]
    rows = [{"key": key, "label": label} for key, label in zip(keys, labels, strict=True)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"key": keys, "label": pa.array(labels, pa.string())}), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, ["key", "label"], delimiter="," if path.suffix == ".csv" else "\t"
            )
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json", ".jsonl"])
def test_labels_are_the_text_as_written_and_missing_ones_are_missing(
    suffix: str, tmp_path: Path
) -> None:
    rows = [Row(f"{i}.jpg", found=ranked(i)) for i in range(len(LABELS))]
    rows += [Row(f"{len(LABELS) + i}.jpg", found=ranked(0)) for i in range(3)]
    run = made_run(tmp_path / "run", sorted(rows, key=lambda row: row.key), "classify", LABELS)
    truth = as_labels(tmp_path / f"t{suffix}", [*LABELS, None, "", " "])
    result = evaluated(run, truth)
    assert result.images.truth == len(LABELS)
    assert result.figures["labels"]["top1"] == 1.0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "key,label\na.jpg,dog\nb.jpg,NaN\nc.jpg,null\nd.jpg,\ne.jpg,' '\n"),
        ("t.json", '{"a.jpg": "dog", "b.jpg": NaN, "c.jpg": null, "d.jpg": "", "e.jpg": " "}'),
        ("t.jsonl", '{"key": "a.jpg", "label": "dog"}\n\n{"key": "b.jpg", "label": NaN}\n'),
    ],
)
def test_null_and_nan_are_no_labels(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content.replace("' '", " "))
    run = FinishedRun.open(made_run(tmp_path / "run", [Row("a.jpg")], "classify", NAMES))
    assert read_label_file(run, tmp_path / name).to_pylist() == [{"key": "a.jpg", "label": "dog"}]


def test_numbers_of_a_table_are_class_ids(tmp_path: Path) -> None:
    table = pa.table({"key": ["a.jpg", "b.jpg"], "label": [2.0, float("nan")]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_label_table(tmp_path / "t.parquet", ()).column("label").to_pylist() == ["2", None]


def test_the_runs_own_folders_are_truth(run: Path, tmp_path: Path) -> None:
    """Of the keys, so the images need not be there any more."""
    (tmp_path / "photos").mkdir()
    assert evaluated(run, tmp_path / "photos").figures["labels"]["top1"] == pytest.approx(2 / 5)


def test_ids_tell_classes_of_one_name_apart(run: Path, tmp_path: Path) -> None:
    ids = {"cat": 0, "crane": 2, "dog": 1}
    result = evaluated(
        run, as_csv(tmp_path / "t.csv", [(key, ids[label.casefold()]) for key, label in TRUTH])
    )
    assert result.figures["labels"]["top1"] == pytest.approx(1 / 5)  # the other crane was found
    assert not any("one name" in note for note in result.notes)


def test_one_image_finds_a_class_once(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run", [Row("a.jpg", found=ranked(3, 2, 0))], "classify", NAMES, top_k=5
    )
    crane = evaluated(run, as_csv(tmp_path / "t.csv", [("a.jpg", "crane")])).rows()[1]
    assert (crane["class"], crane["predictions"], crane["threshold"], crane["recall"]) == (
        "crane",
        1,
        0.5,
        1.0,
    )


def test_a_name_comes_before_an_id(tmp_path: Path) -> None:
    """Digits may not be in the order of their ids, and an exact name wins over another case."""
    names = ("1", "0", "Cardigan", "cardigan")
    run = made_run(
        tmp_path / "run",
        [Row(f"{i}.jpg", found=ranked(i)) for i in range(4)],
        "classify",
        names,
        top_k=1,
    )
    truth = as_csv(
        tmp_path / "t.csv",
        [("0.jpg", "1"), ("1.jpg", "0"), ("2.jpg", "Cardigan"), ("3.jpg", "cardigan")],
    )
    assert evaluated(run, truth).figures["labels"]["top1"] == 1.0


def test_rows_and_confusion(run: Path, tmp_path: Path) -> None:
    result = evaluated(run, as_csv(tmp_path / "t.csv", TRUTH))
    cat = result.rows()[0]
    assert (cat["class"], cat["truth"], cat["predictions"], cat["top1"], cat["top5"]) == (
        "cat",
        2,
        4,
        0.5,
        1.0,
    )
    # cat's scores: 0.5 right, 0.25 right, 0.25 wrong, 0.1 wrong
    assert (cat["threshold"], cat["precision"], cat["recall"]) == (0.25, pytest.approx(2 / 3), 1.0)
    at = {name: i for i, name in enumerate(result.confusion.names)}
    assert at.keys() == {"cat", "dog", "crane", "owl", "emu", "no prediction"}
    expected = {
        ("cat", "cat"),
        ("cat", "dog"),
        ("crane", "crane"),
        ("dog", "no prediction"),
        ("dog", "crane"),
    }
    rows, columns = np.nonzero(result.confusion.counts)
    assert {
        (result.confusion.names[t], result.confusion.names[p])
        for t, p in zip(rows, columns, strict=True)
    } == expected
    assert result.confusion.counts.sum() == 5
    assert result.curves is not None and result.curves.shape == (101, len(result.rows()))


def test_a_label_that_the_model_does_not_know_is_never_found(run: Path, tmp_path: Path) -> None:
    result = evaluated(run, as_csv(tmp_path / "t.csv", [*TRUTH[:1], ("cat/2.jpg", "yak")]))
    assert result.figures["labels"]["top1"] == pytest.approx(1 / 2)
    said = "\n".join(result.notes)
    assert "1 of truth's labels are unknown to the model, so never found: yak." in said
    assert "3 images of the run are not in truth" in said


def test_top5_needs_five(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [Row("a.jpg", found=ranked(0, 1))], "classify", NAMES, top_k=2)
    result = evaluated(run, as_csv(tmp_path / "t.csv", [("a.jpg", "cat")]))
    assert result.figures["labels"]["top5"] is None and result.figures["labels"]["top1"] == 1.0
    assert "top5 is not known" in "\n".join(result.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,label\n", "no labels in it"),
        (
            "file,class\na.jpg,cat\n",
            "expected a CSV, TSV, Parquet, JSON or JSONL file with the columns key",
        ),
        ("key,label\ncat/1.jpg,cat\ncat/1.jpg,dog\n", "'cat/1.jpg' has several labels"),
        (
            "key,label\ncat/1.jpg,n01440764\n",
            r"None of truth's labels is a class of the run: n01440764. .*class ids from 0 to 5",
        ),
        ("key,label\ncat/1.jpg,17\n", "None of truth's labels"),
        ("key,label\nother.jpg,cat\n", "None of truth's 1 images is in the run"),
    ],
)
def test_truth_that_cannot_be_meant_is_refused(
    text: str, said: str, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        evaluated(run, tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["t.txt", "t.json", "t.parquet", "nothing"])
def test_files_that_cannot_be_read_are_refused(name: str, run: Path, tmp_path: Path) -> None:
    if name != "nothing":
        (tmp_path / name).write_text("what")
    with pytest.raises(ConfigError, match=f"truth=.*{name}: "):
        evaluated(run, tmp_path / name)


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_a_real_run_in_class_folders(
    task: str, tmp_path: Path, annotate: Callable[..., Path]
) -> None:
    """With random weights the hits depend on the seed, so they are counted from the rows."""
    for i, name in enumerate(("tench", "goldfish", "goldfish")):
        (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
        picture(64, 64, seed=i).save(tmp_path / "in" / name / f"{i}.png")
    own = ("model=squeezenet1_1", "weights=random", "overlays=false")
    run = annotate(f"task={task}", f"input={tmp_path / 'in'}", *own)
    result = evaluated(run, tmp_path / "in")
    rows = FinishedRun.open(run).open_dataset("predictions").to_table().to_pylist()
    best = [row for row in rows if row.get("rank", 1) == 1]
    right = sum(row["class_name"] == row["key"].split("/")[0] for row in best)
    assert result.images.truth == 3 and result.figures["labels"]["top1"] == pytest.approx(right / 3)


def test_duplicates_are_not_evaluated(run: Path, tmp_path: Path) -> None:
    twins = [
        Row(f"z/{i}.jpg", None, status="duplicate", error="the same bytes as dog/5.jpg")
        for i in range(3)
    ]
    skipping = made_run(
        tmp_path / "skipping", [*ROWS, *twins], "classify", NAMES, shard_size=2, top_k=5
    )
    truth = as_csv(tmp_path / "t.csv", [*TRUTH, *((twin.key, "dog") for twin in twins)])
    found, plain = evaluated(skipping, truth), evaluated(run, as_csv(tmp_path / "plain.csv", TRUTH))
    assert (
        found.figures == plain.figures
        and found.rows() == plain.rows()
        and found.images.duplicates == 3
    )
    assert found.confusion.counts.tolist() == plain.confusion.counts.tolist()
