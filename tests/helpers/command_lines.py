"""Command lines that must be refused, run in forks of one process that has imported everything.

A fork costs milliseconds, an import seconds. `run_lines` starts that process: one without other
threads, which a fork would lose.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from diffcls.__main__ import COMMANDS
from diffcls.classifiers import METHODS
from diffcls.training.kinds import TRAININGS

SECONDS_ALLOWED = 10.0
"""Time after which a refusal is too slow."""
MAX_ERROR_LINES = 3
REFUSED = 2


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        status: exit status; negative: the signal that ended it; None: it was stopped for its time.
        out, err: its output.
        left: paths below its output folder and its working folder.
        changed: whether its inputs were changed.
        is_early: whether no model library was imported.
        seconds: its time.
    """

    status: int | None
    out: str
    err: str
    left: tuple[str, ...]
    changed: bool
    is_early: bool
    seconds: float

    def faults(self) -> list[str]:
        """What is wrong with it as a refusal; nothing for a right one."""
        lines = self.err.split("\n")[:-1]
        checks = {
            f"exit status {self.status}": self.status not in (1, REFUSED),
            "failed without a message": not self.err.strip(),
            "traceback": "Traceback" in self.err,
            f"{len(lines)} lines on stderr": len(lines) > MAX_ERROR_LINES,
            f"left behind: {self.left[:3]}": bool(self.left),
            "inputs changed": self.changed,
            f"{self.seconds:.1f} s": self.seconds > SECONDS_ALLOWED,
        }
        return [fault for fault, is_found in checks.items() if is_found]


@dataclass(frozen=True)
class Line:
    """A command and its arguments, with ``{IN}`` and ``{OUT}`` for folders."""

    command: str
    arguments: tuple[str, ...]


def run_lines(
    lines: Iterable[Line], folder: Path, inputs: Path, early: bool = False
) -> list[tuple[Line, Ended]]:
    """Run command lines one after another in forks of a fresh process.

    Args:
        lines: the lines.
        folder: an empty folder for outputs.
        inputs: folder that ``{IN}`` stands for.
        early: whether all should be refused before model libraries are imported, so that the fresh
            process does not import them either.
    """
    lines = list(lines)
    text = json.dumps([asdict(line) for line in lines])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "helpers.command_lines", str(folder), str(inputs), str(early)],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = [Ended(**one) for one in json.loads(done.stdout)]
    return list(zip(lines, ended, strict=True))


def faults_of(results: Iterable[tuple[Line, Ended]]) -> list[str]:
    """One text for each line that was not refused as it should be."""
    return [
        f"{line.command} {' '.join(line.arguments)[-160:]!r}: {ended.faults()} {ended.err[-200:]!r}"
        for line, ended in results
        if ended.faults()
    ]


def import_commands() -> None:
    """Import all commands, and what they import before they refuse anything."""
    later = ("diffcls.evaluation.run", "diffcls.evaluation.replay", "diffcls.training.options")
    for place in (*COMMANDS.values(), *METHODS.values(), *later):
        importlib.import_module(place.partition(":")[0])


def import_models() -> None:
    """Import the model libraries, too, so that forks need not.

    One model of each kind is loaded, on one thread: a fork has no other threads, and would wait
    for those of a pool for ever.
    """
    import torch

    from diffcls.models import clip, feature_extractors, loading

    torch.set_num_threads(1)
    for name in ("generation.sample", "classifiers.diffusion"):
        importlib.import_module(f"diffcls.{name}")
    for kind in TRAININGS.values():
        importlib.import_module(kind.partition(":")[0])
    for name in ("digits", "digits-pixels"):
        loading.load(name)
    clip.load("clip-digits")
    feature_extractors.load("clip-digits", (), (), "cpu")


class Runner:
    """Runs command lines, each in a fork with empty output and working folders.

    Args:
        folder: an empty folder for them.
        inputs: folder that ``{IN}`` stands for; ``{OUT}`` stands for the output folder.
        early: see `run_lines`.
    """

    def __init__(self, folder: Path, inputs: Path, early: bool) -> None:
        self.folder, self.inputs = folder, inputs
        self.known = tuple(_listing(inputs))
        import_commands()
        if not early:
            import_models()

    def run(self, command: str, arguments: Sequence[str]) -> Ended:
        """Run ``diffcls COMMAND …`` in a fork, standard input closed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        output, work = self.folder / "output", self.folder / "work"
        output.mkdir(parents=True)
        work.mkdir()
        words = [word.replace("{IN}", str(self.inputs)) for word in arguments]
        words = [word.replace("{OUT}", str(output)) for word in words]
        start = time.monotonic()
        process = os.fork()
        if process == 0:
            _child(command, words, work, self.folder)
        status = _waited(process, start)
        seconds = time.monotonic() - start
        left = tuple(_names(output)) + tuple(_names(work))
        changed = tuple(_listing(self.inputs)) != self.known
        out, err = (
            (self.folder / name).read_text(encoding="utf-8", errors="replace")
            for name in ("stdout", "stderr")
        )
        is_early = not (self.folder / "imported").exists()
        return Ended(status, out, err, left, changed, is_early, seconds)


def _child(command: str, words: Sequence[str], work: Path, folder: Path) -> None:
    """The forked process: it never returns."""
    status = 70
    try:
        os.chdir(work)
        for descriptor, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
            flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT
            opened = os.open(name, flags, 0o600)
            os.dup2(opened, descriptor)
        sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), "utf-8")  # noqa: SIM115
        sys.stderr = io.TextIOWrapper(
            open(2, "wb", buffering=0, closefd=False),  # noqa: SIM115
            "utf-8",
            "backslashreplace",
            write_through=True,
        )
        status = COMMANDS.load(command)(words)
        sys.stdout.flush()
    except SystemExit as stop:  # --help
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 71
    finally:
        if "torch" in sys.modules:
            (folder / "imported").touch()
        os._exit(status)


def _waited(process: int, start: float) -> int | None:
    """Exit status of a process; it is killed when it takes too long."""
    while time.monotonic() - start < SECONDS_ALLOWED:
        ended, state = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(state)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _names(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))


def _listing(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        yield str(path), status.st_size, status.st_mtime_ns


def main() -> None:
    """Read lines as JSON from standard input, run them, and print how they ended."""
    lines = json.load(sys.stdin)
    printed, sys.stdout = sys.stdout, sys.stderr
    runner = Runner(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True")
    ended = [runner.run(line["command"], line["arguments"]) for line in lines]
    json.dump([asdict(one) for one in ended], printed)


if __name__ == "__main__":
    main()
