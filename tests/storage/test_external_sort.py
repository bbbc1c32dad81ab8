"""Rows sorted in runs, and merged."""

from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import external_sort as sorting
from pipeline.storage.external_sort import SortedRows

SCHEMA = pa.schema([("key", pa.string()), ("n", pa.int64())])
Rows = list[tuple[str, int]]


def sorted_rows(tables: list[Rows]) -> tuple[Rows, int]:
    """(rows twice read, number of sorted runs)."""
    with closing(SortedRows(SCHEMA)) as rows:
        for table in tables:
            rows.add(pa.table([[key for key, _ in table], [n for _, n in table]], schema=SCHEMA))
        rows.finish()
        first, second = list(rows), list(rows)
        assert first == second
        return first, len(rows._runs)


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is a run of its own, and three rows of it are in memory."""
    monkeypatch.setattr(sorting, "_RUN_BYTES", 1)
    monkeypatch.setattr(sorting, "_BATCH_ROWS", 3)


@pytest.mark.parametrize(
    ("tables", "runs"),
    [
        ([], 0),
        ([[]], 0),
        ([[("a", 1)]], 1),
        ([[("b", 1), ("a", 2)]], 1),  # sorted within a run
        ([[("a", 1), ("b", 2)], [("b", 3), ("c", 4)]], 1),  # came sorted: nothing to merge
        ([[("c", 1)], [], [("b", 2)], [("a", 3)]], 3),
        ([[("a", 1), ("a", 2)], [("a", 3)], [("A", 4)], [("a", 5)]], 2),
        ([[(str(i), i) for i in range(j, 40, 4)] for j in range(4)], 4),
    ],
)
def test_rows_come_by_key_and_those_of_one_key_as_they_came(tables: list[Rows], runs: int) -> None:
    every = [row for table in tables for row in table]
    assert sorted_rows(tables) == (sorted(every, key=lambda row: row[0]), runs)


@given(
    st.lists(
        st.lists(
            st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(0, 9)),
            max_size=9,
        )
    )
)
def test_the_order_is_that_of_python(tables: list[Rows]) -> None:
    every = [row for table in tables for row in table]
    assert sorted_rows(tables)[0] == sorted(every, key=lambda row: row[0])
