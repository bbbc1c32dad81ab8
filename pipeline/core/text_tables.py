"""Format tables as plain text."""

from collections.abc import Collection, Mapping, Sequence


def format_pairs(rows: Mapping[str, str]) -> str:
    """Format names and values as two aligned columns."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def format_columns(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Format rows of equal length as aligned columns.

    Args:
        rows: Cells by row and column; the first row is the heading.
        left: The columns to align left. All others are aligned right, as numbers are.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
