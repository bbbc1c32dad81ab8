"""Every part that ships, found by its configuration file, keeps its kind's contract."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from pipeline.config.instantiate import instantiate
from pipeline.config.task_classes import find_task
from pipeline.core.hashing import hash_file
from pipeline.core.output_protocols import SinkContext
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import Task
from pipeline.core.schema import make_image_rows, make_images_schema
from pipeline.core.task_roles import Content
from pipeline.core.types import Item, Model, Status
from pipeline.outputs.sinks.parquet import sort_by_image_id
from tests.contract.new_components.task_toy import Toy
from tests.contract.new_components.task_toy_label import ToyLabel
from tests.helpers.imports import COMPONENT_FOLDERS
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for
from tests.helpers.videos import make_video, steady

SPEC = spec_of("__background__", "dog", "cat", keypoint_names=("nose", "left_eye"), embedding_dim=4)
OUTPUT = {  # what a network returns for one image, whatever the task
    "boxes": torch.tensor([[1.0, 2.0, 30.0, 20.0]]),
    "labels": torch.tensor([1]),
    "scores": torch.tensor([0.75]),
    "masks": torch.full((1, 1, 28, 28), 0.9),
    "keypoints": torch.tensor([[[3.0, 4.0, 1.0], [5.0, 6.0, 1.0]]]),
    "keypoints_scores": torch.tensor([[2.0, -1.0]]),
    "logits": torch.tensor([0.0, 2.0, 1.0]),
    "embedding": torch.tensor([3.0, 0.0, 4.0, 0.0]),
    "probabilities": torch.tensor([0.1, 0.7, 0.2])[:, None, None].expand(3, 8, 10),
}


def names(kind: str) -> list[str]:
    return sorted(path.stem for path in (find_resource("conf") / kind).glob("*.yaml"))


def part(kind: str, name: str) -> Any:
    node = settings_for(
        f"{kind}={name if kind != 'sink' else f'[{name}]'}", f"input={SAMPLES}"
    ).components[kind]
    more = {"spec": SPEC} if kind == "task" else {}
    return instantiate(node[name] if kind == "sink" else node, **more)


def test_every_kind_has_a_folder_of_code_and_of_configuration() -> None:
    folders = {path.name for path in find_resource("conf").iterdir() if path.is_dir()}
    kinds = sorted(folders - {"experiment"})  # settings that belong together, no part
    assert kinds == sorted(COMPONENT_FOLDERS)
    for kind in kinds:
        folder = COMPONENT_FOLDERS[kind]
        code = {path.stem for path in (REPOSITORY / "pipeline" / folder).glob("*.py")} - {
            "__init__"
        }
        assert code == set(names(kind))
        for name in names(kind):
            node = OmegaConf.load(find_resource("conf") / kind / f"{name}.yaml")
            places = (
                f"{name}._target_",
                f"{kind}._target_",
                "_target_",
            )  # a sink's, one that also sets other parts, plain
            target = next(filter(None, (OmegaConf.select(node, place) for place in places)))
            assert str(target).startswith(f"pipeline.{folder.replace('/', '.')}.{name}.")
            assert (REPOSITORY / "tests" / folder / f"test_{name}.py").is_file()


@pytest.mark.parametrize("name", names("task"))
def test_a_task_makes_rows_of_its_schema(name: str) -> None:
    task: Task = part("task", name)
    assert task.name == name
    rows = task.make_rows(
        [OUTPUT, OUTPUT], [Item(4, "a.jpg", (40, 50)), Item(9, "b/c.png", (40, 50))]
    )
    assert rows.schema.equals(task.schema, check_metadata=True)
    assert rows.schema.names[:5] == ["image_id", "key", "class_id", "class_name", "score"]
    assert sorted(set(rows["image_id"].to_pylist())) == [4, 9]
    image = torch.zeros(3, 40, 50, dtype=torch.uint8)
    drawn = task.draw(image, rows.slice(0, 1))
    assert drawn.dtype == torch.uint8 and drawn.shape[0] == 3 and not image.any(), (
        "drawing leaves its input alone"
    )
    for long_side in (320, 33):
        assert tuple(task.draw(image, rows.slice(0, 1), long_side).shape) == (
            3,
            round(long_side * 0.8),
            long_side,
        )


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("classify", {"labels", "further classes", "scores"}),
        ("video", {"labels", "further classes", "scores"}),
        ("embed", {"labels", "scores", "embeddings"}),
        ("detect", {"boxes", "scores"}),
        ("instances", {"boxes", "masks", "scores"}),
        ("segment", {"masks", "areas", "scores"}),
        ("keypoints", {"boxes", "keypoints", "scores"}),
    ],
)
def test_the_contents_that_a_task_declares(name: str, contents: set[str]) -> None:
    assert find_task(name).contents == contents


@pytest.mark.parametrize("name", names("task"))
def test_a_task_declares_the_contents_whose_columns_it_has(name: str) -> None:
    in_every_task = {Content.SCORES, Content.LABELS}  # the columns, not what they mean
    columns = {content for content in Content if content.is_in(part("task", name).schema)}
    assert find_task(name).contents <= columns
    assert columns - in_every_task <= find_task(name).contents


TOYS: dict[str, Task] = {"toy": Toy(SPEC, decimals=2), "toy_label": ToyLabel(SPEC)}


@pytest.mark.parametrize("name", [*names("task"), *TOYS])
def test_a_task_has_the_columns_that_its_declarations_need(name: str) -> None:
    task: Task = TOYS[name] if name in TOYS else part("task", name)
    methods = () if isinstance(task.evaluations, str) else task.evaluations
    for role in (task.comparison, *methods, *task.contents):
        missing = set(role.columns) - set(task.schema.names)
        assert not missing, f"{name} declares {role!r}, which needs {sorted(missing)}"
    assert task.contents - {Content.SCORES}, "nothing in the rows can be exported"


def test_tasks_are_found_without_torch() -> None:
    code = "import sys; from pipeline.config.task_classes import list_tasks; print(*list_tasks())"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [" ".join(names("task")), "False"]


@pytest.mark.parametrize("name", names("source"))
def test_a_source_lists_sorted_keys_and_reads_what_it_lists(name: str, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES, tmp_path / "in")
    make_video(tmp_path / "in" / "desk" / "clip.mp4", steady(80))
    for kind in ("tar", "zip"):
        shutil.make_archive(str(tmp_path / "in" / "desk" / "packed"), kind, SAMPLES)
    (tmp_path / "in" / "list.txt").write_text(
        "\n".join(path.name for path in (tmp_path / "in").glob("*.jpg"))
    )
    pq.write_table(
        pa.table({"image": [path.read_bytes() for path in SAMPLES.glob("*.jpg")]}),
        tmp_path / "in" / "a.parquet",
    )
    given = tmp_path / "in" / ("list.txt" if name == "manifest" else "")
    with closing(
        instantiate(
            settings_for(f"source={name}", "model=codes", f"input={given}").components["source"]
        )
    ) as source:
        entries = list(source.entries())
        keys = [entry.key for entry in entries]
        assert len(keys) > 1 and keys == sorted(set(keys)) and entries == list(source.entries())
        assert source.identity.startswith(f"{name}:{tmp_path / 'in'}") and source.decoder
        assert all(len(entry.carried) == len(source.columns) for entry in entries)
        shapes = [
            (
                *((source.clip_length,) if source.clip_length else ()),
                3,
                *source.read_size_hw(one, 10**8),
            )
            for one in entries
        ]
        for _, group in groupby(
            zip(entries, shapes, strict=True), lambda pair: source.group_key(pair[0])
        ):
            together, expected = zip(*group, strict=True)
            read = list(source.read(together, 10**8, lambda stage: nullcontext()))
            assert [tuple(pixels.shape) for pixels in read] == list(expected)
            assert all(pixels.dtype == torch.uint8 for pixels in read)


@pytest.mark.parametrize("name", names("engine"))
def test_an_engine_gives_what_the_network_gives(name: str) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 5, 3)

        def forward(self, inputs: list, sizes_hw: list) -> list:
            return [
                {"logits": row} for row in self.layer(torch.stack(list(inputs))).mean(dim=(2, 3))
            ]

    engine = instantiate(settings_for(f"engine={name}", "device=cpu").components["engine"])
    network = Network()
    images = [torch.rand(3, 9, 9) for _ in range(4)]
    with torch.inference_mode():
        expected = network(images, [])
    engine.prepare(Model(network, lambda x: x, lambda size: None))
    for one, other in zip(engine.forward(images, [(9, 9)] * 4), expected, strict=True):
        bound = 1e-5 if engine.is_exact else 2e-2
        torch.testing.assert_close(one["logits"], other["logits"], atol=bound, rtol=bound)


OF_AN_EXECUTOR = {
    "ray": ["executor.workers=2"],
    "slurm": ["executor.nodes=2", "executor.cluster=local"],
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if name in OF_AN_EXECUTOR else [])
        for name in names("executor")
    ],
)
def test_an_executor_has_every_shard_done_with_the_same_bytes(
    name: str, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    settings = ["model=codes", f"input={SAMPLES}", "shard_size=3", "overlays=false"]
    expected = parts_of(annotate(*settings))
    own = [
        f"executor={name}",
        *OF_AN_EXECUTOR.get(name, []),
        f"output={tmp_path / 'out'}",
        "log_level=error",
    ]
    command = [sys.executable, "-m", "pipeline", "run", *settings, *own]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = (tmp_path / "out" / "latest").resolve()
    until = time.monotonic() + 120
    while (
        len(list((run / "_committed").glob("*.json"))) < 4 and time.monotonic() < until
    ):  # slurm does not wait
        time.sleep(0.2)
    assert parts_of(run) == expected and len(expected) == 8


def parts_of(run: Path) -> dict[str, str]:
    """SHA-256 by name."""
    return {
        str(path.relative_to(run)): hash_file(path)
        for path in sorted(run.glob("*/part-*"))
        if path.parent.name != "plan"
    }


@pytest.mark.parametrize("name", names("sink"))
@pytest.mark.parametrize("fails", [False, True])
def test_a_sink_writes_below_its_stage_only_and_the_same_bytes_in_any_order(
    name: str, fails: bool, tmp_path: Path
) -> None:
    task: Task = part("task", "instances")
    items = [
        Item(0, "a/x.jpg", (40, 50)),
        Item(1, "a/x.png", (40, 50)),
        Item(2, "bad.jpg", None, Status.CORRUPT, "why"),
    ]
    tables = []
    for item in items:
        rows = (
            task.make_rows([OUTPUT], [item])
            if item.status is Status.OK
            else task.schema.empty_table()
        )
        tables.append((make_image_rows([item], rows, make_images_schema(task.schema)), rows))

    def write(folder: Path, order: list[tuple[pa.Table, pa.Table]]) -> dict[str, bytes]:
        read_image = lambda key: torch.zeros(3, 40, 50, dtype=torch.uint8)  # noqa: E731
        context = SinkContext(folder / "stage", 3, task.schema, task.draw, read_image)
        with part("sink", name).open(context) as writer:
            for images, predictions in order:
                writer.write(images, predictions)
            if fails:
                raise KeyError("in the middle")
        assert {path.name for path in folder.iterdir()} == {"stage"}
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }

    if fails:
        with pytest.raises(KeyError):
            write(tmp_path / "a", tables)
        assert not list(tmp_path.rglob("*.parquet")), "a valid footer would prove nothing"
    else:
        assert write(tmp_path / "a", tables) == write(tmp_path / "b", tables[::-1]) != {}


def test_sorting_by_input_keeps_the_order_within_an_image() -> None:
    tables = [
        pa.table({"image_id": [2, 2], "n": [0, 1]}),
        pa.table({"image_id": [1, 2], "n": [5, 6]}),
    ]
    assert sort_by_image_id(tables).to_pydict() == {"image_id": [1, 2, 2, 2], "n": [5, 0, 1, 6]}
