"""Refusals at the command line: one line on stderr, an exit status, and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def refusal(
    main: Callable[[Sequence[str]], int],
    arguments: Sequence[object],
    output: Path | None,
    capsys: pytest.CaptureFixture[str],
    status: int = 2,
) -> str:
    """The line on stderr of a command that is refused.

    Args:
        main: the command.
        arguments: its arguments.
        output: its output folder, which must not be created; None: not checked.
        capsys: pytest's capture; earlier output is dropped.
        status: the expected exit status.
    """
    capsys.readouterr()
    assert main([*map(str, arguments)]) == status
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.startswith("diffcls: ") and err.count("\n") == 1
    assert "Traceback" not in err
    assert output is None or not output.exists()
    return err
