"""Progress of long work: a line every half minute where stderr is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from diffcls.support.progress import SECONDS_BETWEEN_LINES, Progress, describe_time


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_work_off_a_terminal_prints_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Progress(100, "fitting", "steps", clock=clock) as progress:
        for _ in range(100):
            clock.now += 2.0
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    # 200 s: after 30, 60, … 180 s
    assert len(lines) == 200 // SECONDS_BETWEEN_LINES
    # 15 steps in 30 s, so 85 take 170 s
    assert lines[0] == "diffcls: fitting: 15 of 100 steps, 3 min left"
    assert lines[-1] == "diffcls: fitting: 90 of 100 steps, 20 s left"


def test_short_work_prints_nothing_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(10, "fitting", clock=clock) as progress:
        clock.now += SECONDS_BETWEEN_LINES - 0.1
        progress.update(9)
    assert capsys.readouterr() == ("", "")


def test_quiet_work_prints_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for stream in (sys.stderr, Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(10, "fitting", quiet=True, clock=clock) as progress:
            clock.now += 1000
            progress.update(9)
        assert not isinstance(stream, Terminal) or stream.getvalue() == ""
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_the_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, terminal = Clock(), Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(10, "fitting", clock=clock) as progress:
        clock.now += 1000
        progress.update(10)
    shown = terminal.getvalue()
    assert "diffcls:" not in shown and "fitting" in shown and "10/10 img" in shown


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_has_lines(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, terminal = Clock(), Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", term)
    with Progress(10, "fitting", clock=clock) as progress:
        clock.now += 50
        progress.update(5)
    assert terminal.getvalue() == "diffcls: fitting: 5 of 10 img, 50 s left\n"


def test_time_left_counts_the_steps_of_this_process_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    with Progress(100, "digits", initial=80, clock=clock) as progress:
        progress.set_values(accuracy="75.0%")
        clock.now += 40.0
        progress.update(4)
    # 4 images in 40 s, 16 are left
    line = "diffcls: digits: 84 of 100 img, accuracy 75.0%, 3 min left\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (9000, "2.5 h")]
)
def test_times_are_described(seconds: float, text: str) -> None:
    assert describe_time(seconds) == text
