"""Choose the columns of a user's table to copy to the rows of a run, and convert their types."""

import logging
from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.schema import BOX_COLUMNS, IMAGES_SCHEMA, make_carried_field

log = logging.getLogger(__name__)

# Names of the columns that the tables of a run already have.
_RESERVED = {
    *IMAGES_SCHEMA.names,
    *BOX_COLUMNS,
    "class_id",
    "class_name",
    "score",
    "rank",
    "mask_rle",
    "mask_height",
    "mask_width",
    "share",
    "keypoints",
    "embedding",
}


def choose_fields(
    schema: pa.Schema, used: Collection[str], carry: Any, where: str
) -> list[pa.Field]:
    """Return the fields of the columns to carry. Columns without a name are left out.

    Args:
        used: Columns that the source itself reads. They are carried only if `carry` names them.
        carry: The names that the user set; None for all but the used columns.
        where: Beginning of error messages.

    Raises:
        ConfigError: A column does not exist or comes twice, its name is reserved, or its type is
            not supported.
    """
    given = _read_names(carry)
    unknown = [name for name in given or () if not name.strip() or name not in schema.names]
    if unknown:
        hint = suggest_nearest(unknown[0], schema.names)
        raise ConfigError(
            f"{where}: source.carry has {unknown[0]!r}.{hint} The columns are "
            f"{', '.join(schema.names)}."
        )

    names = _list_named_columns(schema, used, where) if given is None else given
    count = Counter(schema.names)
    types = {
        name: convert_type(schema.field(name).type) if count[name] == 1 else None for name in names
    }
    possible = [name for name, kind in types.items() if kind is not None and name not in _RESERVED]
    advice = f"Say what to carry: source.carry=[{','.join(possible)}]."
    for name, kind in types.items():
        if count[name] > 1:
            raise ConfigError(
                f"{where}: {count[name]} columns are called {name!r}, so it is not clear which to "
                f"carry. Rename one. {advice}"
            )
        if name in _RESERVED:
            raise ConfigError(
                f"{where}: column {name!r} has a name that a run's tables use themselves. {advice}"
            )
        if kind is None:
            raise ConfigError(
                f"{where}: column {name!r} ({schema.field(name).type}) cannot go into a row. "
                f"{advice}"
            )
    return [make_carried_field(name, kind) for name, kind in types.items()]


def _list_named_columns(schema: pa.Schema, used: Collection[str], where: str) -> list[str]:
    """Return the names of the columns that the source does not use, without empty names."""
    nameless = [str(i) for i, name in enumerate(schema.names, 1) if not name.strip()]
    if nameless:
        log.warning(
            "%s: columns without a name are not carried: number %s.", where, ", ".join(nameless)
        )
    return [name for name in schema.names if name.strip() and name not in used]


def _read_names(carry: Any) -> list[str] | None:
    """Return the names that the user set, without repetitions; None if the setting is null."""
    if carry is None:
        return None
    given = [carry] if isinstance(carry, str | int) else carry
    if isinstance(given, list | tuple) and all(isinstance(name, str | int) for name in given):
        return list(dict.fromkeys(map(str, given)))
    raise ConfigError(
        f"source.carry={carry}: expected names of columns, such as [label,site], or [] for none."
    )


def convert_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that a column of this type gets in the tables of a run.

    Returns None unless its values are single numbers, texts, dates or times.
    """
    if pa.types.is_dictionary(kind):
        return convert_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)  # Python cannot represent nanoseconds
    unchanged = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_date32,
    )
    return kind if any(is_kind(kind) for is_kind in unchanged) else None


def convert_values(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Cast the values to a type.

    NaN becomes null. Because NaN does not equal itself, the input would seem to differ from its
    plan.

    Raises:
        pa.ArrowInvalid: The type or Python cannot represent a value, e.g. the year 10000.
    """
    values = column.cast(kind)
    if pa.types.is_temporal(kind):
        _check_years(values)
    return pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(kind) else values


def _check_years(times: pa.ChunkedArray) -> None:
    try:
        for extreme in pc.min_max(times).values():
            extreme.as_py()
    except (ValueError, OverflowError):
        raise pa.ArrowInvalid("a date outside of the years 1 to 9999") from None


def find_column(schema: pa.Schema, name: str, where: str, hint: str = "") -> pa.Field:
    """Return the column with this name. Raises ConfigError unless there is exactly one."""
    count = schema.names.count(name)
    if count != 1:
        existing = ", ".join(schema.names) or "none"
        problem = f"{count} columns are called" if count else "there is no column"
        raise ConfigError(
            f"{where}: {problem} {name!r}.{suggest_nearest(name, schema.names)} The columns are "
            f"{existing}.{hint}"
        )
    return schema.field(name)
