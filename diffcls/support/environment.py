"""On what, with what and when numbers are made; and the CPU's settings that touch them."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from diffcls.support.errors import UsageError
from diffcls.support.version import __version__


def versions() -> str:
    """The versions that the numbers were made with."""
    names = ("torch", "diffusers", "transformers")
    return " ".join(
        [f"diffcls {__version__}", *(f"{name} {metadata.version(name)}" for name in names)]
    )


def commit() -> str:
    """The commit of the source that runs, with ``+`` where files differ from it; else empty."""
    git = ["git", "-C", str(Path(__file__).parent)]
    # installed below somebody else's repository, say in its .venv, the source has no commit there
    ours = "ls-files --error-unmatch __init__.py".split()
    describe = "describe --always --dirty=+ --abbrev=12 --exclude=*".split()
    said = ""
    try:
        for question in (ours, describe):
            answer = subprocess.run(
                [*git, *question], capture_output=True, text=True, timeout=10, check=True
            )
            said = answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return said


def describe_device(device: str) -> str:
    """``cpu (x86_64, 2 threads)``, or the accelerator's own name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device} ({platform.machine()}, {threads()} threads)"


def clock() -> str:
    """Now, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def threads() -> int:
    """CPU threads that torch uses."""
    import torch

    return torch.get_num_threads()


def set_threads(count: int | None) -> None:
    """Make torch use `count` CPU threads; None leaves them as they are.

    Raises:
        UsageError: for fewer than one.
    """
    if count is None:
        return
    if count < 1:
        raise UsageError("threads out of range", given=count, allowed="1 or more")
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers too small to matter become zero: they slow a CPU down."""
    import torch

    # before the first product, so that torch's own threads are made with it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
