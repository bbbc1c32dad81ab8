import pytest

from pipeline.core.lookalikes import describe_lookalikes


@pytest.mark.parametrize(
    ("name", "other", "point"),
    [
        ("c\u0430t", "cat", "U+0430"),
        ("e\u0301", "\u00e9", "U+0301"),
        ("a\u00a0b", "a b", "U+00A0"),
        ("cat ", "cat", "U+0020"),
        ("cat\u200b", "cat", "U+200B"),
    ],
)
def test_names_that_look_alike_are_shown_with_their_code_points(name, other, point):
    assert point in describe_lookalikes([name], [other])


def test_other_names_are_not_mentioned():
    assert describe_lookalikes([], []) == ""
    assert describe_lookalikes(["cat", "dog"], ["cat", "bird"]) == ""
