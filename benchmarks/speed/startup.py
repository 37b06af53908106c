"""Start-up: CPU time until a finished run answers, and until the first record is written.

    python -m benchmarks.speed.startup

Each figure is the least of several processes, in seconds of CPU (user and system): on a busy
machine it varies less than the time on the clock. The first record is compared with a process that
only imports torch and the classes of diffusers and transformers that the run uses.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

LIMIT_FINISHED, LIMIT_FIRST = 2.0, 1.2
"""Seconds of CPU of a finished run; first record relative to the imports alone."""

IMPORTS = """
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
"""
FIRST_RECORD = """
import os, sys
from diffcls import evaluate
from diffcls.runs.records import RecordStore

append = RecordStore.append

def then_end(store, record):
    append(store, record)
    os._exit(0)

RecordStore.append = then_end
evaluate.main(sys.argv[1:])
"""
FLAGS = ["--limit", "5", "--draws", "6", "--threads", "1", "--quiet"]


def cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system time of a Python process, in seconds."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments[:3])} failed with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(repeats: int) -> dict[str, float]:
    """Least CPU seconds: ``finished``, ``first record`` and ``imports``."""
    with tempfile.TemporaryDirectory() as folder:
        run = ["-m", "diffcls.evaluate", *FLAGS, "--output-dir", f"{folder}/finished"]
        cpu_seconds(run)
        finished = min(cpu_seconds(run) for _ in range(repeats))
        first = min(
            cpu_seconds(["-c", FIRST_RECORD, *FLAGS, "--output-dir", f"{folder}/{i}"])
            for i in range(repeats)
        )
    imports = min(cpu_seconds(["-c", IMPORTS]) for _ in range(repeats))
    return {"finished": finished, "first record": first, "imports": imports}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the three figures; returns 1 if one exceeds its limit."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="processes per figure (3)")
    seconds = measure(p.parse_args(argv).repeats)
    for name, value in seconds.items():
        print(f"{name:14}{value:6.2f} s of CPU")
    ratio = seconds["first record"] / seconds["imports"]
    print(f"first record / imports: {ratio:.2f} (limit {LIMIT_FIRST})")
    return int(seconds["finished"] > LIMIT_FINISHED or ratio > LIMIT_FIRST)


if __name__ == "__main__":
    sys.exit(main())
