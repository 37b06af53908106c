"""Tables on a terminal, by rich: no line is longer than the terminal is wide."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from diffcls.support.terminals import cell_width, console_of


def print_table(lines: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
    """Print a table on standard output, which is a terminal.

    Args:
        lines: the header, then the rows; each has the same number of cells.
        right: headers of the columns that are aligned to the right.
    """
    console = console_of(sys.stdout)
    console.print(fitted(lines, right, console))


def fitted(
    lines: Sequence[Sequence[str]], right: Collection[str], console: Console
) -> RenderableType:
    """The widest form that fits: a line per row, wrapped cells, or a line per cell.

    Words are not broken as long as another form fits.
    """
    broken = [[_broken(cell) for cell in line] for line in lines]
    broken[0] = [_broken(name.replace("/", " per ")) for name in lines[0]]
    for cells, gap in ((lines, 2), (broken, 1)):
        room = console.width - gap * (len(lines[0]) - 1)
        if widths := column_widths(cells, room, whole_lines=cells is lines):
            return _table(cells, widths, [name in right for name in lines[0]], gap)
    return Group(*(_record(lines[0], cells) for cells in lines[1:]))


def column_widths(lines: Sequence[Sequence[str]], room: int, whole_lines: bool) -> list[int]:
    """Widths of the columns of a table; empty if it does not fit.

    Args:
        lines: the header, then the rows.
        room: the widths' sum at most.
        whole_lines: whether no cell is wrapped; else those of figures and intervals are not.
    """
    columns = list(zip(*lines, strict=True))
    wanted = [_longest(cell.splitlines() for cell in column) for column in columns]
    least = [
        max(_longest([column[0].split()]), _longest(cell.splitlines() for cell in column[1:]))
        if any(cell[:1].isdigit() for cell in column[1:])
        else _longest(cell.split() for cell in column)
        for column in columns
    ]
    widths = wanted if whole_lines else least
    spare = room - sum(widths)
    if spare < 0:
        return []
    for i in reversed(range(len(widths))):  # the last columns hold the longest sentences
        more = min(spare, wanted[i] - widths[i])
        widths[i] += more
        spare -= more
    return widths


def _longest(texts: Iterable[Iterable[str]]) -> int:
    return max((cell_width(text) for several in texts for text in several), default=0)


def _table(
    lines: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool], gap: int
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, gap - 1, 0, 0), pad_edge=False)
    for name, width, is_right in zip(lines[0], widths, right, strict=True):
        justify: JustifyMethod = "right" if is_right else "left"
        table.add_column(Text(name, style="bold"), justify=justify, width=width)
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    return table


def _broken(cell: str) -> str:
    """A cell with its interval, or the second of two names, on a line of its own."""
    return cell.replace(" [", "\n[") if " [" in cell else cell.replace("/", "/\n")


def _record(names: Sequence[str], cells: Sequence[str]) -> Table:
    """A row as two columns, the names and the values."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, cell in zip(names, cells, strict=True):
        if cell:
            grid.add_row(Text(name), Text(cell))
    grid.add_row("", "")
    return grid
