"""Interrupted runs of the evaluate command, and their records."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

from diffcls.runs.records import Record


def lines(out: Path) -> list[str]:
    """All complete lines of all records."""
    complete = []
    for path in sorted(out.glob("runs/*/records-*.jsonl")):
        complete += [x for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]
    return complete


def answers(out: Path) -> dict[str, Record]:
    """Image id -> record, without the time; each image has one record."""
    records = [dataclasses.replace(Record.from_line(line), seconds=0.0) for line in lines(out)]
    by_id = {record.image_id: record for record in records}
    assert len(by_id) == len(records)
    return by_id


CUT_OFF = """
import os, signal, sys
from diffcls import evaluate
from diffcls.runs.records import RecordStore

append, count = RecordStore.append, 0

def then_end(store, record):
    global count
    append(store, record)
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), int(sys.argv[1]))

RecordStore.append = then_end
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
sys.exit(evaluate.main(sys.argv[3:]))
"""


def cut_off(
    out: Path, flags: list[str], signal_sent: signal.Signals, records: int = 3
) -> tuple[int, str]:
    """Start the command in a process of its own that is ended after so many records.

    It ends itself, so that the number of records does not depend on timing.
    """
    # -P: the diffcls of this process, not the one of the current folder
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            CUT_OFF,
            str(int(signal_sent)),
            str(records),
            *flags,
            "--output-dir",
            str(out),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
