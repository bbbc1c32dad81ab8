"""Components are built from configuration nodes, and only from classes of this project."""

import shutil
import signal
import subprocess

import pytest
from omegaconf import OmegaConf

import pipeline.cli
from pipeline.config.instantiate import find_class, instantiate
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.outputs.sinks.parquet import Parquet
from tests.helpers.imports import COMPONENT_FOLDERS
from tests.helpers.pictures import spec_of


def test_a_node_becomes_its_class_with_its_other_keys_as_arguments():
    sink = instantiate(
        {"_target_": "pipeline.outputs.sinks.parquet.Parquet", "compression": "snappy"}
    )
    assert isinstance(sink, Parquet) and sink.compression == "snappy"


def test_presets_are_no_argument_but_extra_keywords_are():
    node = {"_target_": "pipeline.tasks.classify.Classify", "presets": {"top_k": 9}, "top_k": 1}
    assert instantiate(node, spec=spec_of("cat", "dog")).categories == ("cat", "dog")


FOREIGN = [
    "",
    "Parquet",
    "os.system",
    "shutil.rmtree",
    "subprocess.Popen",
    "builtins.eval",
    "torch.load",
    "pipeline",
    "pipeline.Parquet",
    "pipelineother.sink.Parquet",
    "xpipeline.sink.parquet.Parquet",
    "pipeline.cli.signal",  # a module that a module of the project imports
    "pipeline.cli.signal.signal",
    "pipeline.cli.main",  # a function
    "pipeline.runs.fingerprint.subprocess",
    "pipeline.runs.fingerprint.subprocess.Popen",
    "pipeline.runs.fingerprint.Path",  # a class of another package
    "pipeline.inference.batching.Thread",
    "pipeline.runs.run_folder.shutil.rmtree",
    "pipeline.runs.run_folder.os.replace",
    "pipeline.outputs.sinks.parquet",
    "pipeline.outputs.sinks.parquet.",
    "pipeline.outputs.sinks.parquet.Parqet",
    "pipeline.outputs.sinks.absent.Parquet",
    "pipeline..parts.build",
    "pipeline.outputs.sinks.parquet.Parquet.open",
    "pipeline.outputs.sinks.parquet.Parquet.__init__",
    "pipeline.outputs.sinks.parquet._Writer.__class__",
]


@pytest.mark.parametrize("target", FOREIGN)
def test_a_target_that_is_not_a_class_of_the_project_is_refused(target, monkeypatch):
    def called(*_):
        pytest.fail(f"{target} was called")

    for module, name in (
        (shutil, "rmtree"),
        (subprocess, "Popen"),
        (signal, "signal"),
        (pipeline.cli, "main"),
    ):
        monkeypatch.setattr(module, name, called)
    with pytest.raises(
        ConfigError,
        match=r"Components are built only|is not a class of this project|No module named",
    ):
        instantiate({"_target_": target})


def test_a_node_without_a_target_is_refused():
    with pytest.raises(ConfigError, match="Components are built only from classes under 'pipeline"):
        instantiate({})


def test_looking_for_a_class_does_not_run_the_program(monkeypatch):
    monkeypatch.setattr(pipeline.cli, "main", lambda: pytest.fail("the program ran"))
    with pytest.raises(ConfigError, match="is not a class of this project"):
        instantiate({"_target_": "pipeline.__main__.main"})


@pytest.mark.parametrize(
    ("node", "extra", "said"),
    [
        ({}, {}, "compression"),
        ({"compression": "zstd", "levl": 3}, {}, "levl"),
        ({"compression": "zstd"}, {"compresion": 1}, "compresion"),
    ],
)
def test_wrong_arguments_are_refused_by_name(node, extra, said):
    with pytest.raises(
        ConfigError,
        match=f"pipeline.outputs.sinks.parquet.Parquet does not take these settings: .*{said}",
    ):
        instantiate({"_target_": "pipeline.outputs.sinks.parquet.Parquet", **node}, **extra)


def nodes():
    """Yield (file, node) of every shipped component. A sink's node lies under its name."""
    for path in sorted(
        path for path in find_resource("conf").glob("*/*.yaml") if path.parent.name != "experiment"
    ):
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        found = (
            content.values()
            if path.parent.name == "sink"
            else [content.get(path.parent.name, content)]
        )
        yield from ((f"{path.parent.name}/{path.name}", node) for node in found)


def test_every_kind_has_at_least_one_component():
    assert {name.partition("/")[0] for name, _ in nodes()} >= {
        "task",
        "source",
        "engine",
        "executor",
        "sink",
        "format",
    }


@pytest.mark.parametrize(("name", "node"), list(nodes()), ids=[name for name, _ in nodes()])
def test_every_shipped_file_names_a_class_of_its_own_kind(name, node):
    kind = name.partition("/")[0]
    folder = COMPONENT_FOLDERS[kind].replace("/", ".")
    assert node["_target_"].startswith(f"pipeline.{folder}.")
    # The class is found: the error is about the argument.
    with pytest.raises(ConfigError, match=r"does not take these settings.*no_such_argument"):
        instantiate(node, no_such_argument=1)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("source", "tar", "Tar"),
        ("task", "video", "Video"),
        ("sink", "parquet", "Parquet"),
        ("exporter", "coco", "Coco"),
    ],
)
def test_the_class_of_a_shipped_component_is_found(kind: str, name: str, expected: str) -> None:
    assert find_class(kind, name).__name__ == expected


@pytest.mark.parametrize("name", ["", "tarr", "../source/tar", "tar.yaml"])
def test_no_class_is_found_for_a_component_that_does_not_ship(name: str) -> None:
    with pytest.raises(ConfigError, match="expected clips, folder, hf_parquet, manifest, tar"):
        find_class("source", name)
