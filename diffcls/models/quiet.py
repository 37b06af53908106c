"""Process-wide state of the model libraries: their messages, and their rules while they load.

diffusers and transformers keep the verbosity of their messages, the default data type and the
place where new weights are made in variables of the process. So models are loaded by one thread at
a time, and messages return when the last of all threads has left `quiet`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

LOADING = threading.RLock()
"""Held while a network is made or its weights are read, by whichever library."""
_VERBOSITY = threading.Lock()
_levels: list[Any] = []
"""Each library's verbosity and use of progress bars, before the first thread entered `quiet`."""
_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and messages of diffusers and transformers, except errors."""
    global _inside
    loggers = _loggers()
    with _VERBOSITY:
        if _inside == 0:
            _levels[:] = [
                (logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers
            ]
            for logger in loggers:
                logger.set_verbosity_error()
                logger.disable_progress_bar()
        _inside += 1
    try:
        yield
    finally:
        with _VERBOSITY:
            _inside -= 1
            if _inside == 0:
                for logger, (level, shows_progress) in zip(loggers, _levels, strict=True):
                    logger.set_verbosity(level)
                    if shows_progress:
                        logger.enable_progress_bar()


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock that every model is loaded under; transformers asks no question meanwhile.

    transformers asks on the terminal whether to run the code of a model, unless its time for an
    answer is 0: then it refuses.
    """
    with LOADING:
        from transformers import dynamic_module_utils

        seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
        try:
            yield
        finally:
            dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


@contextmanager
def loading() -> Iterator[None]:
    """Both contexts of this module: `alone`, and `quiet`; the libraries announce no changes."""
    with alone(), quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by the libraries' own calls
        yield


@cache
def _loggers() -> tuple[Any, Any]:
    with LOADING:  # the libraries import their own modules on first use
        import diffusers
        import transformers

        return diffusers.utils.logging, transformers.utils.logging
