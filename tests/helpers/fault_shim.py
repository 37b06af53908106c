"""Faults inside a process: file events of a folder that are counted, and one that goes wrong.

Events are every creation, write, `fsync`, rename, removal, change of size or mode, and lock below a
folder, in their order. Python's own audit events give most of them; writes and `fsync` have none,
so these two functions are replaced.
"""

from __future__ import annotations

import builtins
import dataclasses
import errno
import hashlib
import io
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

PATH_OF = {
    "os.rename": 1,  # the new name
    "os.mkdir": 0,
    "os.remove": 0,
    "os.truncate": 0,
    "os.chmod": 0,
}
"""Audit event -> index of the path among its arguments."""
TAKES_SPACE = frozenset({"create", "write", "os.mkdir", "os.rename"})
"""Events that a full disk refuses."""
CHANGES = TAKES_SPACE | {"os.remove", "os.truncate", "os.chmod"}
"""Events that a read-only file system refuses."""


@dataclasses.dataclass
class Plan:
    """What goes wrong in a process.

    Args:
        root: the folder whose events count.
        at: number of the event, from 1; 0: none.
        action: ``kill``; ``power``: as kill, and what was not synchronised is lost; or the name of
            an errno, which this event raises and all later ones that the fault concerns.
        events: file that receives one line per event; empty: none.
        started: file that receives a line for each image whose scoring starts.
        mirror: folder that receives what ``fsync`` has brought to disk, see `restored`.
        flock: name of the errno that every lock raises.
        clock: seconds by which the wall clock jumps at each reading, up and down in turn.
    """

    root: str
    at: int = 0
    action: str = "kill"
    events: str = ""
    started: str = ""
    mirror: str = ""
    flock: str = ""
    clock: float = 0.0


class Shim:
    """The events of a process, numbered from 1."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.count, self.busy = plan, 0, False
        self.root = os.path.realpath(plan.root)
        self.log = _appended(plan.events)

    def concerns(self, path: Any) -> bool:
        """Whether a path lies below the folder."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.path.abspath(os.fsdecode(path))
        return text == self.root or text.startswith(self.root + os.sep)

    def event(self, kind: str, path: Any) -> bool:
        """Count an event; whether it is that of the plan, to be done in part and then killed.

        Raises:
            OSError: of the plan.
        """
        if self.busy or not self.concerns(path):
            return False
        self.count += 1
        plan = self.plan
        if self.log is not None:
            os.write(self.log, f"{kind}\n".encode())
        if not plan.at or self.count < plan.at:
            return False
        if plan.action in ("kill", "power"):
            if kind == "write":
                return True
            self.die()
        number = getattr(errno, plan.action)
        refused = CHANGES if number == errno.EROFS else TAKES_SPACE
        if kind in refused or (self.count == plan.at and number == errno.EIO):
            raise OSError(number, os.strerror(number))
        return False

    def die(self) -> None:
        """End this process as the system does it: nothing of it runs any more."""
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()


def install(plan: Plan) -> Shim:
    """Count the events of this process from now on, and let the plan's happen."""
    shim = Shim(plan)
    sync, opened, write_from = os.fsync, io.open, io.FileIO.write

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & os.O_CREAT and not os.path.exists(path):
                shim.event("create", path)
        elif name == "fcntl.flock":
            if plan.flock and shim.concerns(arguments[0]):
                number = getattr(errno, plan.flock)
                raise OSError(number, os.strerror(number))
            shim.event(name, arguments[0])
        elif name in PATH_OF:
            path = arguments[PATH_OF[name]]
            if name != "os.mkdir" or not os.path.isdir(path):
                shim.event(name, path)

    def fsync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        shim.event("fsync", number)
        sync(number)
        if plan.mirror and shim.concerns(number):
            _keep(shim, number)

    class Written(io.FileIO):
        """A file whose writes are events."""

        def write(self, data: Any) -> int:
            if shim.event("write", self.fileno()):  # torn, as a kill in the middle leaves it
                write_from(self, bytes(data)[: len(data) // 2])
                shim.die()
            return write_from(self, data)

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or not shim.concerns(file):
            return opened(file, mode, buffering, *rest, **more)
        raw = Written(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **more)

    sys.addaudithook(audit)
    os.fsync = fsync
    builtins.open = io.open = open_file  # type: ignore[assignment]
    if plan.clock:
        _jump(plan.clock)
    if plan.started:
        _log_starts(_appended(plan.started))
    return shim


def _appended(path: str) -> int | None:
    """A file outside the folder: what is appended to it outlives the process."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else None


def _log_starts(log: int | None) -> None:
    from diffcls.classifiers.diffusion import DiffusionMethod

    assert log is not None
    start = DiffusionMethod._start

    def logged(method: Any, item: Any, *rest: Any) -> Any:
        os.write(log, f"{item.image_id}\n".encode())
        return start(method, item, *rest)

    DiffusionMethod._start = logged  # type: ignore[method-assign]


def _jump(seconds: float) -> None:
    import time

    real, readings = time.time, 0

    def jumping() -> float:
        nonlocal readings
        readings += 1
        return real() + (seconds if readings % 2 else -seconds)

    time.time = jumping


# ---- what a power loss leaves -------------------------------------------------------------------


def _keep(shim: Shim, handle: int) -> None:
    """Keep what ``fsync`` brought to disk: a file's content, or a folder's names."""
    shim.busy = True
    try:
        path = os.readlink(f"/proc/self/fd/{handle}")
        mirror = Path(shim.plan.mirror)
        state = os.fstat(handle)
        if stat.S_ISDIR(state.st_mode):
            _replace(mirror / _name(path), json.dumps(_entries(path)).encode())
        else:
            _replace(mirror / f"inode-{state.st_ino}", Path(f"/proc/self/fd/{handle}").read_bytes())
    finally:
        shim.busy = False


def _entries(folder: str) -> dict[str, int]:
    """Name -> inode; 0 for a folder."""
    with os.scandir(folder) as found:
        return {one.name: 0 if one.is_dir() else one.inode() for one in found}


def _name(folder: str) -> str:
    return "folder-" + hashlib.sha256(folder.encode()).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def restored(mirror: Path, root: Path, into: Path) -> None:
    """Write the folder as it is after a power loss: of the unsynchronised, nothing is left.

    Args:
        mirror: what a process kept of it.
        root: the folder.
        into: a new folder.
    """
    into.mkdir()
    listing = mirror / _name(str(root))
    if not listing.exists():
        return
    for name, inode in json.loads(listing.read_text()).items():
        if inode == 0:
            restored(mirror, root / name, into / name)
        else:
            content = mirror / f"inode-{inode}"
            (into / name).write_bytes(content.read_bytes() if content.exists() else b"")
