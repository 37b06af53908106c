"""Requests to the Hugging Face Hub with a time limit, and the folders of its cache.

Without a network, the Hub's own libraries retry for half a minute.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REQUEST_TIMEOUT_SECONDS = 3.0
"""Time limit of a request to the Hub."""


def ask_hub(request: Callable[[], T], refused: Callable[[Exception], Exception | None]) -> T | None:
    """The Hub's response to a request; None if it is unreachable, or offline mode is set.

    Args:
        request: sends the request.
        refused: maps an error of the request to the exception to raise; None for a failure of the
            network.

    Raises:
        Exception: the exception that `refused` returns.
    """
    if is_offline():
        return None
    try:
        # resolving the name of the Hub's host has no time limit of its own
        return within(REQUEST_TIMEOUT_SECONDS + 0.5, request)
    except Exception as error:  # failures of a network have no common base class
        known = refused(error)
        if known is not None:
            raise known from error
        return None


def is_offline() -> bool:
    """Whether one of the Hub's own environment variables sets offline mode."""
    from huggingface_hub.constants import ENV_VARS_TRUE_VALUES, is_offline_mode

    datasets_offline = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES
    return datasets_offline or bool(is_offline_mode())


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, run in a thread with a time limit; its exceptions are raised.

    Raises:
        TimeoutError: when the call takes longer; its thread is abandoned.
    """
    results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            result = call()
        except Exception as error:
            failure = error

            def fail() -> T:
                raise failure

            results.put(fail)
        else:
            results.put(lambda: result)

    threading.Thread(target=run, daemon=True).start()
    try:
        outcome = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no response within {seconds} s") from None
    return outcome()


def repository_cache(kind: str, repo_id: str) -> Path:
    """The folder of a repository in the cache; `kind` is ``models`` or ``datasets``."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"{kind}--{repo_id.replace('/', '--')}"


def cached_commit(folder: Path, revision: str) -> str | None:
    """The commit of a branch, tag or commit; None if it is not in the cache."""
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if (folder / "snapshots" / commit).is_dir() else None


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Offline mode of the Hub's libraries: what is not in the cache counts as missing."""
    from huggingface_hub import constants

    name, constant = "HF_DATASETS_OFFLINE", constants.HF_HUB_OFFLINE
    before = os.environ.get(name)
    os.environ[name], constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = constant
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
