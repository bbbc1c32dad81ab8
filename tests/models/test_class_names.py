import json

import pytest

from pipeline.core.background import BACKGROUND
from pipeline.core.errors import ConfigError
from pipeline.models.class_names import add_background, load_categories


def write_file(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "length", "some"),
    [
        ("coco", 91, {0: BACKGROUND, 1: "person", 12: "N/A", 18: "dog", 90: "toothbrush"}),
        ("imagenet", 1000, {0: "tench"}),
    ],
)
def test_built_in_lists(name, length, some):
    names = load_categories(name)
    assert len(names) == length
    assert {i: names[i] for i in some} == some


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", ("cat",)),
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\r\n traffic light \r\n\r\n", ("cat", "traffic light")),
        ("\ufeffcat\ndog", ("cat", "dog")),
        ("éléphant\n犬", ("éléphant", "犬")),
        ("cat\ncat", ("cat", "cat")),
        ('["a", "b"]', ('["a", "b"]',)),  # the suffix decides, not the content
    ],
)
def test_a_text_file_has_one_name_a_line(tmp_path, text, expected):
    assert load_categories(write_file(tmp_path, "names.txt", text)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["cat", "dog"], ("cat", "dog")),
        ({"0": "cat", "1": "dog"}, ("cat", "dog")),
        ({"1": "dog", "0": "cat"}, ("cat", "dog")),
        ({"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}, ("tench", "goldfish")),
        ({"cat": 0, "dog": 2}, ("cat", "N/A", "dog")),
        ({"2": "dog"}, (BACKGROUND, "N/A", "dog")),
        (
            {"categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]},
            (BACKGROUND, "person", "N/A", "car"),
        ),
        ({"images": [], "annotations": [], "categories": [{"id": 0, "name": "a"}]}, ("a",)),
    ],
)
@pytest.mark.parametrize("name", ["names.json", "NAMES.JSON"])
def test_every_usual_json_layout_is_understood(tmp_path, name, content, expected):
    assert load_categories(write_file(tmp_path, name, json.dumps(content))) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yaml", "names: [no, yes, 007, 1.10, ~]", ("no", "yes", "007", "1.10", "~")),
        ("a.yml", "names:\n  1: on\n  0: off\n", ("off", "on")),
        ("a.yaml", "- no\n- 1e3\n", ("no", "1e3")),
        ("a.yaml", "0: no\n1: yes\n", ("no", "yes")),
        ("a.yaml", "no: 1\nyes: 0\n", ("yes", "no")),
        ("a.json", "[1.10, 7, 1e3]", ("1.10", "7", "1e3")),
        ("a.txt", "no\n007\na\u2028b\n", ("no", "007", "a\u2028b")),
    ],
)
def test_names_are_the_text_as_written(tmp_path, name, text, expected):
    assert load_categories(write_file(tmp_path, name, text)) == expected


@pytest.mark.parametrize("text", ["[null]", "[true]", '["a", ""]', '{"0": null}', "[{}]"])
def test_a_name_that_is_no_text_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="is not a class name; names are texts"):
        load_categories(write_file(tmp_path, "a.json", text))


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", ""), ("a.txt", "\n \n"), ("a.json", "[]"), ("a.json", "{}")]
)
def test_a_file_without_names_is_refused(tmp_path, name, content):
    path = write_file(tmp_path, name, content)
    with pytest.raises(ConfigError, match="holds no class names") as caught:
        load_categories(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[1,"),
        ("a.json", ""),
        ("a.json", "null"),
        ("a.json", "5"),
        pytest.param("a.json", '"cat"'),
        ("a.json", '{"cat": "dog"}'),
        ("a.json", '{"0": []}'),
        ("a.json", '{"cat": -1}'),
        ("a.json", '{"cat": 1000000000}'),
        ("a.json", '{"categories": ["cat"]}'),
        ("a.json", '{"categories": [{"id": 1}]}'),
        pytest.param("a.txt", "éléphant".encode("latin-1")),
        pytest.param("a.json", b'["\xe9"]'),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, name, content):
    with pytest.raises(ConfigError, match="not a list of class names"):
        load_categories(write_file(tmp_path, name, content))


@pytest.mark.parametrize(
    ("given", "hint"), [("cocoo", "'coco'"), ("image_net", "'imagenet'"), ("COCO", "'coco'")]
)
def test_a_typo_is_refused_and_the_nearest_is_offered(given, hint):
    with pytest.raises(
        ConfigError, match=f"^categories={given}: expected coco, imagenet.*Did you mean {hint}"
    ):
        load_categories(given)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    for given in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(ConfigError, match="there is no file"):
            load_categories(str(given))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat",), (BACKGROUND, "cat")),
        (("cat", "background"), (BACKGROUND, "cat", "background")),
        ((BACKGROUND, "cat"), (BACKGROUND, "cat")),
        (("background", "cat"), ("background", "cat")),
        (("Background", "cat"), ("Background", "cat")),
    ],
)
def test_detectors_count_from_the_background(names, expected):
    assert add_background(names) == expected
    assert add_background(expected) == expected
