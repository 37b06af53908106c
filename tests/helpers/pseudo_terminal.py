"""A command on a pseudo-terminal of a given width, and the lines that it showed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.processes import default_interrupt

ROOT = Path(__file__).parents[2]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE_CURSOR = "\x1b[?25l"


@dataclass(frozen=True)
class Shown:
    """What a command wrote.

    Args:
        status: its exit status.
        screen: all that went to the terminal, with its control sequences.
        stdout: what went to standard output, where that was a pipe.
        kept_its_settings: whether the terminal's settings are those from before.
    """

    status: int
    screen: str
    stdout: str
    kept_its_settings: bool

    @property
    def lines(self) -> list[str]:
        """The lines without control sequences, each state of a live display on its own."""
        return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", self.screen)) if line.strip()]


def run_on_terminal(
    arguments: list[str],
    columns: int,
    environment: Mapping[str, str] | None = None,
    stdout_is_pipe: bool = False,
    when: tuple[str, Callable[[int], None]] | None = None,
) -> Shown:
    """Run Python with a pseudo-terminal as its standard error, and output unless that is a pipe.

    Args:
        arguments: of the interpreter.
        columns: the terminal's width; 0 as of one that does not know its size.
        environment: further variables.
        stdout_is_pipe: whether standard output is a pipe.
        when: a text, and a function that gets the process's id once the text was shown.
    """
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    before = termios.tcgetattr(side)
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    variables |= {"TERM": "xterm-256color", "PYTHONPATH": path, **(environment or {})}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=side,
        stdout=subprocess.PIPE if stdout_is_pipe else side,
        stderr=side,
        env=variables,
        preexec_fn=default_interrupt,
    )
    held = os.dup(side)  # the settings can be read after the process has ended
    os.close(side)
    screen = b""
    os.set_blocking(main, False)
    while True:
        ended = process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while part := os.read(main, 65536):
                screen += part
        if when is not None and when[0].encode() in screen:
            when[1](process.pid)
            when = None
        if ended:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    stdout = process.stdout.read().decode() if process.stdout else ""
    if process.stdout:
        process.stdout.close()
    after = termios.tcgetattr(held)
    os.close(main)
    os.close(held)
    return Shown(process.returncode, screen.decode(), stdout, before == after)


def columns_of(text: str) -> int:
    """Columns that a text takes, by Unicode's East Asian Width alone (UAX 11)."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
