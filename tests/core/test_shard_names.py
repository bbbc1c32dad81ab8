"""Names with a shard's number sort like numbers, and names of earlier versions are read."""

import pytest

from pipeline.core.shard_names import (
    make_marker_name,
    make_part_name,
    make_shard_name,
    parse_shard_number,
)


def test_names_have_eight_digits_and_sort_like_numbers() -> None:
    numbers = [0, 7, 99_999, 100_000, 12_345_678]
    for make_name in (make_part_name, make_marker_name, make_shard_name):
        names = [make_name(number) for number in numbers]
        assert names == sorted(names)
        assert [parse_shard_number(name.rpartition("/")[2]) for name in names] == numbers
    assert make_part_name(7) == "part-00000007.parquet"
    assert make_marker_name(7) == "_committed/00000007.json"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("part-00012.parquet", 12),
        ("00012.json", 12),
        ("shard-00012-page-000.jpg", 12),
        ("part-123456.parquet", 123456),
        ("notes.txt", None),
        ("part-.parquet", None),
        ("part-\u0663.parquet", None),
        ("", None),
    ],
)
def test_any_number_of_digits_is_read_and_nothing_else(name: str, number: int | None) -> None:
    assert parse_shard_number(name) == number
