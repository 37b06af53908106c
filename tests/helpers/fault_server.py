"""``python -m helpers.fault_server``: runs of a command in forked processes that may be killed.

Importing torch and loading a model take seconds, and a fault suite starts hundreds of runs. This
process does both once, in a run of its own, and then forks: each run is a process of its own, which
SIGKILL ends as any other. Requests and replies are JSON lines; see `helpers.fault_runs`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from typing import Any, TextIO

from helpers.fault_shim import Plan, install

from diffcls import evaluate
from diffcls.evaluation import run
from diffcls.models.kept import models_kept


def main() -> None:
    """Serve requests until the end of the input."""
    replies = os.fdopen(os.dup(1), "w")
    run.models_kept = contextlib.nullcontext  # each run would load its model
    with models_kept():
        _warm_up()
        for line in sys.stdin:
            _serve(json.loads(line), replies)


def _warm_up() -> None:
    """Import what a run imports, and load its model."""
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        flags = ["--threads", "1", "--quiet", "--limit", "1", "--draws", "2", "--output-dir", out]
        evaluate.main(flags)
    assert threading.active_count() == 1, "a fork keeps the thread that calls it only"


def _serve(request: dict[str, Any], replies: TextIO) -> None:
    pid = os.fork()
    if pid == 0:
        _child(request)
    json.dump(_outcome(pid, request["kill_after"]), replies)
    replies.write("\n")
    replies.flush()


def _child(request: dict[str, Any]) -> None:
    status = 1
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        install(Plan(**request["plan"]))
        from diffcls.__main__ import main as command

        sys.argv = ["diffcls", *request["argv"]]
        status = int(command() or 0)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _outcome(pid: int, kill_after: float | None) -> dict[str, Any]:
    began = time.monotonic()
    killed = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if done:
            return {"status": os.waitstatus_to_exitcode(status), "seconds": seconds}
        if kill_after is not None and not killed and seconds >= kill_after:
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.001)


if __name__ == "__main__":
    main()
