"""Columns of a user's own tables that go into every row: which, and as what."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.schema import BOX_COLUMNS, IMAGES_SCHEMA, make_carried_field

# what readers know a task's rows by
_TAKEN = {
    *IMAGES_SCHEMA.names,
    *BOX_COLUMNS,
    "class_id",
    "class_name",
    "score",
    "rank",
    "mask_rle",
    "mask_height",
    "mask_width",
}
_TAKEN |= {"share", "keypoints", "embedding"}


def choose_fields(
    schema: pa.Schema, used: Collection[str], carry: Any, where: str
) -> list[pa.Field]:
    """The columns to carry: those of `carry`, as the user set it, or where that is null all but the `used` ones. Raises
    ConfigError, which begins with `where`, for a column that there is not, whose name is taken, or whose type has no place
    in a row."""
    given = _names(carry)
    unknown = [name for name in given or () if name not in schema.names]
    if unknown:
        hint = suggest_nearest(unknown[0], schema.names)
        raise ConfigError(
            f"{where}: source.carry has {unknown[0]!r}.{hint} The columns are {', '.join(schema.names)}."
        )
    names = [name for name in schema.names if name not in used] if given is None else given
    kinds = {name: convert_type(schema.field(name).type) for name in names}
    fitting = [name for name, kind in kinds.items() if kind is not None and name not in _TAKEN]
    choose = f"Say what to carry: source.carry=[{','.join(fitting)}]."
    for name, kind in kinds.items():
        if name in _TAKEN:
            raise ConfigError(
                f"{where}: column {name!r} has a name that a run's tables use themselves. {choose}"
            )
        if kind is None:
            raise ConfigError(
                f"{where}: column {name!r} ({schema.field(name).type}) cannot go into a row. {choose}"
            )
    return [make_carried_field(name, kind) for name, kind in kinds.items()]


def _names(carry: Any) -> list[str] | None:
    given = [carry] if isinstance(carry, str | int) else carry
    if given is None or (
        isinstance(given, list | tuple) and all(isinstance(name, str | int) for name in given)
    ):
        return None if given is None else list(dict.fromkeys(map(str, given)))
    raise ConfigError(
        f"source.carry={carry}: expected names of columns, such as [label,site], or [] for none."
    )


def convert_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in a run's tables; None for what is no single number, text, date or time."""
    if pa.types.is_dictionary(kind):
        return convert_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)  # finer ones do not pass through Python
    plain = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_date32,
    )
    return kind if any(is_kind(kind) for is_kind in plain) else None


def convert_values(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """As that type. NaN becomes null: it is not equal to itself, so a plan would take it for a change. Raises
    pa.ArrowInvalid for values that the type or Python cannot hold, such as nanoseconds, or the year 10000."""
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
    """Raises ConfigError where there is none of that name, or several."""
    count = schema.names.count(name)
    if count != 1:
        there = ", ".join(schema.names) or "none"
        said = f"{count} columns are called" if count else "there is no column"
        raise ConfigError(
            f"{where}: {said} {name!r}.{suggest_nearest(name, schema.names)} The columns are {there}.{hint}"
        )
    return schema.field(name)
