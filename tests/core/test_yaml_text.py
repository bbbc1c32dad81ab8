"""Names in YAML files are the text as written."""

import pytest
from yaml import YAMLError

from pipeline.core.yaml_text import load_mapping, load_text


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "on",
        "Yes",
        "null",
        "~",
        "007",
        "1.10",
        "1e3",
        "0x1F",
        "1_000",
        "12:30",
        "2001-01-01",
        ".inf",
        "=",
        "собака",
        "犬",
    ],
)
def test_a_plain_word_is_a_text(word: str) -> None:
    assert load_text(f"[{word}, '{word}']") == [word, word]
    assert load_text(f"- {word}") == [word]
    assert load_mapping(f"names: {{0: {word}}}\nnc: 1\n", ["names"])["names"] == {"0": word}


def test_other_keys_keep_their_types_and_null_is_null() -> None:
    text = "train: 007\nval:\ntest: ~\nnc: 3\nflip: [1, 0]\nnames: [no]\n"
    assert load_mapping(text, ["train", "val", "test", "names", "absent"]) == {
        "train": "007",
        "val": None,
        "test": None,
        "nc": 3,
        "flip": [1, 0],
        "names": ["no"],
    }


def test_what_is_no_mapping_is_refused() -> None:
    for text in ("", "[a]", "a"):
        with pytest.raises(ValueError, match="expected a mapping"):
            load_mapping(text, [])
    with pytest.raises(YAMLError):
        load_mapping("a: [", [])
    with pytest.raises(YAMLError):
        load_text("!!python/object/apply:os.getcwd []")
