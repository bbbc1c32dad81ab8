"""Settings of verbs that need no model are read from `key=value` words."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config.command_options import format_options, read_options
from pipeline.config.declare import setting
from pipeline.config.validators import (
    check_flag,
    check_min_score,
    check_names,
    check_optional_path,
    check_path,
    check_paths,
    check_text,
)
from pipeline.core.errors import ConfigError


@dataclass(frozen=True)
class Options:
    run: Path = setting(check_path, Path("outputs/latest"), "the run's folder")
    to: str = setting(check_text, help="the format")
    output: Path | None = setting(check_optional_path, None, "a new folder")
    runs: tuple[Path, ...] = setting(check_paths, (), "two of them")
    min_score: object = setting(check_min_score, None, "a score")
    classes: object = setting(check_names, None, "names")
    crops: bool = setting(check_flag, False, "or not")


def read(*words: str) -> Options:
    return read_options("export", words, Options)


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("run=a b/c=d", "run", Path("a b/c=d")),
        ("run=~/x", "run", Path("~/x").expanduser()),
        ("output=12", "output", Path("12")),
        ("output=null", "output", None),
        ("to=1e5", "to", "1e5"),
        ("runs=[a,b c]", "runs", (Path("a"), Path("b c"))),
        ("runs=a", "runs", (Path("a"),)),
        ("min_score=0.5", "min_score", 0.5),
        ("min_score={default: 0.5, stop sign: 1}", "min_score", {"default": 0.5, "stop sign": 1.0}),
        ("classes=[dog, stop sign]", "classes", ("dog", "stop sign")),
        ("classes=dog", "classes", ("dog",)),
        ("crops=true", "crops", True),
    ],
)
def test_a_word_becomes_a_value_of_its_field(word: str, name: str, value: object) -> None:
    assert getattr(read(*([] if name == "to" else ["to=x"]), word), name) == value


def test_the_words_of_make_are_read() -> None:
    assert read("--make", r"to=coco run=My\ Run").run == Path("My Run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "export needs to=, the format"),
        (["to=x", "fun=y"], "no setting 'fun'. Did you mean 'run'"),
        (["coco"], "expected key=value"),
        (["to="], "to=: expected a text"),
        (["to=x", "crops=perhaps"], "expected true or false"),
        (["to=x", "min_score=2"], "from 0 to 1"),
        (["to=x", "classes=[dog"], "cannot be read"),
    ],
)
def test_a_wrong_word_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(*words)
    assert said in str(refused.value)


def test_help_lists_settings_and_defaults() -> None:
    assert (
        "  run        the run's folder [outputs/latest]\n  to         the format\n"
        in format_options(Options)
    )
