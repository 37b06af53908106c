"""Trainings that are interrupted at a step of their choice."""

from __future__ import annotations

import itertools
from collections.abc import Container
from typing import Any

import pytest

from diffcls.training.loop import Loop


def interrupt_calls(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, numbers: Container[int]
) -> None:
    """Interrupt trainings as by Ctrl-C, which save a checkpoint after every step.

    Args:
        monkeypatch: undoes it.
        where: module or class of a function that each step calls.
        name: the function.
        numbers: which of its calls are interrupted, counted from 1.
    """
    original, begin, calls = getattr(where, name), Loop.__init__, itertools.count(1)

    def interrupted(*args: Any) -> Any:
        if next(calls) in numbers:
            raise KeyboardInterrupt
        return original(*args)

    def eager(self: Loop, *args: Any, **options: Any) -> None:
        begin(self, *args, **{**options, "checkpoint_seconds": 0})

    monkeypatch.setattr(where, name, interrupted)
    monkeypatch.setattr(Loop, "__init__", eager)
