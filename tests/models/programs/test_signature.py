"""Shapes as text."""

from pipeline.models.programs.signature import format_shape


def test_shapes_are_formatted_as_words() -> None:
    assert [format_shape(shape) for shape in [(), (None, 3, 224, 224), (7,)]] == [
        "unknown",
        "any x 3 x 224 x 224",
        "7",
    ]
