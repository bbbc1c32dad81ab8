import pyarrow as pa
import pytest

from pipeline.core.errors import ConfigError
from pipeline.inputs.carried_columns import choose_fields


def schema_of(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])


def test_columns_without_a_name_are_left_out() -> None:
    fields = choose_fields(schema_of("", "path", "site", " "), {"path"}, None, "input=a.csv")
    assert [field.name for field in fields] == ["site"]


def test_a_column_that_comes_twice_is_named_unless_it_is_not_carried() -> None:
    schema = schema_of("path", "site", "site", "label")
    with pytest.raises(ConfigError, match=r"2 columns are called 'site'.*source.carry=\[label\]"):
        choose_fields(schema, {"path"}, None, "input=a.csv")
    assert [field.name for field in choose_fields(schema, {"path"}, ["label"], "")] == ["label"]
