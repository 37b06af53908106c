"""Functions that tests run in other processes, which import this file by its name."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from diffcls.runs import leaderboard
from diffcls.support.cache import Arrays, fitted


def default_interrupt() -> None:
    """As `preexec_fn` of a process: Ctrl-C ends it, in background jobs of a shell too.

    A shell starts background jobs with SIGINT ignored, and processes inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Maker:
    """A function that makes arrays and counts its calls."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls, self.seconds = 0, seconds

    def __call__(self) -> Arrays:
        self.calls += 1
        time.sleep(self.seconds)
        return {"weights": np.arange(6.0).reshape(2, 3), "name": np.array("mid_block")}


def fit_in_a_process(folder: Path) -> bool:
    """Whether this process computed the entry."""
    maker = Maker(seconds=0.5)
    fitted(folder, "probe", {}, maker)
    return maker.calls == 1


def measured(fingerprint: str, **cells: Any) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "source": "measured",
        "dataset": "digits",
        "method": "diffusion",
        **cells,
    }


def write_rows(path: Path, worker: int, barrier: Any) -> None:
    barrier.wait()
    for i in range(8):
        leaderboard.upsert(path, [measured(f"{worker}-{i}")])
