"""Provenance of results (versions, commit, device, date) and the CPU settings that affect them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from diffcls.support.errors import UsageError
from diffcls.support.version import __version__

MAX_THREADS = min(1024, max(64, 4 * (os.cpu_count() or 1)))
"""CPU threads: more bring nothing, and OpenMP fails where the system has no room for them."""
PACKAGE = Path(__file__).resolve().parents[1]


def versions() -> str:
    """The versions of diffcls and of the model libraries, as one text."""
    names = ("torch", "diffusers", "transformers")
    return " ".join(
        [f"diffcls {__version__}", *(f"{name} {metadata.version(name)}" for name in names)]
    )


def commit() -> str:
    """The commit of the running source, with ``+`` if files differ from it; empty if unknown.

    Files in ``results/`` do not count: there a first run writes, and it does not change the source
    of the second. The commit is a property of the imported package alone: the working folder and
    Git's own environment variables do not count. An installed package has the commit that it was
    installed from with ``pip install git+https://...``; a wheel from elsewhere has none.
    """
    return _commit_of_tree(PACKAGE) or _commit_of_installation(PACKAGE)


def _commit_of_tree(package: Path) -> str:
    git = ["git", "-C", str(package)]
    # in a repository of another project, such as in its .venv, the package is not tracked
    tracked = "ls-files --error-unmatch __init__.py".split()
    describe = "describe --always --abbrev=12 --exclude=*".split()
    source = (":(top)", ":(top,exclude)results")
    changes = ["status", "--porcelain", "--untracked-files=no", "--", *source]
    # a Git hook, for one, sets GIT_DIR to the repository that it runs in
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    outputs = []
    try:
        for arguments in (tracked, describe, changes):
            done = subprocess.run(
                [*git, *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                env=environment,
            )
            outputs.append(done.stdout.strip())
    except (OSError, subprocess.SubprocessError):
        return ""
    _, revision, changed = outputs
    return f"{revision}+" if changed else revision


def _commit_of_installation(package: Path) -> str:
    """The commit in PEP 610's ``direct_url.json``, if pip wrote one for this very package."""
    try:
        distribution = metadata.distribution("diffcls")
        if Path(str(distribution.locate_file("diffcls"))).resolve() != package:
            return ""
        source = json.loads(distribution.read_text("direct_url.json") or "{}")
        return str(source.get("vcs_info", {}).get("commit_id", ""))[:12]
    except (metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return ""


def describe_device(device: str) -> str:
    """``cpu (x86_64, 2 threads)``, or the accelerator's own name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{device} ({platform.machine()}, {threads()} threads)"


def clock() -> str:
    """The current time in UTC, in ISO 8601 to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def threads() -> int:
    """The number of CPU threads that torch uses."""
    import torch

    return torch.get_num_threads()


def check_threads(count: int | None) -> None:
    """Refuse an impossible number of threads, without torch.

    Raises:
        UsageError: for fewer than one, or more than `MAX_THREADS`.
    """
    if count is not None and not 1 <= count <= MAX_THREADS:
        raise UsageError("--threads out of range", given=count, allowed=f"1 to {MAX_THREADS}")


def set_threads(count: int | None) -> None:
    """Set the number of CPU threads that torch uses; None leaves it unchanged.

    Raises:
        UsageError: see `check_threads`.
    """
    check_threads(count)
    if count is None:
        return
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormal floats to zero while the block runs; they slow CPUs down."""
    import torch

    # before the first product: torch's worker threads inherit the setting when they start
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
