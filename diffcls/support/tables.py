"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def align(lines: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Cells in columns of equal width, with a rule below the header.

    Args:
        lines: the header, then the rows; each has the same number of cells.
        right: headers of the columns that are aligned to the right.

    Returns:
        One line per row, without a newline at the end.

    Raises:
        ValueError: for lines that differ in their number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )
