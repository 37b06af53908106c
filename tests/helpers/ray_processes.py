"""Processes of Ray that belong to a process: its workers, and when to kill them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

TESTS = Path(__file__).parents[1]


@contextlib.contextmanager
def node_cluster(cpus: int = 0) -> Iterator[Any]:
    """A Ray cluster of one node, to which others are added; it ends with the block.

    Args:
        cpus: of the first node.
    """
    from ray.cluster_utils import Cluster

    # where Ray's test cluster notes its address
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108
    folder = tempfile.mkdtemp(prefix="rc", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # its nodes start the workers, which have to find this folder's modules
        paths = [str(TESTS), os.environ.get("PYTHONPATH")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        arguments = {"num_cpus": cpus, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=arguments)
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def worker_pids(parent: int | None = None) -> list[int]:
    """Process ids of the actors below a process, this one if None."""
    pids = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::Host"):
                pids.append(process.pid)
    return pids


def lines_of(folder: Path) -> int:
    """Number of records below an output folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("runs/*/records-*.jsonl"))


def kill_a_worker() -> None:
    """SIGKILL one of this process' workers."""
    os.kill(worker_pids()[0], signal.SIGKILL)


@contextlib.contextmanager
def done_at(folder: Path, steps: Sequence[tuple[int, Callable[[], object]]]) -> Iterator[list[int]]:
    """Call each function once an output folder holds that many records.

    Yields:
        The number of records at each call.
    """
    is_over, called = threading.Event(), []

    def watch() -> None:
        for count, act in steps:
            while lines_of(folder) < count:
                if is_over.wait(0.02):
                    return
            called.append(lines_of(folder))
            act()
            time.sleep(0.2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield called
    finally:
        is_over.set()
        thread.join()
