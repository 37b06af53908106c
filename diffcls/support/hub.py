"""One question to the Hugging Face Hub, with a limit on the wait; and where its cache lies.

The Hub's own libraries ask again and again for half a minute where there is no network.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SECONDS = 3.0
"""That the Hub may take to answer."""


def ask_hub(ask: Callable[[], T], refused: Callable[[Exception], Exception | None]) -> T | None:
    """The Hub's answer; None where it cannot be reached, or nobody may ask.

    Args:
        ask: the question.
        refused: what to raise of its errors; None for trouble with the network.

    Raises:
        Exception: what `refused` returns.
    """
    if told_to_stay_offline():
        return None
    try:
        # the name of the Hub's host may take as long to resolve as it likes
        return within(SECONDS + 0.5, ask)
    except Exception as error:  # of the network there are more kinds than can be named
        known = refused(error)
        if known is not None:
            raise known from error
        return None


def told_to_stay_offline() -> bool:
    """Whether the environment says so, in one of the Hub's own variables."""
    from huggingface_hub.constants import ENV_VARS_TRUE_VALUES, is_offline_mode

    told = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES
    return told or bool(is_offline_mode())


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises.

    Raises:
        TimeoutError: where that takes longer; the call is left to itself.
    """
    answers: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer = call()
        except Exception as error:
            failure = error

            def give() -> T:
                raise failure

            answers.put(give)
        else:
            answers.put(lambda: answer)

    threading.Thread(target=run, daemon=True).start()
    try:
        give = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} s") from None
    return give()


def repository_cache(kind: str, repo_id: str) -> Path:
    """The folder of a repository in the cache; `kind` is ``models`` or ``datasets``."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"{kind}--{repo_id.replace('/', '--')}"


def cached_commit(folder: Path, revision: str) -> str | None:
    """The commit that a branch, tag or commit stands for, None where it is not in the cache."""
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if (folder / "snapshots" / commit).is_dir() else None
