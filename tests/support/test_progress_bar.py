"""The live bar on a pseudo-terminal: widths, colours, and what Ctrl-C leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from helpers.pseudo_terminal import HIDE_CURSOR, columns_of, run_on_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")

WORK = """
import sys, time
from diffcls.support.progress import Progress
with Progress(12, {title!r}, details=lambda: ["accuracy 87.5% [80.1, 93.2]",
                                              "1,032.4 evaluations/img"]) as progress:
    for i in range({steps}):
        time.sleep({pause})
        progress.update()
        if i == 1:
            print("diffcls: a warning", file=sys.stderr)
    if {nested}:
        with Progress(5, "inner work") as inner:
            inner.update(3)
            time.sleep(0.4)
print("done")
"""


def work(
    title: str = "digits diffusion", steps: int = 12, pause: float = 0.03, nested: bool = False
) -> list[str]:
    return ["-c", WORK.format(title=title, steps=steps, pause=pause, nested=nested)]


@pytest.mark.parametrize(
    ("columns", "title"),
    [(width, "digits diffusion") for width in (20, 40, 80, 200)]
    + [(40, "猫と犬の写真🐕 diffusion")],
)
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int, title: str) -> None:
    shown = run_on_terminal(work(title), columns)
    assert shown.status == 0
    assert max(map(columns_of, shown.lines)) <= columns
    text = "\n".join(shown.lines)
    assert "12/12 img" in text and "a warning" in text and "done" in text
    assert ("accuracy 87.5% [80.1, 93.2]" in text) == (columns >= 27)
    assert ("1,032.4 evaluations/img" in text and "img/s" in text) == (columns >= 80)
    assert "━" in text or columns < 80


def test_an_unknown_width_is_80_and_columns_counts() -> None:
    for columns, environment, width in (
        (0, {}, 80),
        (0, {"COLUMNS": "0"}, 80),
        (200, {"COLUMNS": "30"}, 30),
        (40, {"COLUMNS": "wide"}, 40),
    ):
        lines = run_on_terminal(work(steps=3), columns, environment).lines
        assert width // 2 < max(map(columns_of, lines)) <= width, (columns, environment)


def test_no_color_leaves_the_text_and_no_colour() -> None:
    coloured = run_on_terminal(work(), 80).screen
    plain = run_on_terminal(work(), 80, {"NO_COLOR": "1"}).screen
    assert "\x1b[36m" in coloured or "\x1b[38" in coloured
    assert "\x1b[3" not in plain and "12/12 img" in plain


def test_ctrl_c_leaves_a_terminal_as_it_was() -> None:
    def interrupt(process: int) -> None:
        os.kill(process, signal.SIGINT)

    endless = work(steps=12, pause=1.0)
    shown = run_on_terminal(endless, 80, when=("0/12", interrupt))
    assert shown.status in (1, 130, -signal.SIGINT)
    assert "done" not in shown.lines and shown.kept_its_settings
    # the cursor is never hidden, so that not even a killed process leaves it so
    assert HIDE_CURSOR not in shown.screen


def test_a_killed_process_leaves_the_cursor_visible() -> None:
    shown = run_on_terminal(
        work(pause=1.0), 80, when=("0/12", lambda process: os.kill(process, signal.SIGKILL))
    )
    assert shown.status == -signal.SIGKILL and HIDE_CURSOR not in shown.screen


def test_work_within_work_is_shown_below_it_as_long_as_it_lasts() -> None:
    lines = run_on_terminal(work(pause=0.0, nested=True), 80).lines
    assert any("inner work" in line and "3/5 img" in line for line in lines)
    last = [line for line in lines if "img" in line][-2:]
    assert "12/12 img" in "".join(last) and "inner" not in "".join(last)


def test_rich_is_imported_on_a_terminal_only() -> None:
    code = (
        "import sys\nfrom diffcls.support.progress import Progress\n"
        "with Progress(2, 'work') as p: p.update()\n"
        "from diffcls.support.tables import align\nalign([['name'], ['é']])\n"
        "assert ('rich' in sys.modules) == sys.stderr.isatty()"
    )
    assert run_on_terminal(["-c", code], 80).status == 0
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
