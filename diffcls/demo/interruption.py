"""Interruption of a computation before the next forward pass of its model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """The computation was interrupted."""


class Interruption:
    """Whether what a thread computes is still wanted; each thread has its own answer."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @contextmanager
    def unless(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Within the context, a forward pass that is no longer wanted is not made.

        Args:
            wanted: asked before each forward pass of this thread.
        """
        self._of_thread.wanted = wanted
        try:
            yield
        finally:
            self._of_thread.wanted = None

    def check(self) -> None:
        """Do nothing while what this thread computes is wanted.

        Raises:
            Interrupted: if it no longer is.
        """
        wanted = getattr(self._of_thread, "wanted", None)
        if wanted is not None and not wanted():
            raise Interrupted


class Interruptible:
    """A denoiser whose forward passes can be interrupted; otherwise the denoiser itself.

    Args:
        denoiser: the model.
        interruption: asked before each forward pass.
    """

    def __init__(self, denoiser: Any, interruption: Interruption) -> None:
        self._denoiser, self._interruption = denoiser, interruption

    def __getattr__(self, name: str) -> Any:
        if name in ("_denoiser", "_interruption"):  # before it is set, as by pickle
            raise AttributeError(name)
        found = getattr(self._denoiser, name)
        if not name.startswith("predict"):
            return found

        def predict(*inputs: Any, **named: Any) -> Any:
            self._interruption.check()
            return found(*inputs, **named)

        return predict
