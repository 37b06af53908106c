"""The live bar of `diffcls.support.progress` on a terminal, by rich.

One line, or two where one is too short: title, bar, count and time left; then the figures, such as
the running accuracy, and the rate. What does not fit the terminal's width is left out, the least
important first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diffcls.support.steps import Steps, describe_time
from diffcls.support.terminals import cell_width, console_of
from diffcls.support.text import printable

REFRESHES_PER_SECOND = 4
MIN_BAR, MAX_BAR = 10, 40
SEPARATOR = " · "


def show(steps: Steps) -> Callable[[], None]:
    """Show the bar of a work; returns the function that ends it.

    The last state of a bar stays visible. A work within another one has its bar below the other's,
    as long as it lasts.
    """
    global _screen
    if _screen is None:
        _screen = _Screen()
    bar = StepsBar(steps)
    _screen.bars.append(bar)
    screen = _screen

    def close() -> None:
        global _screen
        if len(screen.bars) > 1:
            screen.bars.remove(bar)
            return
        screen.live.stop()
        _screen = None

    return close


class _Screen:
    """The bars that are shown now, on one live display: a terminal has room for one."""

    def __init__(self) -> None:
        self.bars: list[StepsBar] = []
        # what is printed on stderr meanwhile stands above the bars
        self.live = Live(
            get_renderable=lambda: Group(*self.bars),
            console=console_of(sys.stderr),
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self.live.start()


_screen: _Screen | None = None


class StepsBar:
    """A work as lines of at most the terminal's width."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, for rich."""
        steps, width = self.steps, options.max_width
        left = steps.seconds_left()
        # before the first step the count says it all
        count = [f"{steps.done:,}/{steps.total:,} {steps.unit}"]
        count += [] if left is None else [f"{describe_time(left)} left"]
        figures = [printable(figure) for figure in steps.figures()]
        if (rate := steps.rate()) > 0:
            figures.append(_rate(rate, steps.unit))
        title = printable(steps.title)
        whole = SEPARATOR.join([*count, *figures])
        if cell_width(title) + cell_width(whole) + MIN_BAR + 2 <= width:
            yield self._line(title, whole, width)
            return
        yield self._line(title, fitting(count, width), width)
        if figures and (second := fitting(figures, width)):
            yield Text(second, no_wrap=True, overflow="crop")

    def _line(self, title: str, text: str, width: int) -> Table | Text:
        """Title and text, with a bar between them where there is room for one."""
        room = width - cell_width(text) - 1
        bar = min(room - cell_width(title) - 1, MAX_BAR)
        if bar < MIN_BAR:
            if room < 4:
                return Text(text, no_wrap=True, overflow="crop")
            line = Text(title, no_wrap=True)
            line.truncate(room, overflow="ellipsis")
            return line.append(" " + text)
        grid = Table.grid(padding=(0, 1, 0, 0))
        steps = self.steps
        shown = ProgressBar(
            total=max(steps.total, 1),
            completed=steps.done,
            width=bar,
            complete_style="cyan",
            finished_style="green",
        )
        grid.add_row(Text(title, no_wrap=True), shown, Text(text, no_wrap=True))
        return grid


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the first parts as fit a width; the first one is cut if it alone is too wide."""
    text = parts[0]
    for part in parts[1:]:
        longer = text + SEPARATOR + part
        if cell_width(longer) > width:
            break
        text = longer
    shown = Text(text)
    shown.truncate(width, overflow="ellipsis")
    return shown.plain


def _rate(rate: float, unit: str) -> str:
    """A rate in a unit that reads well: ``3.1 img/s``, or ``21.5 s/img`` for slow work."""
    return f"{rate:,.1f} {unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s/{unit}"
