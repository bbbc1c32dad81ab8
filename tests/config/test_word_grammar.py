"""Words are read as they are written: paths, names, and scores by name."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.command_options import read_options
from pipeline.config.compose import compose_settings
from pipeline.config.word_grammar import (
    Kind,
    from_hydra,
    read_scores,
    read_text,
    read_texts,
    split_sweep,
    to_hydra,
)
from pipeline.core.errors import ConfigError
from pipeline.results.commands import crops, export, refilter
from tests.helpers.runs import settings_for

WORDS = [
    "no",
    "on",
    "yes",
    "off",
    "true",
    "null",
    "~",
    "007",
    "1.10",
    "1e3",
    "1_000",
    "0x1F",
    "nan",
]
WORDS += ["собака", "été", "ete\u0301", "犬", "🐕", "a b", "a=b", "a:b", "it's", 'say "x"', "a(b)"]
WORDS += [
    "a#b",
    "a|b",
    "@x",
    "$x",
    "${x}",
    "${input}",
    "a\\b",
    "\\",
    "-",
    "*",
    "&x",
    "!x",
    "%x",
    "`x`",
]
COMMAS = ["salt, pepper", "a,b", "[a]", "{a}", "[a, b]", "a]", "[", "'", "'a'", '"a"', "it''s", " "]


def quoted(name: str) -> str:
    """Quote a name. Only backslashes before a quote are doubled."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda run: run[1] * 2 + (run[2] and r"\'"), name)
    return f"'{escaped}'"


@pytest.mark.parametrize("name", WORDS)
def test_a_name_is_the_text_as_written(name: str) -> None:
    others = ("dog", "dog, cat")
    for word, expected in [
        (f"[{name}]", (name,)),
        (f"[dog,{name}]", ("dog", name)),
        (f"[ {name} , dog ]", (name, "dog")),
        (f"['{others[1]}',{name}]", (others[1], name)),
    ]:
        assert settings_for(f"classes={word}").classes == expected
        assert read_options("refilter", [f"exclude={word}"], refilter.Options).exclude == expected
    if name != "null":
        assert settings_for(f"classes={name}").classes == (name,)
    assert settings_for(f"min_score={{{name}: 0.5}}").min_score == {"default": 0.5, name: 0.5}


@pytest.mark.parametrize("name", [*WORDS, *COMMAS])
def test_a_quoted_name_is_the_text_inside(name: str) -> None:
    if name.strip():  # the check of class names strips blanks
        assert settings_for(f"classes=[{quoted(name)},dog]").classes == (name, "dog")
        assert settings_for(f"classes={quoted(name)}").classes == (name,)
    assert read_texts("classes", f"[{quoted(name)}, dog]") == [name, "dog"]
    assert read_scores("min_score", f"{{{quoted(name)}: 1, dog: .5}}") == {name: 1.0, "dog": 0.5}


@given(st.lists(st.text(max_size=8), max_size=4))
def test_every_name_is_what_its_quotes_hold(names: list[str]) -> None:
    word = f"[{','.join(map(quoted, names))}]"
    assert read_texts("key", word) == names
    assert [from_hydra(to_hydra("key", quoted(name), Kind.TEXT, ())) for name in names] == names


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_every_path_survives_hydra(path: str) -> None:
    expected = read_text(path)
    composed = compose_settings([f"source.root={path}", "source=manifest", f"train.data={path}"])
    assert composed.components["source"]["root"] == expected
    assert composed.train.data == expected


PATHS = [
    "a b",
    "a,b",
    "a=b",
    "[a]",
    "{a}",
    "[a",
    "{a",
    "фото",
    "$x",
    "a${x}",
    "${x}/a",
    "a\\${x}",
    "it's",
]
PATHS += [
    "'a",
    '"a',
    "a'",
    " a ",
    "a ",
    "007",
    "1e3",
    "no",
    "a:b",
    "[a,b]",
    "{a: b}",
    "a\\",
    "(a",
    "%20",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_setting_that_is_a_path_takes_any_path(path: str) -> None:
    found = compose_settings(
        [
            "source=manifest",
            "examples=codes",
            f"input={path}",
            f"output={path}",
            f"weights={path}",
            f"categories={path}",
            f"source.root={path}",
            f"source.column={path}",
            f"train.data={path}",
            f"train.images={path}",
            f"train.backbone_weights={path}",
            f"examples.backgrounds={path}",
        ]
    )
    source, examples = found.components["source"], found.components["examples"]
    assert {found.input, found.output, found.weights, found.categories} == {path}
    assert {source["root"], source["column"], source["file"], examples["backgrounds"]} == {path}
    assert {found.train.data, found.train.images, found.train.backbone_weights} == {path}
    options = read_options("crops", [f"run={path}", f"output={path}"], crops.Options)
    assert (options.run, options.output) == (Path(path), Path(path))


@pytest.mark.parametrize("path", [path for path in PATHS if path not in ("007", "1e3")])
def test_a_validation_part_is_a_number_or_any_path(path: str) -> None:
    assert settings_for(f"train.validation={path}").train.validation == path


@pytest.mark.parametrize(("word", "value"), [("0.2", 0.2), ("0", 0.0), (".5", 0.5), ("2e-1", 0.2)])
def test_a_number_for_validation_is_a_share(word: str, value: float) -> None:
    assert settings_for(f"train.validation={word}").train.validation == value


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for word, path in [
        ("~", "/home/someone"),
        ("~/a, b", "/home/someone/a, b"),
        ("a~", "a~"),
        ("~no-such-user/a", "~no-such-user/a"),
    ]:
        assert (
            settings_for("source=manifest", f"source.root={word}").components["source"]["root"]
            == path
        )
        assert settings_for(f"train.validation={word}").train.validation == path


def test_quotes_of_a_path_that_is_there_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings_for("input='a b'").input == "a b"
    (tmp_path / "'a b'").mkdir()
    assert settings_for("input='a b'").input == "'a b'"


def test_a_list_of_columns_is_read_like_a_list_of_classes() -> None:
    words = ["source=manifest", "source.carry=[no, 007, 'a, b', été]"]
    assert settings_for(*words).components["source"]["carry"] == ["no", "007", "a, b", "été"]
    assert settings_for("source=manifest", "source.carry=[]").components["source"]["carry"] == []
    assert (
        settings_for("source=manifest", "source.carry=null").components["source"]["carry"] is None
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("classes=dog,cat", r"for a list write classes=\[dog,cat\]; .* classes=\['dog,cat'\]"),
        ("classes=[dog", "closing ] is missing"),
        ("classes=[dog,,cat]", "a name is empty"),
        ("classes=[dog,]", "a name is empty"),
        ("classes=[]", "at least one class name"),
        ("min_score={dog}", "mapping cannot be read"),
        ("min_score={dog: 0.5", "mapping cannot be read"),
        ("min_score={: 0.5}", "mapping cannot be read"),
        ("min_score={dog: high}", "min_score.dog=high: expected a number from 0 to 1"),
        ("min_score={dog: 7}", "min_score.dog=7: expected a number from 0 to 1"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_for(word)
    with pytest.raises(ConfigError, match=said):
        read_options("refilter", [word], refilter.Options)


@pytest.mark.parametrize(
    ("word", "kind", "values"),
    [
        ("a,b", Kind.TEXT, ["a", "b"]),
        ("'a,b',c", Kind.TEXT, ["'a,b'", "c"]),
        ("it's,that's", Kind.TEXT, ["it's", "that's"]),
        ("[a,b],[c]", Kind.TEXTS, ["[a,b]", "[c]"]),
        ("['a,b',c],d", Kind.TEXTS, ["['a,b',c]", "d"]),
        ("['],',c],d", Kind.TEXTS, ["['],',c]", "d"]),
        ("{a: 0.1, b: 0.2},0.5", Kind.SCORES, ["{a: 0.1, b: 0.2}", "0.5"]),
        ("{'},': 0.1},0.5", Kind.SCORES, ["{'},': 0.1}", "0.5"]),
    ],
)
def test_commas_outside_quotes_and_brackets_separate_the_values_of_a_sweep(
    word: str, kind: Kind, values: list[str]
) -> None:
    assert split_sweep(word, kind) == values


def test_other_verbs_read_paths_in_the_same_way() -> None:
    words = ["to='a b'", "output=null", "run=${x}"]
    options = read_options("export", words, export.Options)
    assert (options.to, options.output, options.run) == ("a b", None, Path("${x}"))


def test_values_of_a_yaml_file_that_lost_their_text_are_refused() -> None:
    from pipeline.config.validators import check_names

    for value in ([False], [None], [1.1], [["a"]]):
        with pytest.raises(ConfigError, match="In a YAML file put it in quotes"):
            check_names("classes", value)
